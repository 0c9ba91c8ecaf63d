"""The GAN's two nets: their parts of the parameters, and what they compute."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from adv_jax import models

MODEL = models.gan(shape=(2, 3, 1), latent=4, generator_features=(5,), discriminator_features=(6,))
X = jnp.asarray(np.random.default_rng(0).uniform(size=(8, 2, 3, 1)), jnp.float32)
APPLY, VARIABLES = models.apply_fn(MODEL), models.init(MODEL, jax.random.key(1), X)


def dense(params, h):
    """A net with a leaky hidden layer in NumPy, f64[B, D] -> f64[B, K]."""
    layers = {name: {k: np.float64(v) for k, v in layer.items()} for name, layer in params.items()}
    h = h @ layers["hidden1"]["kernel"] + layers["hidden1"]["bias"]
    h = np.where(h > 0, h, 0.1 * h)
    return h @ layers["logits"]["kernel"] + layers["logits"]["bias"]


def test_the_players_are_the_parts_of_the_parameters():
    assert VARIABLES["params"].keys() == {"generator", "discriminator"}


def test_the_generator_maps_latent_values_to_images_in_the_unit_interval():
    z = np.random.default_rng(1).uniform(-1, 1, size=(8, 4)).astype(np.float32)
    found = APPLY(VARIABLES, jnp.asarray(z), method="generate").logits
    expected = oracles.sigmoid(dense(VARIABLES["params"]["generator"], z))
    np.testing.assert_allclose(found.reshape(8, 6), expected, rtol=1e-5)
    assert found.shape == X.shape


def test_the_logits_are_0_of_generated_and_the_score_of_real():
    found = APPLY(VARIABLES, X).logits
    expected = dense(VARIABLES["params"]["discriminator"], 2 * np.float64(X).reshape(8, 6) - 1)
    np.testing.assert_array_equal(found[:, 0], 0)
    np.testing.assert_allclose(found[:, 1:], expected, rtol=1e-5, atol=1e-6)


def test_samples_differ_by_key_and_row():
    draw = lambda seed: APPLY(VARIABLES, X, key=jax.random.key(seed), method="sample").logits
    samples = np.concatenate([draw(0), draw(1)]).reshape(16, -1)
    assert len(np.unique(samples, axis=0)) == 16
    np.testing.assert_array_equal(draw(0), draw(0))


def test_a_sample_needs_a_key():
    with pytest.raises(Exception, match="noise"):
        APPLY(VARIABLES, X, method="sample")
