"""The variational autoencoder against NumPy, and its bound against exact likelihoods."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from scipy.special import logsumexp, xlogy
from scipy.stats import norm

from adv_jax import generative, models

RNG = np.random.default_rng(0)
SMALL = {"shape": (2, 3, 1), "encoder_features": (5,), "decoder_features": (6,)}
MODEL = generative.models.vae(latent=4, **SMALL)
X = jnp.asarray(RNG.uniform(size=(8, 2, 3, 1)), jnp.float32)
APPLY = models.apply_fn(MODEL)
KEY = jax.random.key(2)


@cache
def initial():
    return models.init(MODEL, jax.random.key(1), X)


def dense(params, h):
    """A net with a hidden layer of tanh in NumPy, f64[B, D] -> f64[B, K]."""
    layers = {name: {k: np.float64(v) for k, v in layer.items()} for name, layer in params.items()}
    h = np.tanh(h @ layers["hidden1"]["kernel"] + layers["hidden1"]["bias"])
    return h @ layers["logits"]["kernel"] + layers["logits"]["bias"]


def log_likelihoods(p, x):
    """log p(x | z) of independent Bernoulli pixels: f64[..., D] -> f64[...]."""
    return (xlogy(x, p) + xlogy(1 - x, 1 - p)).sum(axis=-1)


def encoded(x):
    """Means and standard deviations of q(z | x), f64[B, latent] each."""
    mean, extras, _ = APPLY(initial(), x, method="encode")
    return np.float64(mean), np.exp(np.float64(extras["log_var"]) / 2)


def test_the_parts_of_the_parameters_are_encoder_and_decoder():
    assert initial()["params"].keys() == {"encoder", "decoder"}


@pytest.mark.slow
def test_the_loss_of_a_row_is_the_negative_bound_at_its_code():
    flat = np.float64(X).reshape(8, 6)
    mean, log_var = np.split(dense(initial()["params"]["encoder"], flat), 2, axis=1)
    # The code that the pass draws; its noise is that of the code's distribution.
    z = np.float64(APPLY(initial(), X, key=KEY, method="infer").logits)
    p = oracles.sigmoid(dense(initial()["params"]["decoder"], z))
    divergence = (np.exp(log_var) + mean**2 - 1 - log_var).sum(axis=1) / 2
    reconstruction = -log_likelihoods(p, flat)
    found = APPLY(initial(), X, key=KEY, method="row_loss")
    np.testing.assert_allclose(found.extras["reconstruction"], reconstruction, rtol=1e-5)
    np.testing.assert_allclose(found.extras["divergence"], divergence, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.logits, reconstruction + divergence, rtol=1e-5)


@pytest.mark.slow
def test_codes_have_the_mean_and_the_deviation_of_the_encoder():
    mean, std = encoded(X[:1])
    many = jnp.broadcast_to(X[:1], (20_000, *X.shape[1:]))
    z = np.float64(APPLY(initial(), many, key=KEY, method="infer").logits)
    np.testing.assert_allclose(z.mean(0), mean[0], atol=4 * std.max() / np.sqrt(len(z)))
    np.testing.assert_allclose(z.std(0), std[0], rtol=0.03)


def test_the_divergence_is_the_mean_log_ratio_of_the_densities():
    mean, std = encoded(X)
    z = mean + std * np.random.default_rng(3).standard_normal((50_000, *mean.shape))
    ratios = (norm.logpdf(z, mean, std) - norm.logpdf(z)).sum(axis=-1)
    found = APPLY(initial(), X, key=KEY, method="infer").extras["divergence"]
    errors = ratios.std(axis=0) / np.sqrt(len(z))
    assert (np.abs(np.float64(found) - ratios.mean(axis=0)) < 5 * errors).all()


@pytest.mark.slow
def test_the_bound_is_below_the_exact_log_likelihood_by_the_divergence_of_the_posterior():
    model = generative.models.vae(latent=1, **SMALL)
    variables = models.init(model, jax.random.key(4), X)
    apply = models.apply_fn(model)
    row = X[:1]
    # p(x) and p(z | x) on a grid of the one value of z.
    z = np.linspace(-8, 8, 4001)
    p = oracles.sigmoid(dense(variables["params"]["decoder"], z[:, None]))
    joint = norm.logpdf(z) + log_likelihoods(p, np.float64(row).reshape(6))
    exact = logsumexp(joint) + np.log(z[1] - z[0])
    mean, extras, _ = apply(variables, row, method="encode")
    q = norm(float(mean[0, 0]), float(np.exp(extras["log_var"][0, 0] / 2)))
    divergence = np.trapezoid(q.pdf(z) * (q.logpdf(z) - (joint - exact)), z)
    many = jnp.broadcast_to(row, (20_000, *row.shape[1:]))
    losses = np.float64(apply(variables, many, key=KEY, method="row_loss").logits)
    error = losses.std() / np.sqrt(len(losses))
    assert -losses.mean() <= exact
    assert -losses.mean() == pytest.approx(exact - divergence, abs=5 * error + 1e-4)


def test_the_images_are_decoded_from_the_means():
    mean, _ = encoded(X)
    found = APPLY(initial(), X)
    expected = oracles.sigmoid(dense(initial()["params"]["decoder"], mean)).reshape(X.shape)
    np.testing.assert_allclose(found.logits, expected, rtol=1e-5)


def test_samples_differ_by_key_and_row():
    draw = lambda seed: APPLY(initial(), X, key=jax.random.key(seed), method="sample").logits
    samples = np.concatenate([draw(0), draw(1)]).reshape(16, -1)
    assert len(np.unique(samples, axis=0)) == 16


@pytest.mark.slow
def test_samples_are_decoded_from_standard_normal_codes():
    # A linear decoder can be inverted.
    linear = generative.models.vae(latent=2, shape=(2,), encoder_features=(), decoder_features=())
    variables = models.init(linear, jax.random.key(5), jnp.ones((2, 2)))
    like = jnp.ones((20_000, 2))
    images = models.apply_fn(linear)(variables, like, key=KEY, method="sample").logits
    kernel = np.float64(variables["params"]["decoder"]["logits"]["kernel"])
    p = np.float64(images)
    codes = np.log(p / (1 - p)) @ np.linalg.inv(kernel)
    np.testing.assert_allclose(np.cov(codes.T), np.eye(2), atol=0.05)
    np.testing.assert_allclose(codes.mean(axis=0), 0, atol=0.04)


@pytest.mark.parametrize(
    ("model", "x", "sentence"),
    [
        (
            generative.models.vae(shape=(3, 2, 1)),
            X,
            r"model.shape must be \(2, 3, 1\), the shape of x, got \(3, 2, 1\)",
        ),
        (
            generative.models.adversarial_autoencoder(shape=(4,)),
            X,
            r"model.shape must be \(2, 3, 1\), ",
        ),
    ],
)
def test_sizes_that_do_not_fit_are_refused_in_one_line(model, x, sentence):
    with pytest.raises(ValueError, match=sentence):
        models.init(model, jax.random.key(0), x)
