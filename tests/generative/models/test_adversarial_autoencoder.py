"""Adversarial autoencoders: their parts, codes and priors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from adv_jax import generative, models

RNG = np.random.default_rng(0)
SMALL = {"shape": (2, 3, 1), "latent": 3, "features": (5, 4), "discriminator_features": (6,)}
X = jnp.asarray(RNG.uniform(size=(8, 2, 3, 1)), jnp.float32)
KEY = jax.random.key(2)
PLAIN = generative.models.adversarial_autoencoder(**SMALL)
LABELED = generative.models.semi_supervised_autoencoder(**SMALL, num_classes=4)
BOTH = pytest.mark.parametrize("net", [PLAIN, LABELED], ids=["plain", "labeled"])


@functools.cache
def built(net):
    """The apply function and the variables; collecting the tests computes nothing."""
    return models.apply_fn(net), models.init(net, jax.random.key(1), X)


def dense(params, h):
    """A net with hidden layers of rectified units in NumPy, f64[B, D] -> f64[B, K]."""
    layers = {name: {k: np.float64(v) for k, v in layer.items()} for name, layer in params.items()}
    for name in sorted(layers.keys() - {"logits"}):
        h = np.maximum(h @ layers[name]["kernel"] + layers[name]["bias"], 0)
    return h @ layers["logits"]["kernel"] + layers["logits"]["bias"]


@pytest.mark.slow
@BOTH
def test_the_players_are_the_parts_of_the_parameters(net):
    assert built(net)[1]["params"].keys() == {"encoder", "decoder", "discriminator"}


@pytest.mark.slow
@BOTH
def test_a_code_has_the_outputs_of_the_encoder_and_the_probabilities_of_the_classes(net):
    apply, variables = built(net)
    values = dense(variables["params"]["encoder"], np.float64(X).reshape(8, 6))
    z, logits = np.split(values, [3], axis=1)
    expected = np.concatenate([z, oracles.softmax(logits)], axis=1) if net is LABELED else z
    found = apply(variables, X, method="encode").logits
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_the_classifier_has_the_logits_of_the_classes():
    apply, variables = built(LABELED)
    values = dense(variables["params"]["encoder"], np.float64(X).reshape(8, 6))
    found = apply(variables, X)
    np.testing.assert_allclose(found.logits, values[:, 3:], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.extras["code"], values[:, :3], rtol=1e-4, atol=1e-6)


@BOTH
def test_each_part_of_a_code_has_a_discriminator_of_its_own(net):
    apply, variables = built(net)
    code = apply(variables, X, method="encode").logits
    params = variables["params"]["discriminator"]
    parts = np.split(np.float64(code), [3], axis=1)[: len(params)]
    expected = [dense(params[f"part{i}"], part) for i, part in enumerate(parts)]
    found = apply(variables, code, method="judge").logits
    np.testing.assert_allclose(found, np.concatenate(expected, axis=1), rtol=1e-4, atol=1e-6)


def test_the_loss_of_a_row_is_the_squared_error_of_its_image():
    apply, variables = built(PLAIN)
    code = np.float64(apply(variables, X, method="encode").logits)
    images = oracles.sigmoid(dense(variables["params"]["decoder"], code))
    expected = ((images - np.float64(X).reshape(8, 6)) ** 2).sum(axis=1)
    np.testing.assert_allclose(apply(variables, X, method="row_loss").logits, expected, rtol=1e-4)
    np.testing.assert_allclose(apply(variables, X).logits, images.reshape(X.shape), rtol=1e-4)


@pytest.mark.slow
@BOTH
def test_the_prior_is_standard_normal_and_draws_all_classes_alike(net):
    apply, variables = built(net)
    like = jnp.zeros((20_000, 2, 3, 1))
    drawn = np.float64(apply(variables, like, key=KEY, method="prior").logits)
    z, classes = np.split(drawn, [3], axis=1)
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=0.04)
    np.testing.assert_allclose(np.cov(z.T), np.eye(3), atol=0.05)
    if net is LABELED:
        assert set(np.unique(classes)) == {0, 1}
        np.testing.assert_array_equal(classes.sum(axis=1), 1)
        np.testing.assert_allclose(classes.mean(axis=0), 1 / 4, atol=0.02)


@BOTH
def test_a_sample_is_decoded_from_the_prior(net):
    apply, variables = built(net)
    code = apply(variables, X, key=KEY, method="prior").logits
    expected = apply(variables, code, method="decode").logits
    found = apply(variables, X, key=KEY, method="sample").logits
    np.testing.assert_allclose(found, expected, rtol=1e-6)
