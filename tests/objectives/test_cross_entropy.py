"""objectives.cross_entropy: against NumPy, for any function as the model."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from linear_net import linear

from adv_jax import objectives
from adv_jax.types import Output


def random_problem(seed):
    rng = np.random.default_rng(seed)
    x, w = rng.normal(size=(6, 4)).astype(np.float32), rng.normal(size=(4, 3)).astype(np.float32)
    return x, rng.integers(0, 3, size=6), w


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_loss_accuracy_and_gradient_equal_the_numpy_version(seed):
    x, y, w = random_problem(seed)

    def loss(w):
        return objectives.cross_entropy(
            linear, {"params": w}, {"x": jnp.asarray(x), "y": jnp.asarray(y)}, key=jax.random.key(0)
        )

    (value, (_, metrics)), gradient = jax.value_and_grad(loss, has_aux=True)(jnp.asarray(w))
    logits = np.float64(x) @ w
    assert float(value) == pytest.approx(oracles.cross_entropies(logits, y).mean(), rel=1e-5)
    assert float(metrics["accuracy"]) == pytest.approx((logits.argmax(axis=1) == y).mean())
    # d/dw of the mean of -log softmax is x' (p - onehot) / B.
    expected = x.T @ (oracles.softmax(logits) - np.eye(3)[y]) / len(y)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)
    assert metrics.keys() == {"accuracy"}


def test_cross_entropy_of_two_rows_equals_the_loss_by_hand():
    # Logits (0, 0) give ln 2 = .693147, logits (0, ln 3) of class 1 give -ln(3/4) = .287682;
    # their mean is .490415. The first row's largest logit is the first: 0, which is not its label.
    batch = {"x": jnp.array([[0.0, 0.0], [0.0, np.log(3)]]), "y": jnp.array([1, 1])}
    loss, (_, metrics) = objectives.cross_entropy(
        linear, {"params": jnp.eye(2)}, batch, key=jax.random.key(0)
    )
    assert float(loss) == pytest.approx(0.490415, abs=1e-6)
    assert float(metrics["accuracy"]) == 0.5


def test_weights_of_mixup_give_the_loss_and_accuracy_of_numpy():
    x, _, w = random_problem(3)
    x, mixed = x[:3], np.float32([[0.7, 0.3, 0], [0, 0.4, 0.6], [0.2, 0.8, 0]])  # As many as K.
    loss, (_, metrics) = objectives.cross_entropy(
        linear, {"params": w}, {"x": jnp.asarray(x), "y": mixed}, key=jax.random.key(0)
    )
    logits = np.float64(x) @ w
    expected = -(mixed * np.log(oracles.softmax(logits))).sum(axis=1).mean()
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    right = logits.argmax(axis=1) == mixed.argmax(axis=1)
    assert float(metrics["accuracy"]) == pytest.approx(right.mean())


def test_large_logits_give_a_finite_loss():
    batch = {"x": jnp.array([[1e4, 0.0]]), "y": jnp.array([1])}
    loss, _ = objectives.cross_entropy(linear, {"params": jnp.eye(2)}, batch, key=jax.random.key(0))
    assert float(loss) == 1e4


def test_cross_entropy_runs_the_model_once_in_training_mode_and_returns_the_state():
    key, calls = jax.random.key(9), []

    def apply(variables, x, *, train=False, key=None):
        calls.append((train, key))
        return Output(x @ variables["params"], {}, {"batch_stats": x.mean(axis=0)})

    batch = {"x": jnp.array([[1.0, 2.0], [3.0, 6.0]]), "y": jnp.array([0, 1])}
    _, (state, _) = objectives.cross_entropy(apply, {"params": jnp.eye(2)}, batch, key=key)
    assert len(calls) == 1 and calls[0][0] is True
    assert calls[0][1] is key
    np.testing.assert_array_equal(state["batch_stats"], [2.0, 4.0])
