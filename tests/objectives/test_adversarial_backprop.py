"""objectives.adversarial_backprop: the five steps of the paper's algorithm, by hand in NumPy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracles
import pytest
from linear_net import linear

from adv_jax import attacks, models, objectives
from adv_jax.step import init_state, make_step
from adv_jax.types import Output

KEY = jax.random.key(0)
EPS, RATE = 0.08, 0.5
LOGISTIC = partial(attacks.fgsm, loss="binary_cross_entropy")

# The function of a unit, and its derivative as a function of its output.
UNITS = {
    "sigmoid": (oracles.sigmoid, lambda h: h * (1 - h)),
    "tanh": (np.tanh, lambda h: 1 - h**2),
    "relu": (lambda a: np.maximum(a, 0), lambda h: h > 0),
}


def problem(seed=0):
    """Weights of a 6-5-4-3 net, biases included, and seven rows with labels."""
    rng = np.random.default_rng(seed)
    sizes = {"hidden1": (6, 5), "hidden2": (5, 4), "logits": (4, 3)}
    params = {
        name: {"kernel": rng.normal(size=shape), "bias": rng.normal(size=shape[1])}
        for name, shape in sizes.items()
    }
    return params, rng.uniform(size=(7, 6)), rng.integers(0, 3, size=7)


def propagate(params, x, unit):
    """Returns the activations of all layers, from the input to the logistic outputs."""
    h = [x]
    for name in ("hidden1", "hidden2", "logits"):
        a = h[-1] @ params[name]["kernel"] + params[name]["bias"]
        h.append(oracles.sigmoid(a) if name == "logits" else unit(a))
    return h


def back_propagate(params, h, y, derivative):
    """Returns the gradients of the mean error by the weights, and of each row's error by x."""
    delta, gradients = h[-1] - np.eye(3)[y], {}  # Of logistic outputs and cross-entropy: y - t.
    for below, name in zip(h[-2::-1], ("logits", "hidden2", "hidden1"), strict=True):
        gradients[name] = {"kernel": below.T @ delta / len(y), "bias": delta.mean(axis=0)}
        error = delta @ params[name]["kernel"].T
        delta = error * derivative(below)
    return gradients, error


def five_steps(params, x, y, activation):
    """Algorithm 1 -> the error at z, and the new weights."""
    unit, derivative = UNITS[activation]
    h = propagate(params, x, unit)  # 1
    _, e = back_propagate(params, h, y, derivative)  # 2
    z = x + EPS * np.sign(e)  # 3
    h = propagate(params, z, unit)  # 4
    gradients, _ = back_propagate(params, h, y, derivative)
    moved = jax.tree.map(lambda w, g: w - RATE * g, params, gradients)  # 5
    t = np.eye(3)[y]
    return -(t * np.log(h[-1]) + (1 - t) * np.log(1 - h[-1])).sum(axis=1).mean(), moved


@pytest.mark.slow
@pytest.mark.parametrize("activation", UNITS)
def test_a_training_step_equals_the_algorithm_of_the_paper(activation):
    params, x, y = problem()
    model = models.mlp(features=(5, 4), num_classes=3, activation=activation)
    objective = partial(
        objectives.adversarial_backprop,
        models.apply_fn(model),
        attack=partial(LOGISTIC, eps=EPS),
    )
    with jax.enable_x64(True):
        optimizer = optax.sgd(RATE)
        state = init_state({"params": jax.tree.map(jnp.asarray, params)}, optimizer, seed=0)
        batch = {"x": jnp.asarray(x), "y": jnp.asarray(y)}
        after, metrics = jax.jit(make_step(objective, optimizer))(state, batch)
        found = jax.tree.map(np.asarray, after.params)
        loss = float(metrics["loss"])
    expected_loss, expected = five_steps(params, x, y, activation)
    assert loss == pytest.approx(expected_loss, rel=1e-9)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-9), found, expected)


def both_objectives(eps, loss):
    """Returns (loss, gradient) of a linear model for the adversarial and the plain objective."""
    rng = np.random.default_rng(1)
    w, x = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((4, 3), (6, 4)))
    batch = {"x": x, "y": jnp.asarray(rng.integers(0, 3, size=6))}
    attack = partial(attacks.fgsm, eps=eps, loss=loss)

    def adversarial(w):
        arguments = {"key": KEY, "attack": attack, "loss": loss}
        return objectives.adversarial_backprop(linear, {"params": w}, batch, **arguments)[0]

    def plain(w):
        return objectives.cross_entropy(linear, {"params": w}, batch, key=KEY, loss=loss)[0]

    return [jax.value_and_grad(objective)(w) for objective in (adversarial, plain)]


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
def test_adversarial_backprop_without_a_perturbation_is_back_propagation(loss):
    adversarial, plain = both_objectives(0.0, loss)
    jax.tree.map(np.testing.assert_array_equal, adversarial, plain)
    adversarial, plain = both_objectives(0.1, loss)
    assert adversarial[0] > plain[0] + 0.01


@pytest.mark.slow
def test_adversarial_backprop_of_one_row_equals_the_loss_by_hand():
    # Logits (1.5, -.5) of class 0: y - t = (-.182426, .377541), by the input W (y - t) =
    # (-.559966, -.364851): the signs are (-, -). eps .1 gives (.4, .4) with the logits (1.2, -.4),
    # and ln(1 + e^-1.2) + ln(1 + e^-.4) = .263282 + .513015.
    w = jnp.array([[1.0, -1.0], [2.0, 0.0]])
    batch = {"x": jnp.array([[0.5, 0.5]]), "y": jnp.array([0])}
    loss, (_, metrics) = objectives.adversarial_backprop(
        linear, {"params": w}, batch, key=KEY, attack=partial(LOGISTIC, eps=0.1)
    )
    assert float(loss) == pytest.approx(0.776297, abs=1e-6)
    assert metrics.keys() == {"adversarial_accuracy"}
    assert float(metrics["adversarial_accuracy"]) == 1


def test_adversarial_backprop_leaves_entries_of_zero_gradient():
    w = jnp.array([[0.0, 0.0], [2.0, -1.0]])  # The first value has no weight.
    seen = []

    def apply(variables, x, *, train=False, key=None):
        seen.append(x)
        return linear(variables, x)

    batch = {"x": jnp.array([[0.5, 0.5]]), "y": jnp.array([0])}
    attack = partial(LOGISTIC, eps=0.25)
    objectives.adversarial_backprop(apply, {"params": w}, batch, key=KEY, attack=attack)
    np.testing.assert_array_equal(seen[-1], [[0.5, 0.25]])


@pytest.mark.slow
def test_the_update_takes_the_perturbation_as_a_constant():
    rng = np.random.default_rng(2)
    w, x, y = rng.normal(size=(4, 3)), rng.normal(size=(6, 4)), rng.integers(0, 3, size=6)
    t = np.eye(3)[y]

    def numpy_loss(w, x):
        s = oracles.sigmoid(x @ w)
        return -(t * np.log(s) + (1 - t) * np.log(1 - s)).sum(axis=1).mean()

    def smooth(w):
        """A perturbation that depends on w smoothly: the gradient at length .7."""
        gradient = (oracles.sigmoid(x @ w) - t) @ w.T
        return x + 0.7 * gradient / np.linalg.norm(gradient, axis=1, keepdims=True)

    attack = partial(LOGISTIC, eps=0.7, norm="l2")
    with jax.enable_x64(True):
        batch = {"x": jnp.asarray(x), "y": jnp.asarray(y)}
        loss = lambda w: objectives.adversarial_backprop(
            linear, {"params": w}, batch, key=KEY, attack=attack
        )[0]
        gradient = np.asarray(jax.grad(loss)(jnp.asarray(w)))
    x_adv = smooth(w)
    constant = oracles.numerical_gradient(lambda w: numpy_loss(w, x_adv), w)
    np.testing.assert_allclose(gradient, constant, rtol=1e-5, atol=1e-8)
    through = oracles.numerical_gradient(lambda w: numpy_loss(w, smooth(w)), w)
    assert np.abs(through - constant).max() > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("same_dropout", [True, False])
def test_same_dropout_shares_the_mask_and_otherwise_the_first_pass_has_no_dropout(same_dropout):
    model = models.mlp(features=(30,), num_classes=3, dropout=(0.2, 0.5))
    apply, x = models.apply_fn(model), jnp.ones((5, 8))
    variables = models.init(model, jax.random.key(1), x)
    logits = []

    def recorded(*args, **kwargs):
        output = apply(*args, **kwargs)
        logits.append(np.asarray(output.logits))
        return output

    def look(logits_fn, x, y, *, key):
        logits_fn(x)
        return x

    objectives.adversarial_backprop(
        recorded,
        variables,
        {"x": x, "y": jnp.zeros(5, int)},
        key=KEY,
        attack=look,
        same_dropout=same_dropout,
    )
    attacked, learnt = logits
    # All rows are equal, so that only dropout makes them differ.
    assert len(np.unique(learnt, axis=0)) == 5
    if same_dropout:
        np.testing.assert_array_equal(attacked, learnt)
    else:
        np.testing.assert_allclose(attacked, apply(variables, x).logits, rtol=1e-6)


@pytest.mark.slow
def test_the_model_state_comes_from_the_perturbed_pass():
    def apply(variables, x, *, train=False, key=None):
        return Output(x @ variables["params"], {}, {"mean": x.mean()} if train else {})

    batch = {"x": jnp.zeros((2, 2)), "y": jnp.array([0, 1])}
    _, (state, _) = objectives.adversarial_backprop(
        apply, {"params": jnp.eye(2)}, batch, key=KEY, attack=lambda f, x, y, *, key: x + 3
    )
    assert float(state["mean"]) == 3


def test_an_unknown_loss_is_refused_with_the_legal_ones():
    for objective in (
        objectives.cross_entropy,
        partial(objectives.adversarial_backprop, attack=lambda f, x, y, *, key: x),
    ):
        batch = {"x": jnp.eye(2), "y": jnp.array([0, 1])}
        words = (
            "loss must be one of binary_cross_entropy, cross_entropy, squared_error, got 'squared'"
        )
        with pytest.raises(ValueError, match=words):
            objective(linear, {"params": jnp.eye(2)}, batch, key=KEY, loss="squared")
