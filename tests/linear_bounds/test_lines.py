"""Lines of one activation: below and above it on the whole interval, and tight."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adv_jax.linear_bounds._lines import lines

FUNCTIONS = {
    "relu": (jax.nn.relu, "convex"),
    "softplus": (jax.nn.softplus, "convex"),
    "exp": (jnp.exp, "convex"),
    "log": (lambda t: jnp.log(t + 7), "concave"),
    "tanh": (jnp.tanh, "sigmoid"),
    "sigmoid": (jax.nn.sigmoid, "sigmoid"),
    "erf": (jax.lax.erf, "sigmoid"),
}
number = st.floats(-6, 6, width=32)


@functools.cache
def compiled(name):
    """Returns (lower, upper) -> points t f[101, 1], fn(t), the line below and the line above."""
    fn, shape = FUNCTIONS[name]

    def found(lower, upper):
        t = jnp.linspace(lower, upper, 101)
        at_t = [line.slope * t + line.offset for line in lines(fn, shape, lower[None], upper[None])]
        return fn(t), *at_t

    return jax.jit(found)


@pytest.mark.parametrize("name", FUNCTIONS)
@given(a=number, b=number)
def test_lines_enclose_the_function_on_the_interval(name, a, b):
    values, below, above = map(np.asarray, compiled(name)(*map(np.float32, sorted((a, b)))))
    rounding = 1e-5 * (1 + abs(values).max())
    assert (below <= values + rounding).all() and (above >= values - rounding).all()


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("t", [-2.0, 0.0, 1.5])
def test_lines_meet_the_function_in_a_point(name, t):
    values, below, above = compiled(name)(np.float32(t), np.float32(t))
    np.testing.assert_allclose(below, values, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(above, values, rtol=1e-5, atol=1e-6)


def test_relu_has_the_adaptive_lines_of_crown():
    lower, upper = jnp.array([-1.0, -3.0, 1.0, -2.0]), jnp.array([3.0, 1.0, 2.0, -1.0])
    below, above = lines(jax.nn.relu, "convex", lower, upper)
    np.testing.assert_allclose(below, [[1, 0, 1, 0], [0, 0, 0, 0]])
    # upper / (upper - lower) (t - lower); identity; zero
    np.testing.assert_allclose(above, [[0.75, 0.25, 1, 0], [0.75, 0.75, 0, 0]])


@pytest.mark.slow
def test_tanh_is_bounded_by_a_tangent_through_the_far_end():
    # From (-1, tanh -1), the tangent touches at t with tanh' (t) (t + 1) = tanh t + tanh 1.
    _, above = lines(jnp.tanh, "sigmoid", jnp.array([-1.0]), jnp.array([1.0]))
    t = np.linspace(0, 1, 100_001)
    touching = t[np.argmax((np.tanh(t) - np.tanh(-1)) / (t + 1))]
    np.testing.assert_allclose(above.slope[0], 1 - np.tanh(touching) ** 2, rtol=1e-3)
    np.testing.assert_allclose(-above.slope[0] + above.offset[0], np.tanh(-1), atol=1e-5)
