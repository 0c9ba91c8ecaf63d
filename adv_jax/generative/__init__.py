"""The wing of generative models: GANs, VAEs, autoencoders and Boltzmann machines.

models      Linen modules, as those of `adv_jax.models`
objectives  training methods, as those of `adv_jax.objectives`
measures    of samples and likelihoods
boltzmann   the conditional distributions and the energy of a Boltzmann machine
"""

from adv_jax.generative import boltzmann as boltzmann
from adv_jax.generative import measures as measures
from adv_jax.generative import models as models
from adv_jax.generative import objectives as objectives

__all__ = ["boltzmann", "measures", "models", "objectives"]
