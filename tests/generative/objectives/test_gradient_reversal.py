"""The reversed gradient: a game of two players as one minimization."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adv_jax.generative.objectives import reverse_gradient
from adv_jax.types import UserError

X = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)), jnp.float32)


def test_the_value_is_that_of_x():
    np.testing.assert_array_equal(reverse_gradient(X, 0.3), X)


@pytest.mark.parametrize("scale", [0.0, 0.3, 2.0])
def test_the_derivative_is_minus_the_scale_in_both_modes(scale):
    f = lambda x: jnp.sum(jnp.sin(reverse_gradient(x, scale)))
    np.testing.assert_allclose(jax.grad(f)(X), -scale * np.cos(X), rtol=1e-6)
    _, change = jax.jvp(f, (X,), (jnp.ones_like(X),))
    assert change == pytest.approx(-scale * np.cos(X).sum(), rel=1e-5)


def test_two_reversals_are_the_identity():
    f = lambda x: jnp.sum(reverse_gradient(reverse_gradient(x, 2.0), 0.5) ** 3)
    np.testing.assert_allclose(jax.grad(f)(X), 3 * np.square(X), rtol=1e-6)


def test_the_scale_may_be_traced_and_differ_between_replicas():
    scales = jnp.array([0.0, 0.5, 1.0])
    slopes = jax.jit(jax.vmap(jax.grad(lambda x, scale: reverse_gradient(x, scale)), (None, 0)))
    np.testing.assert_allclose(slopes(jnp.float32(3), scales), -scales)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_the_gradient_has_the_dtype_of_x(dtype):
    x = X.astype(dtype)
    gradient = jax.grad(lambda x: reverse_gradient(x, jnp.float32(0.5)).astype(jnp.float32).sum())
    assert gradient(x).dtype == x.dtype


@pytest.mark.parametrize("scale", [-2.0, jnp.float32(-2.0), np.float32(-2.0)])
def test_a_known_scale_below_0_is_refused(scale):
    with pytest.raises(UserError, match="^scale must be a finite number of at least 0, got -2.0$"):
        reverse_gradient(X, scale)
