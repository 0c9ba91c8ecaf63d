"""objectives.mart: the loss in NumPy, its gradient, and the weight of wrong rows."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from adv_jax import attacks, objectives
from adv_jax.types import Output

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(6, 5)).astype("f"), RNG.integers(0, 3, size=6)
W, R = RNG.normal(size=(5, 3)).astype("f"), RNG.normal(size=5).astype("f")
BATCH = {"x": jnp.asarray(X), "y": jnp.asarray(Y)}


def linear(variables, x, *, train=False, key=None):
    return Output(x @ variables["params"], {}, {"seen": x.sum()} if train else {})


def mart(w, *, batch=BATCH, **settings):
    return objectives.mart(linear, {"params": w}, batch, key=KEY, **settings)


def by_r(logits_fn, x, y, *, key):
    return x + R[None].astype(x.dtype)


def expected(w, beta, x_adv=X + R):
    """[wang2020], row by row, as its program computes it, without its small constants."""
    p, q = (oracles.softmax(np.float64(x) @ w) for x in (X, x_adv))
    costs = []
    for p_row, q_row, label in zip(p, q, Y, strict=True):
        rival = max(q_row[k] for k in range(3) if k != label)
        boosted = -np.log(q_row[label]) - np.log(1 - rival)
        divergence = sum(p_row * (np.log(p_row) - np.log(q_row)))
        costs.append(boosted + beta * divergence * (1 - p_row[label]))
    return np.mean(costs)


@pytest.mark.slow
@pytest.mark.parametrize("beta", [0.0, 6.0])
def test_mart_and_its_gradient_equal_the_numpy_version(beta):
    loss = partial(mart, attack=by_r, beta=beta)
    (value, (state, metrics)), gradient = jax.value_and_grad(loss, has_aux=True)(jnp.asarray(W))
    assert float(value) == pytest.approx(expected(W, beta), rel=1e-5)
    assert float(metrics["adversarial_accuracy"]) == pytest.approx(
        np.mean(((X + R) @ W).argmax(axis=1) == Y)
    )
    numerical = oracles.numerical_gradient(lambda w: expected(w, beta), W)
    np.testing.assert_allclose(gradient, numerical, rtol=1e-4, atol=1e-5)
    assert float(state["seen"]) == pytest.approx(X.sum(), rel=1e-5)


@pytest.mark.slow
def test_the_attack_of_mart_is_a_constant_of_the_update():
    attack = partial(attacks.fgsm, eps=0.3)
    found = jax.grad(lambda w: mart(w, attack=attack)[0])(jnp.asarray(W))
    x_adv = X + 0.3 * np.sign((oracles.softmax(np.float64(X) @ W) - np.eye(3)[Y]) @ W.T)
    numerical = oracles.numerical_gradient(lambda w: expected(w, 6.0, x_adv), W)
    np.testing.assert_allclose(found, numerical, rtol=1e-3, atol=1e-4)


def test_mart_is_finite_at_logits_that_saturate_the_softmax():
    # -log p_y and -log(1 - p_k) of a row that is wrong by 200 nats are both 200.
    loss, _ = mart(
        jnp.asarray([[200.0, 0.0]]),
        batch={"x": jnp.ones((1, 1)), "y": jnp.ones(1, int)},
        attack=lambda logits_fn, x, y, *, key: x,
        beta=0.0,
    )
    assert float(loss) == pytest.approx(400)
