"""Modules of PyTorch under attack, beside the same weights in JAX."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recipes import recipe

from adv_jax import attacks, bridges, data, evaluate
from adv_jax.types import UserError

torch = pytest.importorskip("torch", reason="needs the extra torch")

DIGITS = data.load("mnist", source="embedded").test
X = np.moveaxis(DIGITS.x[:8], -1, 1)
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(1, 4, 5, stride=2), torch.nn.ReLU(inplace=True), torch.nn.Flatten()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(576, 10)).eval()


def twin(net):
    """The same net in JAX."""
    kernel, bias, last, last_bias = (jnp.asarray(p.detach().numpy()) for p in net.parameters())

    def fn(x):
        hidden = jax.lax.conv_general_dilated(x, kernel, (2, 2), "VALID")
        hidden = jax.nn.relu(hidden + bias.reshape(1, -1, 1, 1))
        return hidden.reshape(len(x), -1) @ last.T + last_bias[None]

    return fn


def close(found, expected, atol=1e-6):
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=atol)


def test_logits_and_gradients_are_those_of_the_same_net_in_jax(net):
    fn, in_jax = bridges.from_torch(net), twin(net)
    close(fn(X), in_jax(X))
    pulled = lambda fn: jax.vjp(fn, X)[1](jnp.linspace(-1, 1, 80).reshape(8, 10))[0]
    close(pulled(fn), pulled(in_jax), atol=1e-5)


@pytest.mark.slow
def test_vmap_over_inputs_gradients_and_both_is_that_of_the_same_net_in_jax(net):
    def jacobian(fn, scale):
        pullback = jax.vjp(fn, X * scale)[1]
        return jax.vmap(lambda g: pullback(jnp.broadcast_to(g, (8, 10)))[0])(jnp.eye(10))

    fn, in_jax, scales = bridges.from_torch(net), twin(net), jnp.arange(3.0)
    close(jacobian(fn, 0.5), jacobian(in_jax, 0.5))
    of_all = lambda fn: jax.vmap(partial(jacobian, fn))(scales)
    close(of_all(fn), of_all(in_jax))
    over_x = lambda fn: jax.vmap(jax.grad(lambda x: (fn(x) ** 2).sum()))(X[:, None])
    close(over_x(fn), over_x(in_jax))


def test_gradients_are_of_the_weights_of_now():
    weight = torch.nn.Linear(784, 10).eval()
    fn = bridges.from_torch(torch.nn.Sequential(torch.nn.Flatten(), weight).eval())
    _, pullback = jax.vjp(fn, X)  # Keeps the graph of the old weights.
    with torch.no_grad():
        weight.weight.fill_(2.0)
    close(pullback(jnp.ones((8, 10)))[0], np.full_like(X, 20.0))


def test_tensors_as_inputs_are_refused_with_the_remedy(net):
    with pytest.raises(UserError, match=r"got torch.float32\[8, 1, 28, 28\]: pass x.detach"):
        attacks.fgsm(bridges.from_torch(net), torch.zeros(8, 1, 28, 28), None, eps=0.1)


@pytest.mark.parametrize("first", [True, False], ids=["first call", "later call"])
def test_attacks_work_in_the_inference_mode_of_torch(net, first):
    fn, labels = bridges.from_torch(net), jnp.arange(8)
    crafted = lambda: attacks.fgsm(fn, X, labels, eps=0.1)
    expected = attacks.fgsm(twin(net), X, labels, eps=0.1)
    if not first:
        crafted()
    with torch.inference_mode():
        close(fn(X), twin(net)(X))
        close(crafted(), expected)


def test_a_module_made_in_inference_mode_has_no_gradient():
    with torch.inference_mode():
        module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10)).eval()
    with pytest.raises(UserError, match="^Sequential must be made outside torch.inference_mode"):
        attacks.fgsm(bridges.from_torch(module), X, None, eps=0.1)


class FailingOnLight(torch.nn.Module):
    def forward(self, x):
        if x.abs().sum() > 0:
            raise RuntimeError("boom")
        return x.flatten(1)[:, :3]


def test_an_error_of_a_module_on_real_inputs_is_told_in_one_line():
    fn = bridges.from_torch(FailingOnLight().eval())
    for call in (lambda: fn(X), lambda: attacks.fgsm(fn, X, None, eps=0.1)):
        with pytest.raises(UserError) as error:
            call()
        assert str(error.value).startswith("FailingOnLight must take x float32[8, 1, 28, 28], got ")
        assert str(error.value).endswith("RuntimeError: boom")


def test_a_black_box_that_returns_a_graph_is_refused():
    linear = torch.nn.Linear(784, 10)
    predict = lambda x: linear(torch.tensor(x).flatten(1))
    with pytest.raises(UserError, match="^predict must return numbers, got a tensor with a grad"):
        bridges.black_box(predict)(X)


def test_a_head_of_other_classes_is_refused_in_one_line():
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10)).eval()
    fn = bridges.from_torch(module)
    fn(X)
    module[1] = torch.nn.Linear(784, 7).eval()
    message = "Sequential must return logits of 10 classes, as in its first call, got 7: call from_"
    with pytest.raises(UserError, match=f"^{message}"):
        fn(X)
    with pytest.raises(UserError, match=f"^{message}"):
        attacks.fgsm(fn, X, None, eps=0.1)
    assert bridges.from_torch(module)(X).shape == (8, 7)


MANY = {
    **{name: {"eps": 0.1, "num_steps": 4} for name in ("pgd", "apgd", "virtual_adversarial")},
    **{name: {"num_steps": 4} for name in ("carlini_wagner", "deepfool", "ddn", "hop_skip_jump")},
    "auto_attack": {"eps": 0.1, "num_steps": 4, "num_queries": 4},
    "class_jacobian": {},
    "fab": {"eps": 0.1, "num_steps": 4},
    "fgsm": {"eps": 0.1},
    "jsma": {"gamma": 0.01},
    "lbfgs": {"num_steps": 4},
    "square": {"eps": 0.1, "num_queries": 10},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MANY)
def test_attacks_find_what_they_find_in_jax(net, name):
    attack = getattr(attacks, name)
    if name == "class_jacobian":
        run = lambda fn: attack(fn, X)[1]
    else:
        y = jnp.argmax(twin(net)(X), axis=1)
        run = lambda fn: attack(fn, X, y, **MANY[name], bounds=(0, 1), key=KEY)
    # Rounding flips decisions at the boundary, which hop_skip_jump counts.
    atol = 0.02 if name == "hop_skip_jump" else 1e-5
    close(run(bridges.from_torch(net)), run(twin(net)), atol=atol)


@pytest.mark.slow
def test_evaluations_are_those_of_the_same_net_in_jax(net):
    suite = {"pgd": partial(attacks.pgd, num_steps=5), "fgsm": attacks.fgsm}
    given = {"eps": [0.0, 0.02, 0.1], "bounds": (0, 1), "batch_size": 25}
    x = np.moveaxis(DIGITS.x[:300], -1, 1)
    y = jnp.argmax(twin(net)(x), axis=1)
    found, expected = (
        evaluate.evaluate(fn, x, y, suite, **given, key=KEY)
        for fn in (bridges.from_torch(net), twin(net))
    )
    for name in suite:
        np.testing.assert_array_equal(found.correct[name], expected.correct[name])
    assert found.worst_case[0] == 1 and found.worst_case[-1] < 0.5


@pytest.mark.slow
def test_smoothed_certificates_are_those_of_the_same_net_in_jax(net):
    options = {"std": 0.1, "num_selection": 10, "num_estimation": 100, "key": KEY}
    found, expected = (
        evaluate.certify_smoothed(fn, X, **options) for fn in (bridges.from_torch(net), twin(net))
    )
    np.testing.assert_array_equal(found.label, expected.label)
    np.testing.assert_array_equal(found.radius, expected.radius)


class Returning(torch.nn.Module):
    """A module whose output is that of a function."""

    def __init__(self, fn):
        super().__init__()
        self.fn = fn

    def forward(self, x):
        return self.fn(x)


class Output:
    logits = None


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (
            torch.nn.Linear(3, 2),
            "module must be in evaluation mode, got Linear in training mode: call module.eval()",
        ),
        (
            torch.nn.Linear(3, 2).eval(),
            "Linear must take x float32[8, 1, 28, 28], got RuntimeError: mat1 and mat2 shapes cann",
        ),
        (Returning(lambda x: (x, x)).eval(), "Returning must return logits, got tuple"),
        (
            Returning(lambda x: Output()).eval(),
            "got Output: wrap it in a module that returns .logi",
        ),
        (
            Returning(lambda x: x.flatten(1)[:1]).eval(),
            "Returning must return logits f[B, K] of x float32[8, 1, 28, 28], got float32[1, 784]",
        ),
        (
            Returning(lambda x: x.flatten(1) * 1j).eval(),
            "logits f[B, K] of x float32[8, 1, 28, 28], got complex64[8, 784]",
        ),
        (
            Returning(lambda x: x.detach().flatten(1)).eval(),
            "Returning must return logits with a gradient by x, got logits without one",
        ),
        (
            Returning(lambda x: x.sub_(0.5).flatten(1)).eval(),
            "Returning must leave x as it is, got ",
        ),
    ],
)
def test_a_module_that_does_not_fit_is_refused_in_one_line(module, message):
    with pytest.raises(UserError) as error:
        attacks.fgsm(bridges.from_torch(module), X, None, eps=0.1)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_logits_of_integers_are_those_of_torch():
    module = torch.nn.Sequential(torch.nn.Embedding(5, 3), torch.nn.Flatten()).eval()
    tokens = np.array([[0, 4], [2, 2]], np.int32)
    found = bridges.from_torch(module)(tokens)
    assert found.dtype == jnp.float32
    close(found, module(torch.from_numpy(tokens)).detach().numpy())


def test_a_part_in_training_mode_is_named():
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout()).eval()
    module[1].train()
    with pytest.raises(UserError, match=r"got 1 \(Dropout\) in training mode"):
        bridges.from_torch(module)(X)


def test_what_is_no_module_is_refused():
    with pytest.raises(UserError, match=r"module must be a torch.nn.Module, got a function"):
        bridges.from_torch(lambda x: x)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("title", "package"),
    [("A model in PyTorch", "torch"), ("An image model of Hugging Face", "transformers")],
)
def test_the_recipe_runs(title, package):
    pytest.importorskip(package, reason=f"the recipe needs {package}")
    torch.manual_seed(0)
    exec(recipe(title), {})
