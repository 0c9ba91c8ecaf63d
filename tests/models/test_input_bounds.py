"""The inputs that models take: pixels as probabilities, or any values."""

import pytest

from adv_jax import generative


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
