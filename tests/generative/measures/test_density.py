"""Parzen windows: against scikit-learn's kernel density, and by hand."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.neighbors import KernelDensity

from adv_jax.generative.measures import parzen, parzen_bandwidth
from adv_jax.types import UserError

RNG = np.random.default_rng(0)
SAMPLES = RNG.uniform(size=(50, 3, 2)).astype(np.float32)
X = RNG.uniform(size=(7, 3, 2)).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("bandwidth", [0.1, 0.5])
def test_the_log_likelihood_is_that_of_a_gaussian_kernel_density(bandwidth):
    expected = KernelDensity(bandwidth=bandwidth, rtol=1e-9, atol=1e-12)
    expected = expected.fit(SAMPLES.reshape(50, -1)).score_samples(X.reshape(7, -1))
    found = parzen(jnp.asarray(SAMPLES), jnp.asarray(X), bandwidth=bandwidth, batch_size=3)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


def test_the_bandwidth_is_the_candidate_of_the_largest_mean():
    samples = jnp.asarray(RNG.normal(size=(2000, 1)), jnp.float32)
    held_out = jnp.asarray(RNG.normal(size=(500, 1)), jnp.float32)
    # Silverman's rule for 2,000 normal numbers is .23; the others are far off on either side.
    candidates = jnp.asarray([0.001, 0.2, 5.0])
    assert parzen_bandwidth(samples, held_out, candidates) == candidates[1]
    assert parzen_bandwidth(samples, held_out, [1, 2]).dtype == jnp.float32


@pytest.mark.slow
def test_integer_samples_are_those_of_floats():
    samples, x = (RNG.integers(0, 5, (count, 3)) for count in (20, 4))
    found = parzen(jnp.asarray(samples), jnp.asarray(x), bandwidth=0.5)
    expected = parzen(jnp.float32(samples), jnp.float32(x), bandwidth=0.5)
    np.testing.assert_array_equal(found, expected)


def test_samples_of_another_shape_and_a_bandwidth_of_0_are_refused():
    with pytest.raises(UserError, match=r"samples must be f\[n, .*\(50, 6\)"):
        parzen(jnp.asarray(SAMPLES.reshape(50, 6)), jnp.asarray(X), bandwidth=0.1)
    with pytest.raises(UserError, match="bandwidth must be"):
        parzen(jnp.asarray(SAMPLES), jnp.asarray(X), bandwidth=0.0)
    with pytest.raises(UserError, match="samples must be a batch .* at least 1, got"):
        parzen(jnp.asarray(SAMPLES[:0]), jnp.asarray(X), bandwidth=0.1)
    with pytest.raises(UserError, match="x must be a batch .* at least 1, got"):
        parzen(jnp.asarray(SAMPLES), jnp.asarray(X[:0]), bandwidth=0.1)


def test_the_log_likelihood_far_from_0_is_that_of_scikit_learn():
    samples, x = (np.float32(1000 + RNG.normal(size=(n, 3))) for n in (50, 7))
    expected = KernelDensity(bandwidth=0.5, rtol=1e-9, atol=1e-12).fit(samples).score_samples(x)
    found = parzen(jnp.asarray(samples), jnp.asarray(x), bandwidth=0.5)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


def test_the_log_likelihood_of_rows_with_a_wide_column_is_that_of_scikit_learn():
    # As incomes and ages: the square of an income has no digits left for that of an age.
    samples = np.float32([[50_000, 30], [50_000, 31], [900_000, 40], [10_000, 50]])
    expected = KernelDensity(rtol=1e-9, atol=1e-12).fit(samples).score_samples(samples)
    found = parzen(jnp.asarray(samples), jnp.asarray(samples), bandwidth=1.0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(("bandwidth", "step"), [(1e-23, 0.0), (1e-19, 2e-19), (1e25, 1.0)])
def test_the_log_likelihood_at_a_bandwidth_without_a_square_is_that_of_float64(bandwidth, step):
    samples = np.float32([[0.0], [step], [2.0]])
    z = (np.float64(samples)[:, 0] - np.float64(samples)[:1, 0]) / bandwidth
    density = np.mean(np.exp(-(z**2) / 2)) / np.sqrt(2 * np.pi)
    found = parzen(samples, samples[:1], bandwidth=bandwidth)
    np.testing.assert_allclose(found, [np.log(density) - np.log(bandwidth)], rtol=1e-5)
    jitted = jax.jit(lambda width: parzen(samples, samples[:1], bandwidth=width))
    np.testing.assert_allclose(jitted(bandwidth), found, rtol=1e-6)


def test_the_derivative_at_a_sample_is_that_of_a_sum_of_gaussians():
    samples, x, width = SAMPLES[:4].reshape(4, -1), SAMPLES[:1].reshape(1, -1), 0.5
    total = lambda x: parzen(samples, x, bandwidth=width)[0]
    apart = np.float64(samples) - x
    weights = np.exp(-np.sum(apart**2, axis=1) / (2 * width**2))
    expected = weights @ apart / weights.sum() / width**2
    np.testing.assert_allclose(jax.grad(total)(jnp.asarray(x))[0], expected, rtol=1e-4)


def test_a_tiny_candidate_is_compared_and_a_list_of_candidates_gives_an_array():
    x = SAMPLES + np.float32(0.01)
    for candidates in ([0.1, 1e-23], jnp.asarray([0.1, 1e-23]), (1e-23, 0.1)):
        found = parzen_bandwidth(SAMPLES.tolist(), x.tolist(), candidates)
        assert isinstance(found, jax.Array) and (found.shape, found.dtype) == ((), np.float32)
        assert found == np.float32(0.1)


def test_lists_have_the_log_likelihood_of_arrays():
    found = parzen(SAMPLES.tolist(), X.tolist(), bandwidth=0.5)
    np.testing.assert_array_equal(found, parzen(SAMPLES, X, bandwidth=0.5))


@pytest.mark.parametrize(
    ("candidates", "got"), [([], r"\[\]"), (0.3, "0.3"), (np.ones((2, 1)), r"float64\[2, 1\]")]
)
def test_candidates_of_another_shape_are_refused(candidates, got):
    says = rf"^bandwidths must be f\[m\] with one candidate or more, got {got}$"
    with pytest.raises(UserError, match=says):
        parzen_bandwidth(SAMPLES, X, candidates)


@pytest.mark.parametrize("bandwidth", ["1e-40", "1e+39"])
def test_a_bandwidth_that_float32_lacks_is_refused(bandwidth):
    says = rf"^bandwidth must be a number from 1.17\S+ to 3.40\S+, got {re.escape(bandwidth)}$"
    with pytest.raises(UserError, match=says):
        parzen(SAMPLES, X, bandwidth=float(bandwidth))
