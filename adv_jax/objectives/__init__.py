"""Training methods: `objective(apply, variables, batch, *, key, attack, ...) -> (loss, aux)`.

loss is f32[], aux is (model_state, metrics). An objective defines the loss and the perturbed
points at which it is taken; the attack is an argument. `apply` is `models.apply_fn(model)` of a
Linen module, or any function of the same signature that returns an `adv_jax.types.Output`.

An objective says of itself what its model predicts and which state it carries from step to step
(`objective`).

PGD adversarial training (PGD-AT) is `lwa` with `pgd` as the attack; pgd(returns="last") saves two
passes. TRADES is `trades`, MART is `mart`; `awp` perturbs the weights under any of them.
"""

from adv_jax.objectives.adversarial_backprop import adversarial_backprop
from adv_jax.objectives.adversarial_mix import adversarial_mix
from adv_jax.objectives.awp import awp
from adv_jax.objectives.certified import certified
from adv_jax.objectives.consistency import consistency
from adv_jax.objectives.cross_entropy import cross_entropy
from adv_jax.objectives.denoising import denoising
from adv_jax.objectives.distillation import distillation, tempered_cross_entropy
from adv_jax.objectives.free import free
from adv_jax.objectives.label_smoothing import label_smoothing
from adv_jax.objectives.label_smoothing import smoothed_targets as smoothed_targets
from adv_jax.objectives.ladder import ladder
from adv_jax.objectives.lwa import lwa, lwa_rep
from adv_jax.objectives.mart import mart
from adv_jax.objectives.online import least_mean_squares, passive_aggressive, perceptron
from adv_jax.objectives.stating import objective as objective
from adv_jax.objectives.trades import trades
from adv_jax.objectives.virtual_adversarial_training import virtual_adversarial_training

__all__ = [
    "adversarial_backprop",
    "adversarial_mix",
    "awp",
    "certified",
    "consistency",
    "cross_entropy",
    "denoising",
    "distillation",
    "free",
    "label_smoothing",
    "ladder",
    "least_mean_squares",
    "lwa",
    "lwa_rep",
    "mart",
    "passive_aggressive",
    "perceptron",
    "tempered_cross_entropy",
    "trades",
    "virtual_adversarial_training",
]
