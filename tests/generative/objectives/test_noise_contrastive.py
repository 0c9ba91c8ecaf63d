"""Noise-contrastive estimation: NumPy, its tie to maximum likelihood, and a normalizer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, optimize
from scipy.stats import norm

from adv_jax.generative.objectives import noise_contrastive
from adv_jax.types import UserError

# Draws of five values, which are exact expectations under their shares. Of the model each occurs.
DRAWS = st.lists(st.integers(0, 4), min_size=12, max_size=12)
OF_MODEL = st.lists(st.integers(0, 4), min_size=7, max_size=7).map(lambda more: [*range(5), *more])


def test_the_loss_is_the_cross_entropy_of_the_classifier():
    rng = np.random.default_rng(0)
    data, noise, ratio = rng.normal(size=6), rng.normal(size=9), 1.5
    h = lambda log_ratio: np.exp(log_ratio) / (np.exp(log_ratio) + ratio)
    expected = -np.log(h(data)).mean() - ratio * np.log(1 - h(noise)).mean()
    found = noise_contrastive(jnp.float32(data), jnp.float32(noise), ratio)
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", ["data", "noise"])
@pytest.mark.parametrize(("log_ratios", "found"), [([], "[]"), (np.zeros((2, 2)), "float64[2, 2]")])
def test_log_ratios_of_another_shape_are_refused(name, log_ratios, found):
    with pytest.raises(UserError) as error:
        noise_contrastive(**{"data": np.zeros(3), "noise": np.zeros(3), name: log_ratios})
    assert str(error.value) == f"{name} must be f[N] with N >= 1, got {found}"


def test_large_log_ratios_are_finite():
    found = jax.value_and_grad(noise_contrastive)(jnp.array([-1e4, 1e4]), jnp.array([1e4, -1e4]))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))


def contrastive(f, copy, log_z, x, u):
    """The loss of p = exp(f) / Z against draws u of the density exp(copy)."""
    log_ratio = f - log_z - copy
    return noise_contrastive(log_ratio[x], log_ratio[u])


@jax.jit
def slopes(f, x, u):
    """Gradients of the loss against the model's own copy, and of the likelihood, by f."""
    log_z = jax.nn.logsumexp(f)
    normalized = lambda g: contrastive(g, f - log_z, jax.nn.logsumexp(g), x, u)
    unnormalized = lambda g: contrastive(g, f - log_z, log_z, x, u)
    likelihood = lambda g: -jax.nn.log_softmax(g)[x].mean()
    return {
        "normalized": jax.grad(normalized)(f),
        "unnormalized": jax.grad(unnormalized)(f),
        "likelihood": jax.grad(likelihood)(f),
    }


@given(DRAWS, OF_MODEL)
def test_with_its_own_copy_as_noise_a_density_has_half_the_gradient_of_maximum_likelihood(x, u):
    # Unnormalized with a detached Z, the draws of the copy replace the gradient of log Z.
    f = jnp.log(jnp.asarray(np.bincount(u, minlength=5), jnp.float32))
    found = slopes(f, jnp.asarray(x), jnp.asarray(u))
    for form in ("normalized", "unnormalized"):
        np.testing.assert_allclose(found[form], found["likelihood"] / 2, atol=1e-6)


@pytest.mark.slow
def test_the_tie_to_maximum_likelihood_holds_for_a_normal_distribution_by_integration():
    # Data N(1, 1), model N(mean, 1): the slope of log p by the mean is x - mean, and that of the
    # expected -log p is mean - 1. The slope of the loss by a log ratio is taken at the copy's, 0.
    mean = 0.3
    by_data, by_noise = jax.grad(noise_contrastive, (0, 1))(jnp.zeros(1), jnp.zeros(1))
    expected = lambda of: integrate.quad(lambda x: norm.pdf(x, of) * (x - mean), -9, 9)[0]
    found = float(by_data[0]) * expected(1) + float(by_noise[0]) * expected(mean)
    assert found == pytest.approx((mean - 1) / 2, rel=1e-6)


@pytest.mark.slow
def test_the_normalizer_of_a_gaussian_is_recovered_from_samples():
    rng = np.random.default_rng(0)
    data = jnp.asarray(rng.normal(1, 0.5, 20_000), jnp.float32)
    noise = jnp.asarray(rng.normal(0, 2, 40_000), jnp.float32)
    log_q = lambda u: -(u**2) / 8 - np.log(2 * np.sqrt(2 * np.pi))

    def loss(theta):
        """theta: mean, log precision and c of log p = -precision (x - mean)^2 / 2 + c."""
        log_p = lambda x: -jnp.exp(theta[1]) * (x - theta[0]) ** 2 / 2 + theta[2]
        return noise_contrastive(log_p(data) - log_q(data), log_p(noise) - log_q(noise), 2.0)

    step = jax.jit(jax.value_and_grad(loss))
    numbers = lambda theta: [np.float64(found) for found in step(jnp.float32(theta))]
    found = optimize.minimize(numbers, np.zeros(3), jac=True, method="L-BFGS-B").x
    expected = [1, np.log(1 / 0.25), -np.log(0.5 * np.sqrt(2 * np.pi))]
    np.testing.assert_allclose(found, expected, atol=0.03)
