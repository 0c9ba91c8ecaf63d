"""ead: the published update in NumPy, and the least elastic net and l1 on linear models."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adv_jax.attacks.ead import ead

W = np.array([3.0, -2.0, 1.0, 0.5])
X = np.array([[0.5, 0.3, 0.2, 0.8], [0.9, 0.6, 0.1, 0.4]], np.float32)


def linear(x):
    z = x @ jnp.float32(W)
    return jnp.stack([z, 0 * z], axis=1)


def fista(x, const, beta, steps, rate, rule):
    """[chen2018], Algorithm 1, in [0, 1], for the margin -x @ W: the shortest r that fools."""
    r, ahead, best = np.zeros(4), np.zeros(4), (np.inf, np.zeros(4))
    for t in range(steps):
        margin = -(x + ahead) @ W
        gradient = 2 * ahead + (const * W if margin < 0 else 0)
        z = ahead - rate * np.sqrt(1 - t / steps) * gradient
        new = np.clip(x + np.sign(z) * np.maximum(np.abs(z) - beta, 0), 0, 1) - x
        length = np.abs(new).sum()
        if rule == "en":
            length = beta * length + new @ new
        if (x + new) @ W < 0 and length < best[0]:
            best = length, new
        r, ahead = new, new + t / (t + 3) * (new - r)
    return best[1]


@pytest.mark.parametrize("rule", ["en", "l1"])
def test_ead_equals_the_published_algorithm_in_numpy(rule):
    options = {"beta": 0.02, "num_steps": 40, "learning_rate": 0.05, "rule": rule}
    run = partial(ead, linear, y=jnp.zeros(2, int), bounds=(0, 1), **options)
    x_adv = jax.jit(partial(run, search_steps=1, initial_const=3.0))(x=X)
    expected = [fista(np.float64(row), 3.0, 0.02, 40, 0.05, rule) for row in X]
    np.testing.assert_allclose(x_adv - X, expected, atol=1e-4)
    assert np.all(np.any(expected, axis=1))


def test_ead_finds_the_least_l1_perturbation_of_a_linear_model():
    # In [0, 1] the steepest feature goes to its bound, then the next.
    run = partial(ead, linear, y=jnp.zeros(2, int), rule="l1", bounds=(0, 1), num_steps=300)
    r = np.float64(jax.jit(run)(x=X)) - X
    assert np.all((X + r) @ W < 0)
    gap = np.float64(X) @ W
    alone = X[:, 0] * 3.0  # The gain of the first feature.
    exact = np.where(gap <= alone, gap / 3, X[:, 0] + (gap - alone) / 2)
    length = np.abs(r).sum(axis=1)
    assert np.all(length >= exact * (1 - 1e-4))
    np.testing.assert_allclose(length, exact, rtol=0.05)


def test_ead_exceeds_the_asked_confidence():
    run = partial(ead, linear, y=jnp.zeros(2, int), num_steps=100, search_steps=5)
    x_adv = jax.jit(partial(run, confidence=1.0, initial_const=0.1))(x=X)
    assert np.all(x_adv @ W < -1)


def test_ead_refuses_an_unknown_rule():
    with pytest.raises(ValueError, match="rule must be one of en, l1, got 'l2'"):
        ead(linear, X, jnp.zeros(2, int), rule="l2")
