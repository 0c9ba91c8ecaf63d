"""The pyramid of GANs: it loses nothing, and each level adds to the blurred image below it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adv_jax import generative, models
from adv_jax.generative.models.lapgan import doubled, halved

MODEL = generative.models.lapgan(
    shape=(8, 4, 1), latent=3, maps=2, generator_features=(5,), discriminator_features=(6,)
)
X = jnp.asarray(np.random.default_rng(0).uniform(size=(6, 8, 4, 1)), jnp.float32)
APPLY = models.apply_fn(MODEL)


@functools.cache
def initial():
    """The variables; collecting the tests computes nothing."""
    return models.init(MODEL, jax.random.key(1), X)


KEY = jax.random.key(2)


def band(level, x=X):
    """Returns I_k and l_k of images."""
    found = APPLY(initial(), x, method="band", level=level)
    return found.logits, found.extras.get("low")


@pytest.mark.slow
def test_each_level_has_two_players():
    players = {f"{name}_{level}" for name in ("generator", "discriminator") for level in range(3)}
    assert initial()["params"].keys() == players


@pytest.mark.slow
def test_images_are_the_coarsest_ones_doubled_with_the_details_of_each_level():
    coarsest, low = band(2)
    assert coarsest.shape == (6, 2, 1, 1) and low is None
    image = coarsest
    for level in (1, 0):
        own, low = band(level)
        np.testing.assert_allclose(low, doubled(image), rtol=1e-6)
        image = doubled(image) + (own - low)
    np.testing.assert_allclose(image, X, atol=1e-6)


def test_halving_averages_four_pixels_and_doubling_interpolates():
    found = np.asarray(halved(X))
    for i, j in ((0, 0), (3, 1)):
        pixels = np.asarray(X)[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
        np.testing.assert_allclose(found[:, i, j], pixels.mean(axis=(1, 2)), rtol=1e-6)
    # Pixel centers of the doubled line lie at -.25, .25, .75, ...; it is constant outside.
    line = np.asarray([3.0, 5.0, 1.0], np.float32)
    expected = np.interp(np.arange(6) / 2 - 0.25, np.arange(3), line)
    found = doubled(jnp.asarray(line).reshape(1, 1, 3, 1))[0, :, :, 0]
    np.testing.assert_allclose(found, [expected, expected], rtol=1e-6)


@pytest.mark.slow
def test_a_sample_of_a_level_is_the_given_image_with_details():
    _, low = band(0)
    found = APPLY(initial(), X, low, key=KEY, method="sample", level=0).logits
    details = np.asarray(found - low)
    assert (np.abs(details) <= 1).all() and details.std() > 0
    other = APPLY(initial(), X, 1 - low, key=KEY, method="sample", level=0).logits
    assert (other - (1 - low) != found - low).any()  # The details depend on the given image.


@pytest.mark.slow
def test_a_whole_sample_shows_each_coarser_image_that_it_was_made_from():
    found = APPLY(initial(), X, key=KEY, method="sample")
    assert found.logits.shape == X.shape
    assert {name: image.shape for name, image in found.extras.items()} == {
        "level1": (6, 4, 2, 1),
        "level2": (6, 2, 1, 1),
    }
    for image in (found.logits, *found.extras.values()):
        assert (image >= 0).all() and (image <= 1).all()


@pytest.mark.slow
@pytest.mark.parametrize("level", [0, 1])
def test_a_discriminator_sees_the_given_image(level):
    image, low = band(level)
    score = lambda low: np.asarray(APPLY(initial(), image, low, level=level).logits[:, 1])
    np.testing.assert_array_equal(
        score(low), APPLY(initial(), image, level=level).logits[:, 1]
    )  # Without one it is the image's own.
    assert (score(low) != score(low[::-1])).any()


def test_an_image_that_cannot_be_halved_is_refused():
    with pytest.raises(ValueError, match=r"model.shape must be .* multiples of 8, .* got \(28, 28"):
        models.init(generative.models.lapgan(halvings=3), KEY, jnp.zeros((2, 28, 28, 1)))
