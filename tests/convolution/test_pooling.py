"""max_pool_2x2: against XLA's window, with ties."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adv_jax.convolution import max_pool_2x2


def ramp(y):
    """A cotangent of which no two entries are equal."""
    return jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)


def test_pooling_takes_the_largest_and_its_gradient_goes_to_the_first_of_equals():
    x = jnp.array(
        [
            [1, 2, 5, 5],
            [3, 0, 5, 5],
            [0, 7, -1, -2],
            [7, 7, -2, -1],
        ],
        jnp.float32,
    ).reshape(1, 4, 4, 1)
    y, pull_back = jax.vjp(max_pool_2x2, x)
    np.testing.assert_array_equal(y[0, :, :, 0], [[3, 5], [7, -1]])
    (g,) = pull_back(jnp.float32([[10.0, 20.0], [30.0, 40.0]]).reshape(1, 2, 2, 1))
    expected = [[0, 0, 20, 0], [10, 0, 0, 0], [0, 30, 40, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(g[0, :, :, 0], expected)


@pytest.mark.slow
@pytest.mark.parametrize("channels", [5, 32])
def test_pooling_equals_xlas_window_with_ties_everywhere(channels):
    # Values 0, 1, 2 only; XLA's select-and-scatter too takes the first.
    x = jnp.float32(np.random.default_rng(0).integers(0, 3, size=(4, 6, 8, channels)))
    window = lambda x: jax.lax.reduce_window(
        x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"
    )
    results = []
    for pool in (max_pool_2x2, window):
        y, pull_back = jax.vjp(pool, x)
        results.append((y, pull_back(ramp(y))[0]))
    (y, g), (expected_y, expected_g) = results
    np.testing.assert_array_equal(y, expected_y)
    np.testing.assert_array_equal(g, expected_g)
    assert np.count_nonzero(g) == y.size


@pytest.mark.slow
def test_pooling_leaves_out_an_odd_row_and_column():
    x = jnp.arange(15.0).reshape(1, 3, 5, 1)
    y, pull_back = jax.vjp(max_pool_2x2, x)
    np.testing.assert_array_equal(y.ravel(), [6, 8])
    np.testing.assert_array_equal(np.flatnonzero(pull_back(y)[0]), [6, 8])


def test_pooling_shows_a_nan_and_keeps_bfloat16():
    x = jnp.array([[1, jnp.nan], [3, 4]], jnp.bfloat16).reshape(1, 2, 2, 1)
    assert bool(jnp.isnan(max_pool_2x2(x)).all()) and max_pool_2x2(x).dtype == jnp.bfloat16
