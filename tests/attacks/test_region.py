"""The nearest point of the l1 ball within the bounds: a certificate, and bisection in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from adv_jax.attacks._region import Region

ROWS, D = 3, 5
LO, HI = -0.5, 2.0
entries = st.floats(-8, 8, width=32, allow_subnormal=False)
sizes = st.floats(0.0, 6, width=32, allow_subnormal=False)
perturbations = arrays(np.float32, (ROWS, D), elements=entries)
inputs = arrays(np.float32, (ROWS, D), elements=st.floats(LO, HI, width=32))


@jax.jit
def projected(x, r, eps, scale=None):
    return Region(x, eps.reshape(-1, 1), "l1", (LO, HI), scale).nearest(r)


def highest(gain, room_up, room_down, eps):
    """max <gain, q> over |q|_1 <= eps, -room_down <= q <= room_up: the steepest entries first."""
    total, left = 0.0, eps
    for i in np.argsort(-np.abs(gain)):
        step = min(left, room_up[i] if gain[i] > 0 else room_down[i])
        total, left = total + abs(gain[i]) * step, left - step
    return total


@given(inputs, perturbations, arrays(np.float32, ROWS, elements=sizes))
def test_the_projection_under_l1_is_the_nearest_point_of_ball_and_bounds(x, r, eps):
    # p is nearest to r in a convex set if <r - p, q - p> <= 0 for all of its points q.
    p = np.float64(projected(x, r, eps))
    assert np.all(np.abs(p).sum(axis=1) <= eps * (1 + 1e-5))
    assert (x + p).min() >= LO - 1e-6 and (x + p).max() <= HI + 1e-6
    up, down = HI - np.float64(x), np.float64(x) - LO
    for i in range(ROWS):
        gain = r[i] - p[i]
        assert highest(gain, up[i], down[i], float(eps[i])) - gain @ p[i] <= 1e-4


@given(inputs, perturbations, arrays(np.float32, ROWS, elements=sizes))
def test_the_projection_with_a_scale_is_that_in_units_of_the_scale(x, r, eps):
    scale = np.float32([[1.0, 0.5, 0.0, 0.25, 0.125]])
    p = np.float64(projected(x, r, eps, scale))
    some = scale[0] > 0
    assert np.all(p[:, ~some] == 0)
    unit = np.float64(scale[:, some])
    size = np.abs(r[:, some]) / unit
    room = np.where(r > 0, HI - np.float64(x), x - np.float64(LO))[:, some] / unit
    low, high = np.zeros((ROWS, 1)), size.max(axis=1, keepdims=True)
    for _ in range(60):
        t = (low + high) / 2
        outside = np.clip(size - t, 0, room).sum(axis=1, keepdims=True) > eps[:, None]
        low, high = np.where(outside, t, low), np.where(outside, high, t)
    fits = np.minimum(size, room).sum(axis=1, keepdims=True) <= eps[:, None]
    expected = np.where(fits, np.minimum(size, room), np.clip(size - high, 0, room))
    np.testing.assert_allclose(np.abs(p[:, some]) / unit, expected, atol=1e-4)


def test_a_row_inside_ball_and_bounds_is_its_own_projection_and_eps_0_gives_0():
    x = jnp.array([[0.3, 1.0, -0.5, 2.0, 0.1]])
    r = jnp.array([[0.1, -0.7, 0.3, -0.2, 0.0]])
    np.testing.assert_array_equal(projected(x, r, jnp.array([1.4])), r)
    np.testing.assert_array_equal(projected(x, 9 * r, jnp.array([0.0])), 0 * r)


def test_rows_far_larger_than_the_ball_keep_their_precision():
    # Of 1e6 + (0, 1, 2) the smallest stays at 0, if the ball has radius 1.5: (0, .25, 1.25).
    x, r = jnp.zeros((1, 3)), jnp.float32([[1e6, 1e6 + 1, 1e6 + 2]])
    np.testing.assert_allclose(projected(x, r, jnp.array([1.5])), [[0, 0.25, 1.25]], atol=1e-6)
