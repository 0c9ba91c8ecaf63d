"""objectives.ladder with attacks on its inputs: what is perturbed, along which gradient."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from adv_jax import attacks, objectives
from adv_jax.types import Output

KEY = jax.random.key(0)
WEIGHTS = (0.5, 2.0)
RNG = np.random.default_rng(0)
BATCH = {"x": RNG.normal(size=(4, 3)), "y": RNG.integers(0, 3, size=4)}
BATCH["unlabelled"] = RNG.normal(size=(4, 3))
W, NOISE = RNG.normal(size=(3, 3)), 0.3 * RNG.normal(size=(4, 3))


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


class Stub:
    """A net of one linear layer with the ladder's two passes, which records how it is called.

    Its corrupted pass adds a fixed noise and centres each unit over the batch, so that a row's
    gradient depends on the others, as behind a batch norm.
    """

    def __init__(self):
        self.calls = []

    def __call__(self, variables, *inputs, train=False, key=None, method=None):
        self.calls.append((method, train, key, inputs))
        w = variables["params"]
        if method == "corrupted":
            (x,) = inputs
            a = (x + NOISE) @ w
            return Output(a - a.mean(axis=0), {}, {})
        labelled, unlabelled, target = inputs
        z = {0: target, 1: target @ w}
        z_hat = {0: 0.5 * unlabelled, 1: unlabelled @ w * 0.25}
        return Output(labelled @ w, {"z": z, "z_hat": z_hat}, {"batch_stats": 7.0})

    def inputs_of(self, method):
        return [inputs for name, _, _, inputs in self.calls if name == method]


def numpy_loss(w, labelled, unlabelled, target=BATCH["unlabelled"]):
    supervised = oracles.cross_entropies(labelled @ w, BATCH["y"]).mean()
    c0 = ((0.5 * unlabelled - target) ** 2).mean()
    c1 = ((0.25 * unlabelled @ w - target @ w) ** 2).mean()
    return supervised + WEIGHTS[0] * c0 + WEIGHTS[1] * c1


def numpy_gradient(x, labels):
    """By x, of the cross-entropies of the stub's corrupted pass, summed over the rows."""

    def loss(x):
        a = (x + NOISE) @ W
        return oracles.cross_entropies(a - a.mean(axis=0), labels).sum()

    return oracles.numerical_gradient(loss, x)


def virtual_labels(x):
    a = (x + NOISE) @ W
    return (a - a.mean(axis=0)).argmax(axis=1)


def run(stub, w=W, **kwargs):
    batch = jax.tree.map(jnp.asarray, BATCH)
    variables = {"params": jnp.asarray(w)}
    return objectives.ladder(stub, variables, batch, key=KEY, weights=WEIGHTS, **kwargs)


def test_without_an_attack_one_pass_gets_the_inputs_as_they_are():
    stub = Stub()
    loss, (state, metrics) = run(stub)
    ((method, train, _, inputs),) = stub.calls
    assert method == "autoencode" and train is True
    for found, name in zip(inputs, ("x", "unlabelled", "unlabelled"), strict=True):
        np.testing.assert_array_equal(found, BATCH[name])
    expected = numpy_loss(W, BATCH["x"], BATCH["unlabelled"])
    assert float(loss) == pytest.approx(expected, rel=1e-12)
    assert float(metrics["supervised"] + metrics["denoising"]) == pytest.approx(expected)
    assert metrics.keys() == {"accuracy", "supervised", "denoising"}
    assert state == {"batch_stats": 7.0}


def test_an_attack_moves_the_labelled_half_along_the_sign_and_nothing_else():
    stub, tau = Stub(), 0.05
    loss, _ = run(stub, attack=partial(attacks.fgsm, eps=tau))
    moved = BATCH["x"] + tau * np.sign(numpy_gradient(BATCH["x"], BATCH["y"]))
    ((labelled, unlabelled, target),) = stub.inputs_of("autoencode")
    np.testing.assert_allclose(labelled, moved, rtol=1e-12)
    np.testing.assert_array_equal(unlabelled, BATCH["unlabelled"])
    np.testing.assert_array_equal(target, BATCH["unlabelled"])
    assert float(loss) == pytest.approx(numpy_loss(W, moved, BATCH["unlabelled"]), rel=1e-12)


def test_an_unlabelled_attack_climbs_the_loss_of_the_models_own_labels_and_spares_the_target():
    stub, tau = Stub(), 0.05
    loss, _ = run(stub, unlabelled_attack=partial(attacks.raw_gradient, tau=tau))
    u = BATCH["unlabelled"]
    moved = u + tau * numpy_gradient(u, virtual_labels(u))
    ((labelled, unlabelled, target),) = stub.inputs_of("autoencode")
    np.testing.assert_array_equal(labelled, BATCH["x"])
    np.testing.assert_allclose(unlabelled, moved, rtol=1e-7)
    np.testing.assert_array_equal(target, u)
    assert float(loss) == pytest.approx(numpy_loss(W, BATCH["x"], moved), rel=1e-7)


def test_both_attacks_work_on_their_own_half():
    # Sign noise on the labelled and 28N, here sqrt(3)N, on the unlabelled half: sec. 6.2.1.
    stub = Stub()
    run(
        stub,
        attack=partial(attacks.fgsm, eps=0.1),
        unlabelled_attack=partial(attacks.fgsm, eps=0.02, norm="rms"),
    )
    x, u = BATCH["x"], BATCH["unlabelled"]
    gradient = numpy_gradient(u, virtual_labels(u))
    direction = np.sqrt(3) * gradient / np.linalg.norm(gradient, axis=1, keepdims=True)
    ((labelled, unlabelled, target),) = stub.inputs_of("autoencode")
    np.testing.assert_allclose(labelled, x + 0.1 * np.sign(numpy_gradient(x, BATCH["y"])))
    np.testing.assert_allclose(unlabelled, u + 0.02 * direction, rtol=1e-7)
    np.testing.assert_array_equal(target, u)


def test_every_pass_and_every_attack_has_a_key_of_its_own():
    stub, keys = Stub(), []

    def attack(logits_fn, x, y, *, key):
        keys.append(key)
        logits_fn(x)
        return x

    run(stub, attack=attack, unlabelled_attack=attack)
    assert [method for method, *_ in stub.calls] == ["corrupted", "corrupted", "autoencode"]
    assert all(train for _, train, *_ in stub.calls)
    keys += [key for _, _, key, _ in stub.calls]
    assert len({jax.random.key_data(key).tobytes() for key in keys}) == len(keys) == 5


def test_an_attack_keeps_its_noise_through_its_own_iterations():
    stub = Stub()

    def attack(logits_fn, x, y, *, key):
        logits_fn(x)
        logits_fn(x + 1)
        return x

    run(stub, attack=attack)
    first, second = (key for method, _, key, _ in stub.calls if method == "corrupted")
    np.testing.assert_array_equal(jax.random.key_data(first), jax.random.key_data(second))


def test_attacks_of_size_zero_give_the_loss_of_no_attack_bit_for_bit():
    # The keys of the training pass do not depend on the attacks, nor does a zero step move x.
    def loss_and_gradient(**kwargs):
        return jax.value_and_grad(lambda w: run(Stub(), w, **kwargs)[0])(jnp.asarray(W))

    none = loss_and_gradient()
    zero = partial(attacks.fgsm, eps=0.0)
    for kwargs in ({"attack": zero}, {"unlabelled_attack": zero}):
        jax.tree.map(np.testing.assert_array_equal, loss_and_gradient(**kwargs), none)
    stubs = Stub(), Stub()
    run(stubs[0])
    run(stubs[1], attack=zero, unlabelled_attack=zero)
    keys = [jax.random.key_data(stub.calls[-1][2]) for stub in stubs]
    np.testing.assert_array_equal(*keys)


def test_the_perturbations_are_constants_of_the_update():
    kwargs = {
        "attack": partial(attacks.raw_gradient, tau=0.3),
        "unlabelled_attack": partial(attacks.raw_gradient, tau=0.3),
    }
    gradient = jax.grad(lambda w: run(Stub(), w, **kwargs)[0])(jnp.asarray(W))
    x, u = BATCH["x"], BATCH["unlabelled"]
    x_adv = x + 0.3 * numpy_gradient(x, BATCH["y"])
    u_adv = u + 0.3 * numpy_gradient(u, virtual_labels(u))
    expected = oracles.numerical_gradient(lambda w: numpy_loss(w, x_adv, u_adv), W)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-7)


def test_tau_may_be_traced():
    tau = jnp.array([0.0, 0.05])
    losses = jax.jit(jax.vmap(lambda tau: run(Stub(), attack=partial(attacks.fgsm, eps=tau))[0]))(
        tau
    )
    x, u = BATCH["x"], BATCH["unlabelled"]
    signs = np.sign(numpy_gradient(x, BATCH["y"]))
    expected = [numpy_loss(W, x, u), numpy_loss(W, x + 0.05 * signs, u)]
    np.testing.assert_allclose(losses, expected, rtol=1e-9)


@pytest.mark.parametrize("weights", [(1.0,), (1.0, 1.0, 1.0), ()])
def test_weights_for_another_number_of_layers_are_refused_by_name(weights):
    batch = jax.tree.map(jnp.asarray, BATCH)
    words = f"objective.weights has {len(weights)} entries; allowed are 2"
    with pytest.raises(ValueError, match=words):
        objectives.ladder(Stub(), {"params": jnp.asarray(W)}, batch, key=KEY, weights=weights)


def test_without_any_weight_the_loss_is_the_supervised_cost():
    batch = jax.tree.map(jnp.asarray, BATCH)
    loss, (_, metrics) = objectives.ladder(
        Stub(), {"params": jnp.asarray(W)}, batch, key=KEY, weights=(0.0, 0.0)
    )
    expected = oracles.cross_entropies(BATCH["x"] @ W, BATCH["y"]).mean()
    assert float(loss) == pytest.approx(expected, rel=1e-12)
    assert float(metrics["denoising"]) == 0
