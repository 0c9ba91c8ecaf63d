"""Training methods: `objective(apply, variables, batch, *, key, attack, ...) -> (loss, aux)`.

loss is f32[], aux is (model_state, metrics). An objective defines the loss and the perturbed
points at which it is taken; the attack is an argument.

An objective in `STATES` carries a state in the variables from step to step: its function makes the
first one, {collection: tree}, from the model, its variables and a batch x. `TASKS` lists what the
model of an objective may predict, as `models` explains it; of others, it must predict "labels".

PGD adversarial training (PGD-AT) is `lwa` with `pgd` as the attack; pgd(returns="last") saves two
passes. TRADES is `trades`, MART is `mart`; `awp` perturbs the weights under any of them.
"""

from collections.abc import Callable

from adv_jax.objectives.adversarial_autoencoder import (
    adversarial_autoencoder,
    semi_supervised_autoencoder,
)
from adv_jax.objectives.adversarial_backprop import adversarial_backprop
from adv_jax.objectives.adversarial_mix import adversarial_mix
from adv_jax.objectives.awp import awp
from adv_jax.objectives.catgan import catgan
from adv_jax.objectives.certified import certified
from adv_jax.objectives.consistency import consistency
from adv_jax.objectives.contrastive_divergence import (
    chains,
    contrastive_divergence,
    persistent_contrastive_divergence,
)
from adv_jax.objectives.cross_entropy import cross_entropy
from adv_jax.objectives.denoising import denoising
from adv_jax.objectives.distillation import distillation, tempered_cross_entropy
from adv_jax.objectives.domain_adversarial import censored, domain_adversarial
from adv_jax.objectives.free import free, still
from adv_jax.objectives.gan import conditional_gan, gan, lapgan
from adv_jax.objectives.gradient_reversal import reverse_gradient as reverse_gradient
from adv_jax.objectives.label_smoothing import label_smoothing
from adv_jax.objectives.label_smoothing import smoothed_targets as smoothed_targets
from adv_jax.objectives.ladder import ladder
from adv_jax.objectives.lwa import lwa, lwa_rep
from adv_jax.objectives.mart import mart
from adv_jax.objectives.noise_contrastive import noise_contrastive as noise_contrastive
from adv_jax.objectives.noise_contrastive_estimation import noise_contrastive_estimation
from adv_jax.objectives.online import least_mean_squares, passive_aggressive, perceptron
from adv_jax.objectives.output_matching import output_matching
from adv_jax.objectives.reconstruction import reconstruction
from adv_jax.objectives.trades import trades
from adv_jax.objectives.vae import vae
from adv_jax.objectives.vae_gan import vae_gan
from adv_jax.objectives.virtual_adversarial_training import virtual_adversarial_training
from adv_jax.types import Apply, Array, Variables

__all__ = [
    "adversarial_autoencoder",
    "adversarial_backprop",
    "adversarial_mix",
    "awp",
    "catgan",
    "censored",
    "certified",
    "conditional_gan",
    "consistency",
    "contrastive_divergence",
    "cross_entropy",
    "denoising",
    "distillation",
    "domain_adversarial",
    "free",
    "gan",
    "label_smoothing",
    "ladder",
    "lapgan",
    "least_mean_squares",
    "lwa",
    "lwa_rep",
    "mart",
    "noise_contrastive_estimation",
    "output_matching",
    "passive_aggressive",
    "perceptron",
    "persistent_contrastive_divergence",
    "reconstruction",
    "semi_supervised_autoencoder",
    "tempered_cross_entropy",
    "trades",
    "vae",
    "vae_gan",
    "virtual_adversarial_training",
]

STATES: dict[str, Callable[[Apply, Variables, Array], Variables]] = {
    "free": still,
    "noise_contrastive_estimation": chains,
    "persistent_contrastive_divergence": chains,
}
TASKS: dict[str, tuple[str, ...]] = {
    "adversarial_autoencoder": ("loss", "labels"),  # The classes of a code may be clusters.
    "conditional_gan": ("real",),
    "contrastive_divergence": ("loss",),
    "gan": ("real",),
    "lapgan": ("real",),
    "noise_contrastive_estimation": ("loss",),
    "persistent_contrastive_divergence": ("loss",),
    "reconstruction": ("loss",),
    "vae": ("loss",),
    "vae_gan": ("real",),
}
