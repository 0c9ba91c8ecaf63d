"""objectives.trades: the loss in NumPy, its constants, and what its attack climbs."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from adv_jax import attacks, models, objectives
from adv_jax.types import Output

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(6, 5)).astype("f"), RNG.integers(0, 3, size=6)
W, R = RNG.normal(size=(5, 3)).astype("f"), RNG.normal(size=5).astype("f")
BATCH = {"x": jnp.asarray(X), "y": jnp.asarray(Y)}


def linear(variables, x, *, train=False, key=None):
    return Output(x @ variables["params"], {}, {"seen": x.sum()} if train else {})


def trades(w, *, apply=linear, key=KEY, **settings):
    return objectives.trades(apply, {"params": w}, BATCH, key=key, **settings)


def by_r(logits_fn, x, y, *, key):
    return x + R[None].astype(x.dtype)


def divergences(w):
    """KL(p(x) || p(x + r)) of each row."""
    p, q = (oracles.softmax(np.float64(x) @ w) for x in (X, X + R))
    return (p * (np.log(p) - np.log(q))).sum(axis=1)


@pytest.mark.parametrize("beta", [0.0, 6.0])
def test_trades_and_its_gradient_equal_the_numpy_version(beta):
    loss = partial(trades, attack=by_r, beta=beta)
    (value, (state, metrics)), gradient = jax.value_and_grad(loss, has_aux=True)(jnp.asarray(W))

    def expected(w):
        return oracles.cross_entropies(np.float64(X) @ w, Y).mean() + beta * divergences(w).mean()

    assert float(value) == pytest.approx(expected(W), rel=1e-5)
    assert float(metrics["divergence"]) == pytest.approx(divergences(W).mean(), rel=1e-5)
    assert float(metrics["accuracy"]) == pytest.approx(np.mean((X @ W).argmax(axis=1) == Y))
    numerical = oracles.numerical_gradient(expected, W)
    np.testing.assert_allclose(gradient, numerical, rtol=1e-4, atol=1e-5)
    assert float(state["seen"]) == pytest.approx(X.sum(), rel=1e-5)


@pytest.mark.parametrize("attack", [partial(attacks.fgsm, eps=0.1), partial(attacks.pgd, eps=0.1)])
def test_the_attack_of_trades_is_a_constant_that_climbs_the_divergence(attack):
    seen = {}

    def recorded(logits_fn, x, p, *, key):
        np.testing.assert_allclose(p, oracles.softmax(np.float64(X) @ W), rtol=1e-5)
        seen["r"] = attack(logits_fn, x + 0.01, p, key=key) - x
        return x + seen["r"]

    gradient = jax.grad(lambda w: trades(w, attack=recorded)[0])(jnp.asarray(W))
    r = jax.lax.stop_gradient(seen["r"])
    fixed = lambda logits_fn, x, p, *, key: x + r
    np.testing.assert_array_equal(
        gradient, jax.grad(lambda w: trades(w, attack=fixed)[0])(jnp.asarray(W))
    )
    # The gradient of KL(p || q) at x + .01 by the input is W (q - p); FGSM steps along its sign.
    p, q = (oracles.softmax((np.float64(X) + shift) @ W) for shift in (0, 0.01))
    if attack.func is attacks.fgsm:
        np.testing.assert_allclose(r, 0.01 + 0.1 * np.sign((q - p) @ W.T), atol=1e-6)
    moved = oracles.softmax((np.float64(X) + np.asarray(r)) @ W)
    climbed = (p * (np.log(p) - np.log(moved))).sum(axis=1)
    assert (climbed > (p * (np.log(p) - np.log(q))).sum(axis=1)).all()


@pytest.mark.slow
def test_the_attack_of_trades_gets_the_current_model_without_dropout():
    model = models.mlp(features=(6,), num_classes=3, dropout=(0.5, 0.5))
    variables = models.init(model, jax.random.key(1), BATCH["x"])
    apply = models.apply_fn(model)

    def attack(logits_fn, x, p, *, key):
        np.testing.assert_array_equal(logits_fn(x), apply(variables, x).logits)
        np.testing.assert_array_equal(p, jax.nn.softmax(apply(variables, x).logits))
        return x

    trades(variables["params"], apply=apply, attack=attack)
