"""Training methods of generative models; `adv_jax.objectives` says what an objective is.

A config may use the names in `__all__`.
"""

from adv_jax.generative.objectives.adversarial_autoencoder import (
    adversarial_autoencoder,
    semi_supervised_autoencoder,
)
from adv_jax.generative.objectives.catgan import catgan
from adv_jax.generative.objectives.contrastive_divergence import (
    contrastive_divergence,
    persistent_contrastive_divergence,
)
from adv_jax.generative.objectives.domain_adversarial import censored, domain_adversarial
from adv_jax.generative.objectives.gan import conditional_gan, gan, lapgan
from adv_jax.generative.objectives.gradient_reversal import reverse_gradient as reverse_gradient
from adv_jax.generative.objectives.noise_contrastive import noise_contrastive as noise_contrastive
from adv_jax.generative.objectives.noise_contrastive_estimation import noise_contrastive_estimation
from adv_jax.generative.objectives.output_matching import output_matching
from adv_jax.generative.objectives.reconstruction import reconstruction
from adv_jax.generative.objectives.vae import vae
from adv_jax.generative.objectives.vae_gan import vae_gan

__all__ = [
    "adversarial_autoencoder",
    "catgan",
    "censored",
    "conditional_gan",
    "contrastive_divergence",
    "domain_adversarial",
    "gan",
    "lapgan",
    "noise_contrastive_estimation",
    "output_matching",
    "persistent_contrastive_divergence",
    "reconstruction",
    "semi_supervised_autoencoder",
    "vae",
    "vae_gan",
]
