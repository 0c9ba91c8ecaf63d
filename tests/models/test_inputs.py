"""The inputs that models take: floats, as probabilities of pixels or any values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adv_jax import generative, models


@pytest.mark.parametrize(
    ("model", "bounds"),
    [
        (generative.models.adversarial_autoencoder(), (0, 1)),
        (generative.models.autoencoder(loss="cross_entropy"), (0, 1)),
        (generative.models.autoencoder(loss="squared_error"), None),
        (generative.models.boltzmann(visible="binary"), (0, 1)),
        (generative.models.boltzmann(visible="gaussian"), None),
        (generative.models.dbn(visible="binary"), (0, 1)),
        (generative.models.dcgan(), (0, 1)),
        (generative.models.lapgan(), (0, 1)),
        (generative.models.vae(), (0, 1)),
        (generative.models.vae_gan(), (0, 1)),
    ],
)
def test_probabilities_and_generated_images_bound_the_inputs(model, bounds):
    assert model.input_bounds == bounds


IMAGES = {"shape": (4, 4, 1)}


@pytest.mark.parametrize(("rows", "dtype"), [(2, np.uint8), (0, np.float32)])
@pytest.mark.parametrize(
    ("build", "settings"),
    [
        (models.ladder, {}),
        (models.lenet, {}),
        (models.maxout, {}),
        (models.mlp, {}),
        (models.preact_resnet, {}),
        (generative.models.autoencoder, IMAGES),
        (generative.models.adversarial_autoencoder, IMAGES),
        (generative.models.boltzmann, IMAGES),
        (generative.models.gan, IMAGES),
        (generative.models.lapgan, IMAGES),
        (generative.models.vae, IMAGES),
    ],
)
def test_bytes_and_empty_batches_are_refused(build, settings, rows, dtype):
    x = jnp.zeros((rows, 4, 4, 1), dtype)
    with pytest.raises(ValueError, match=r"^x must be a batch of floats f\[B, \*D\], .*, got "):
        models.init(build(**settings), jax.random.key(0), x)
