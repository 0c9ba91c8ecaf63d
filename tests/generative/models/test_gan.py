"""The GAN's two nets: their parts of the parameters, and what they compute."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from adv_jax import generative, models

MODEL = generative.models.gan(
    shape=(2, 3, 1), latent=4, generator_features=(5,), discriminator_features=(6,)
)
X = jnp.asarray(np.random.default_rng(0).uniform(size=(8, 2, 3, 1)), jnp.float32)
APPLY = models.apply_fn(MODEL)


@functools.cache
def initial():
    """The variables; collecting the tests computes nothing."""
    return models.init(MODEL, jax.random.key(1), X)


def dense(params, h):
    """A net with a leaky hidden layer in NumPy, f64[B, D] -> f64[B, K]."""
    layers = {name: {k: np.float64(v) for k, v in layer.items()} for name, layer in params.items()}
    h = h @ layers["hidden1"]["kernel"] + layers["hidden1"]["bias"]
    h = np.where(h > 0, h, 0.1 * h)
    return h @ layers["logits"]["kernel"] + layers["logits"]["bias"]


@pytest.mark.slow
def test_the_players_are_the_parts_of_the_parameters():
    assert initial()["params"].keys() == {"generator", "discriminator"}


def test_the_generator_maps_latent_values_to_images_in_the_unit_interval():
    z = np.random.default_rng(1).uniform(-1, 1, size=(8, 4)).astype(np.float32)
    found = APPLY(initial(), jnp.asarray(z), method="generate").logits
    expected = oracles.sigmoid(dense(initial()["params"]["generator"], z))
    np.testing.assert_allclose(found.reshape(8, 6), expected, rtol=1e-5)
    assert found.shape == X.shape


def test_the_logits_are_0_of_generated_and_the_score_of_real():
    found = APPLY(initial(), X).logits
    expected = dense(initial()["params"]["discriminator"], 2 * np.float64(X).reshape(8, 6) - 1)
    np.testing.assert_array_equal(found[:, 0], 0)
    np.testing.assert_allclose(found[:, 1:], expected, rtol=1e-5, atol=1e-6)


def test_samples_differ_by_key_and_row():
    draw = lambda seed: APPLY(initial(), X, key=jax.random.key(seed), method="sample").logits
    samples = np.concatenate([draw(0), draw(1)]).reshape(16, -1)
    assert len(np.unique(samples, axis=0)) == 16
    np.testing.assert_array_equal(draw(0), draw(0))


def test_a_sample_needs_a_key():
    with pytest.raises(Exception, match="noise"):
        APPLY(initial(), X, method="sample")


LABELS = jnp.asarray([0, 1, 2, 0, 1, 2, 0, 1], jnp.int32)
SIZES = {"shape": (2, 3, 1), "latent": 4, "generator_features": (5,)}
CONDITIONAL = generative.models.conditional_gan(**SIZES, discriminator_features=(6,), num_classes=3)
WITH_LABELS = models.apply_fn(CONDITIONAL)


@functools.cache
def of_labels():
    return models.init(CONDITIONAL, jax.random.key(1), X)


@pytest.mark.slow
def test_both_players_receive_the_label_as_one_of_k_inputs_as_strong_as_the_others():
    z = np.random.default_rng(1).uniform(-1, 1, size=(8, 4)).astype(np.float32)
    one_hot = np.eye(3)[LABELS]
    params = of_labels()["params"]
    found = WITH_LABELS(of_labels(), jnp.asarray(z), LABELS, method="generate").logits
    expected = oracles.sigmoid(dense(params["generator"], np.hstack([z, 2 * one_hot])))
    np.testing.assert_allclose(found.reshape(8, 6), expected, rtol=1e-5)
    scores = WITH_LABELS(of_labels(), X, LABELS).logits[:, 1:]
    rows = np.hstack([2 * np.float64(X).reshape(8, 6) - 1, 6**0.5 * one_hot])
    np.testing.assert_allclose(scores, dense(params["discriminator"], rows), rtol=1e-4, atol=1e-6)


def test_other_labels_change_the_scores_of_the_same_images():
    score = lambda labels: np.asarray(WITH_LABELS(of_labels(), X, labels).logits[:, 1])
    assert (score(LABELS) != score((LABELS + 1) % 3)).all()


def test_an_image_without_label_has_the_score_of_its_best_label():
    each = [WITH_LABELS(of_labels(), X, jnp.full(8, label)).logits[:, 1] for label in range(3)]
    found = WITH_LABELS(of_labels(), X).logits
    np.testing.assert_allclose(found[:, 1], np.max(each, axis=0), rtol=1e-6)
    np.testing.assert_array_equal(found[:, 0], 0)


def test_samples_of_a_label_are_those_of_a_generator_that_receives_it():
    draw = lambda *labels: (
        WITH_LABELS(of_labels(), X, *labels, key=jax.random.key(2), method="sample").logits
    )
    assert (draw(LABELS) != draw((LABELS + 1) % 3)).any()
    assert draw().shape == X.shape  # of random labels


def test_a_conditional_model_needs_labels_in_training_and_a_plain_one_takes_none():
    with pytest.raises(ValueError, match="^y must be the labels of the images in training"):
        WITH_LABELS(of_labels(), X, train=True)
    with pytest.raises(ValueError, match="^model must receive labels, as conditional_gan does, g"):
        APPLY(initial(), X, LABELS)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"latent": 0}, "latent must be a whole number of at least 1, got 0"),
        ({"shape": (3, 3, 1)}, "model.shape must be (2, 3, 1), the shape of x, got (3, 3, 1)"),
    ],
)
def test_a_game_that_does_not_fit_its_images_is_refused(settings, says):
    made = lambda: generative.models.gan(**{"shape": (2, 3, 1), **settings})
    with pytest.raises(ValueError) as error:
        models.init(made(), jax.random.key(0), jnp.zeros((2, 2, 3, 1)))
    assert str(error.value) == says


@pytest.mark.parametrize("labels", [LABELS + 3, -LABELS - 1, np.full(8, 0.5), np.eye(8)])
def test_labels_that_are_no_classes_are_refused(labels):
    with pytest.raises(ValueError, match="^y must be classes "):
        WITH_LABELS(of_labels(), X, labels)
    with pytest.raises(ValueError, match="^y must be one label for each of 8 rows, got 3"):
        WITH_LABELS(of_labels(), X, LABELS[:3])
