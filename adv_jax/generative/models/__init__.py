"""Linen modules of generative models; `adv_jax.models` says what a module has.

A config may use the names in `__all__`.
"""

from adv_jax.generative.models.adversarial_autoencoder import (
    AdversarialAutoencoder as adversarial_autoencoder,
)
from adv_jax.generative.models.adversarial_autoencoder import (
    SemiSupervisedAutoencoder as semi_supervised_autoencoder,
)
from adv_jax.generative.models.autoencoder import Autoencoder as autoencoder
from adv_jax.generative.models.boltzmann import DBN as dbn
from adv_jax.generative.models.boltzmann import Boltzmann as boltzmann
from adv_jax.generative.models.boltzmann import NormalizedRBM as normalized_rbm
from adv_jax.generative.models.dcgan import DCGAN as dcgan
from adv_jax.generative.models.gan import GAN as gan
from adv_jax.generative.models.gan import CatGAN as catgan
from adv_jax.generative.models.gan import ConditionalGAN as conditional_gan
from adv_jax.generative.models.judged import Censored as censored
from adv_jax.generative.models.judged import Judged as judged
from adv_jax.generative.models.lapgan import LAPGAN as lapgan
from adv_jax.generative.models.vae import VAE as vae
from adv_jax.generative.models.vae import VAEGAN as vae_gan

__all__ = [
    "adversarial_autoencoder",
    "autoencoder",
    "boltzmann",
    "catgan",
    "censored",
    "conditional_gan",
    "dbn",
    "dcgan",
    "gan",
    "judged",
    "lapgan",
    "normalized_rbm",
    "semi_supervised_autoencoder",
    "vae",
    "vae_gan",
]
