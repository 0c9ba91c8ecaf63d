"""Perturbations of inputs: `attack(logits_fn, x, y, *, ..., key=None) -> x_adv`.

All are pure functions that work under jit, vmap and scan; they keep the promises of
`adv_jax.attacks.contract`.
"""

from adv_jax.attacks.gradient import fgsm, raw_gradient
from adv_jax.attacks.noise import gaussian_noise, sign_noise, uniform_noise
from adv_jax.attacks.pgd import pgd

__all__ = ["fgsm", "gaussian_noise", "pgd", "raw_gradient", "sign_noise", "uniform_noise"]
