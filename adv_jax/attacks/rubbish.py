"""Rubbish class examples: inputs that belong to no class."""

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from adv_jax.attacks._attack import attack
from adv_jax.attacks._traits import NOISE
from adv_jax.attacks.noise import gaussian_noise
from adv_jax.checks import check_bounds, checked_mask
from adv_jax.perturbations import limits
from adv_jax.types import Array, Bounds, Key, LogitsFn, Mask, RowTree


@attack(size="std", rank=NOISE, needs_key=True, compiles=False)
def rubbish(
    logits_fn: LogitsFn | None,
    x: Array,
    y: Array | None,
    *,
    std: ArrayLike = 1.0,
    bounds: Bounds | None = None,
    mask: Mask | None = None,
    aux: RowTree | None = None,
    key: Key,
) -> Array:
    """Returns Gaussian noise in place of x: std * n, n standard normal in every entry.

    Without a mask only the shape and dtype of x are used. Goodfellow's fooling images are one step
    from here toward a class: `fgsm(logits_fn, rubbish(...), y, eps=..., targeted=True)`.

    Args:
      std: standard deviation, as in `gaussian_noise`.
      bounds: as in `fgsm`; None, as in the paper.
      mask: as in `fgsm`: x stays elsewhere.
      key: one key, or key[B], one per row (`random.row_keys`).
      logits_fn, y, aux: not used; every attack accepts them.

    Returns:
      f[B, *D] in the dtype of x, constant.

    Raises:
      ValueError: key=None; x, std or key of a wrong shape, dtype or range.

    Sources: [goodfellow2015], appendix on rubbish class examples, with std 1;
    [wardefarley2016], sec. 1.2.6.

    >>> import jax
    >>> noise = rubbish(None, jnp.ones((1, 10_000)), None, key=jax.random.key(0))
    >>> round(float(noise.mean()), 1), round(float(noise.std()), 1)
    (0.0, 1.0)
    """
    del aux
    check_bounds(bounds, np.shape(x))
    noise = gaussian_noise(logits_fn, jnp.zeros_like(x), y, std=std, key=key)
    noise = noise if bounds is None else jnp.clip(noise, *limits(noise, bounds))
    return noise if mask is None else jnp.where(checked_mask(mask, noise), noise, x)
