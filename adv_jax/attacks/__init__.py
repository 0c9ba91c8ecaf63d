"""Perturbations of inputs: `attack(logits_fn, x, y, *, ..., key=None) -> x_adv`.

Attacks are pure functions that work under jit, vmap and scan. README.md in this folder describes
them.
"""

# They share `adv_jax.checks` of their arguments, `adv_jax.loss_gradients` and
# `adv_jax.perturbations`; tests/support/attack_table.py tests their common properties.

from adv_jax.attacks import targets as targets
from adv_jax.attacks._attack import attack as attack
from adv_jax.attacks._attack import forward_only as forward_only
from adv_jax.attacks._traits import ENSEMBLE as ENSEMBLE
from adv_jax.attacks._traits import ITERATED as ITERATED
from adv_jax.attacks._traits import NOISE as NOISE
from adv_jax.attacks._traits import ONE_STEP as ONE_STEP
from adv_jax.attacks._traits import SIZES as SIZES
from adv_jax.attacks._traits import Rank as Rank
from adv_jax.attacks._traits import Traits as Traits
from adv_jax.attacks._traits import ranges_of as ranges_of
from adv_jax.attacks._traits import traits_of as traits_of
from adv_jax.attacks.apgd import apgd
from adv_jax.attacks.auto_attack import auto_attack
from adv_jax.attacks.boundary import boundary
from adv_jax.attacks.carlini_wagner import carlini_wagner
from adv_jax.attacks.deepfool import deepfool
from adv_jax.attacks.defenses import expectation as expectation
from adv_jax.attacks.defenses import straight_through as straight_through
from adv_jax.attacks.ead import ead
from adv_jax.attacks.evolution import fooling_images as fooling_images
from adv_jax.attacks.fab import fab
from adv_jax.attacks.gradient import fgsm, raw_gradient
from adv_jax.attacks.hop_skip_jump import hop_skip_jump
from adv_jax.attacks.jacobian import adv_alpha
from adv_jax.attacks.jacobian import class_jacobian as class_jacobian
from adv_jax.attacks.jsma import jsma
from adv_jax.attacks.lbfgs import feature_adversary as feature_adversary
from adv_jax.attacks.lbfgs import lbfgs
from adv_jax.attacks.minimum_norm import ddn, fmn
from adv_jax.attacks.momentum import mi_fgsm, vmi_fgsm
from adv_jax.attacks.noise import gaussian_noise, sign_noise, uniform_noise
from adv_jax.attacks.patch import adversarial_patch as adversarial_patch
from adv_jax.attacks.patch import place_patch as place_patch
from adv_jax.attacks.pgd import bim, pgd
from adv_jax.attacks.rubbish import rubbish
from adv_jax.attacks.square import square
from adv_jax.attacks.transferred import transferred
from adv_jax.attacks.transforms import input_diversity as input_diversity
from adv_jax.attacks.transforms import translation_invariance as translation_invariance
from adv_jax.attacks.universal import universal_perturbation as universal_perturbation
from adv_jax.attacks.virtual_adversarial import virtual_adversarial

# Names for configs: functions with the common signature.
__all__ = [
    "adv_alpha",
    "apgd",
    "auto_attack",
    "bim",
    "boundary",
    "carlini_wagner",
    "ddn",
    "deepfool",
    "ead",
    "fab",
    "fgsm",
    "fmn",
    "gaussian_noise",
    "hop_skip_jump",
    "jsma",
    "lbfgs",
    "mi_fgsm",
    "pgd",
    "raw_gradient",
    "rubbish",
    "sign_noise",
    "square",
    "transferred",
    "uniform_noise",
    "virtual_adversarial",
    "vmi_fgsm",
]
