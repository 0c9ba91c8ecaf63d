"""The inputs that models take: pixels as probabilities, or any values."""

import pytest

from adv_jax import models


@pytest.mark.parametrize(
    ("model", "bounds"),
    [
        (models.adversarial_autoencoder(), (0, 1)),
        (models.autoencoder(loss="cross_entropy"), (0, 1)),
        (models.autoencoder(loss="squared_error"), None),
        (models.boltzmann(visible="binary"), (0, 1)),
        (models.boltzmann(visible="gaussian"), None),
        (models.dbn(visible="binary"), (0, 1)),
        (models.dcgan(), (0, 1)),
        (models.lapgan(), (0, 1)),
        (models.vae(), (0, 1)),
        (models.vae_gan(), (0, 1)),
    ],
)
def test_probabilities_and_generated_images_bound_the_inputs(model, bounds):
    assert model.input_bounds == bounds
