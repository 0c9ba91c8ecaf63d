"""norms with a scale of each entry, and l0: against NumPy in float64 and all subsets."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from test_norms import NORMS, ROUNDING, dual_norm_of, norm_of

from adv_jax import norms
from adv_jax.attacks._region import Region

D = 5
entries = st.floats(-10, 10, width=32, allow_subnormal=False)
rows = arrays(np.float32, (2, D), elements=entries)
# Some entries may not move.
scales = arrays(np.float32, (1, D), elements=st.sampled_from([0.0, 0.125, 0.3, 1.0]))
few = settings(max_examples=25, deadline=None)


def in_units(r, scale):
    return np.where(scale == 0, 0, np.float64(r) / np.where(scale == 0, 1, scale))


@pytest.mark.slow
@pytest.mark.parametrize("kind", NORMS)
@few
@given(g=rows, scale=scales)
def test_a_scaled_dual_has_length_one_and_attains_the_dual_norm(kind, g, scale):
    r = np.asarray(norms.dual(g, kind, jnp.asarray(scale)), np.float64)
    np.testing.assert_array_equal(r[:, scale[0] == 0], 0)
    best = dual_norm_of(np.float64(scale) * g, kind)
    np.testing.assert_allclose((g * r).sum(axis=1), best, rtol=ROUNDING, atol=1e-6)
    assert np.all(norm_of(in_units(r, scale), kind) <= 1 + ROUNDING)


@pytest.mark.parametrize("kind", NORMS)
@few
@given(r=rows, scale=scales, eps=st.floats(0.0625, 8, width=32))
def test_a_scaled_projection_is_the_nearest_point_in_units_of_the_scale(kind, r, scale, eps):
    p = np.asarray(norms.project(r, eps, kind, jnp.asarray(scale)), np.float64)
    np.testing.assert_array_equal(p[:, scale[0] == 0], 0)
    # As in test_norms: the optimality condition of a projection onto a convex set.
    p, r = in_units(p, scale), in_units(r, scale)
    assert np.all(norm_of(p, kind) <= eps * (1 + ROUNDING))
    gap = eps * dual_norm_of(r - p, kind) - ((r - p) * p).sum(axis=1)
    assert np.all(np.abs(gap) <= 1e-4 * (1 + norm_of(r, "l2") ** 2))


@pytest.mark.slow
@pytest.mark.parametrize("kind", NORMS)
def test_a_scaled_row_inside_the_ball_is_returned_unchanged(kind):
    scale = jnp.array([[0.3, 0.7, 1.0]])
    r = scale * jnp.array([[0.3, -0.2, 0.1]])
    np.testing.assert_array_equal(norms.project(r, 1.0, kind, scale), r)


@pytest.mark.parametrize("kind", NORMS)
def test_scaled_lengths_are_those_of_the_quotients(kind):
    r, scale = np.float32([[0.3, -2.0, 0.0], [0.1, 0.2, 1.0]]), np.float32([[0.5, 0.25, 0.0]])
    found = norms.norm(r, kind, jnp.asarray(scale))
    assert found[0] == pytest.approx(norm_of(in_units(r, scale), kind)[0], rel=ROUNDING)
    assert found[1] == np.inf  # An entry that may not move has moved.


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["l2", "l1", "rms"])
def test_scaled_draws_are_uniform_in_the_ball_of_the_entries_that_may_move(kind):
    scale = jnp.array([[0.5, 0.0, 1.0, 0.25]])
    r = norms.sample(jax.random.key(0), jnp.zeros((2000, 4)), 2.0, kind, scale)
    np.testing.assert_array_equal(r[:, 1], 0)
    # The share of the volume within a length t is t^3 in three dimensions.
    length = norm_of(in_units(r, np.asarray(scale)), kind) / 2
    assert scipy.stats.kstest(length**3, "uniform").pvalue > 0.01


@few
@given(r=rows, eps=st.floats(0, 6, width=32))
def test_l0_keeps_the_largest_entries(r, eps):
    p = np.asarray(norms.project(r, eps, "l0"))
    count = min(int(eps), D)
    assert np.all(norms.norm(p, "l0") <= count)
    assert np.all((p == r) | (p == 0))
    expected = np.sort(np.abs(r), axis=1)[:, D - count :].sum(axis=1)
    np.testing.assert_allclose(np.abs(p).sum(axis=1), expected, rtol=ROUNDING)


@few
@given(
    r=rows,
    count=st.integers(0, D),
    x=arrays(np.float32, (2, D), elements=st.floats(0, 1, width=32)),
)
def test_l0_within_bounds_is_the_nearest_of_all_subsets(r, count, x):
    bounds = (np.zeros(D, np.float32), np.linspace(1, 2, D, dtype=np.float32))
    p = np.asarray(
        Region(x, jnp.full((1, 1), float(count)), "l0", bounds, None).nearest(r), np.float64
    )
    clipped = np.clip(np.float64(r), bounds[0] - x, bounds[1] - x)
    subsets = (np.isin(np.arange(D), kept) for kept in itertools.combinations(range(D), count))
    best = np.min([((np.where(s, clipped, 0) - r) ** 2).sum(1) for s in subsets], axis=0)
    np.testing.assert_allclose(((p - r) ** 2).sum(axis=1), best, rtol=1e-5, atol=1e-5)
    assert np.all((p != 0).sum(axis=1) <= count)


def test_the_l0_step_is_the_gradient_of_l1_norm_one():
    g = jnp.array([[1.0, -3.0, 0.0], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(norms.dual(g, "l0"), [[0.25, -0.75, 0.0], [0, 0, 0]])


def test_the_unbounded_l0_ball_has_no_uniform_draw():
    with pytest.raises(ValueError, match='norm must have a bounded ball to draw from, got "l0"'):
        norms.sample(jax.random.key(0), jnp.zeros((2, 3)), 1.0, "l0")
