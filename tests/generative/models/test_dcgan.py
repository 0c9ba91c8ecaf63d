"""The convolutional GAN: its constraints, and what its batch statistics are."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adv_jax import generative, models

MODEL = generative.models.dcgan(shape=(8, 4, 1), latent=5, maps=(6, 3))
X = jnp.asarray(np.random.default_rng(0).uniform(size=(10, 8, 4, 1)), jnp.float32)
APPLY = models.apply_fn(MODEL)


@functools.cache
def initial():
    """The variables; collecting the tests computes nothing."""
    return models.init(MODEL, jax.random.key(1), X)


@pytest.mark.slow
def test_the_players_are_the_parts_of_the_parameters_and_of_the_statistics():
    assert initial()["params"].keys() == {"generator", "discriminator"}
    assert initial()["batch_stats"].keys() == {"generator", "discriminator"}


@pytest.mark.slow
def test_the_input_of_the_discriminator_and_the_image_are_not_normalized():
    generator, discriminator = (
        initial()["params"][name] for name in ("generator", "discriminator")
    )
    assert generator.keys() == {"hidden1", "norm1", "hidden2", "norm2", "image"}
    assert discriminator.keys() == {"hidden1", "hidden2", "norm2", "logits"}


@pytest.mark.slow
def test_z_becomes_maps_that_are_doubled_to_an_image_and_the_image_is_halved():
    shapes = {
        player: {
            name: layer["kernel"].shape for name, layer in layers.items() if "norm" not in name
        }
        for player, layers in initial()["params"].items()
    }
    assert shapes["generator"] == {
        "hidden1": (5, 2 * 1 * 6),
        "hidden2": (5, 5, 6, 3),
        "image": (5, 5, 3, 1),
    }
    assert shapes["discriminator"] == {
        "hidden1": (5, 5, 1, 3),
        "hidden2": (5, 5, 3, 6),
        "logits": (2 * 1 * 6, 1),
    }
    extras = APPLY(initial(), X).extras
    assert [h.shape for h in extras.values()] == [(10, 4, 2, 3), (10, 2, 1, 6)]


@pytest.mark.slow
def test_weights_start_from_a_normal_distribution_of_std_002():
    kernel = np.asarray(initial()["params"]["generator"]["hidden2"]["kernel"])
    assert kernel.std() == pytest.approx(0.02, rel=0.1)  # The error of 450 draws is 3 %.


@pytest.mark.slow
def test_a_pass_updates_the_statistics_of_the_player_that_it_runs():
    stats = initial()["batch_stats"]
    judged = APPLY(initial(), X, train=True).model_state["batch_stats"]
    drawn = APPLY(initial(), X, train=True, key=jax.random.key(3), method="sample").model_state
    same = lambda a, b: all(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a == b).all()), a, b)))
    assert same(judged["generator"], stats["generator"])
    assert not same(judged["discriminator"], stats["discriminator"])
    assert same(drawn["batch_stats"]["discriminator"], stats["discriminator"])
    assert not same(drawn["batch_stats"]["generator"], stats["generator"])


@pytest.mark.slow
def test_images_are_in_the_unit_interval():
    images = APPLY(initial(), X, key=jax.random.key(3), method="sample").logits
    assert images.shape == X.shape
    assert (images >= 0).all() and (images <= 1).all()


@pytest.mark.parametrize("shape", [(8, 6, 1), (8, 4)])
def test_an_image_that_cannot_be_halved_is_refused(shape):
    model = generative.models.dcgan(shape=shape, maps=(6, 3))
    with pytest.raises(ValueError, match=r"model.shape must be .* multiples of 4, .* got \(8, "):
        models.init(model, jax.random.key(0), jnp.zeros((2, *shape)))


@pytest.mark.parametrize(
    "model",
    [
        generative.models.dcgan(maps=()),
        generative.models.lapgan(halvings=0),
        generative.models.lapgan(halvings=-1),
    ],
)
def test_a_model_that_halves_no_image_is_refused(model):
    with pytest.raises(
        ValueError,
        match=r"model.(maps|halvings) must halve images at least once, got (0|-1) halvings",
    ):
        models.init(model, jax.random.key(0), jnp.zeros((2, 28, 28, 1)))
