"""mi_fgsm beside the published update in NumPy, and its limits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adv_jax import attacks
from adv_jax.types import UserError

RNG = np.random.default_rng(0)
W_IN, W_OUT = RNG.normal(size=(6, 5)), RNG.normal(size=(5, 3))
X, Y = RNG.uniform(0.2, 0.8, (4, 6)), np.array([0, 2, 1, 1])
EPS, STEPS = 0.15, 6


def logits_fn(x):
    return jnp.tanh(x @ jnp.asarray(W_IN, jnp.float32)) @ jnp.asarray(W_OUT, jnp.float32)


def gradient(x):
    """The gradient of the cross-entropy in float64, by hand."""
    hidden = np.tanh(x @ W_IN)
    z = hidden @ W_OUT
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    return ((p - np.eye(3)[Y]) @ W_OUT.T * (1 - hidden**2)) @ W_IN.T


def published(norm, decay, sign=1):
    """[dong2018], Algorithm 1 (linf) and sec. 3.3 (l2)."""
    x, g = X.copy(), np.zeros_like(X)
    for _ in range(STEPS):
        slope = sign * gradient(x)
        g = decay * g + slope / np.abs(slope).sum(axis=1, keepdims=True)
        unit = np.sign(g) if norm == "linf" else g / np.linalg.norm(g, axis=1, keepdims=True)
        x = np.clip(x + EPS / STEPS * unit, 0, 1)
    return x


run = functools.partial(
    attacks.mi_fgsm, logits_fn, jnp.asarray(X, jnp.float32), Y, eps=EPS, num_steps=STEPS
)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("decay", [0.7, 1.0])
def test_mi_fgsm_equals_the_published_update(norm, decay):
    x_adv = run(norm=norm, decay=decay, bounds=(0, 1))
    np.testing.assert_allclose(x_adv, published(norm, decay), atol=1e-5)


def test_a_target_is_descended():
    x_adv = run(targeted=True, bounds=(0, 1))
    np.testing.assert_allclose(x_adv, published("linf", 1.0, sign=-1), atol=1e-5)


def test_without_momentum_it_is_bim_and_with_it_another_attack():
    bim = functools.partial(attacks.bim, logits_fn, jnp.asarray(X, jnp.float32), Y, eps=EPS)
    plain = bim(step_size=EPS / STEPS, num_steps=STEPS)
    np.testing.assert_allclose(run(decay=0.0), plain, atol=1e-6)
    assert bool((jnp.abs(run(decay=1.0) - plain) > 1e-3).any())


def test_bim_is_pgd_from_x_and_ignores_the_key():
    x = jnp.asarray(X, jnp.float32)
    expected = attacks.pgd(logits_fn, x, Y, eps=EPS, num_steps=10, returns="last")
    found = attacks.bim(logits_fn, x, Y, eps=EPS, key=jax.random.key(0))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("decay", [-0.1, float("nan")])
def test_a_decay_out_of_range_is_refused(decay):
    with pytest.raises(UserError, match=r"^decay must be in \[0, inf\), got "):
        run(decay=decay)
