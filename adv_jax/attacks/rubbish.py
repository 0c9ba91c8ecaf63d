"""Rubbish class examples: inputs that belong to no class."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from adv_jax.attacks._attack import attack
from adv_jax.attacks._lengths import row_limits
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
    std: ArrayLike | None = None,
    bounds: Bounds | None = None,
    mask: Mask | None = None,
    aux: RowTree | None = None,
    key: Key,
) -> Array:
    """Returns Gaussian noise in place of x: std * n, n standard normal in every entry.

    Goodfellow's fooling images are one step from here toward a class:
    `fgsm(logits_fn, rubbish(...), y, eps=..., targeted=True)`.

    Args:
      std: standard deviation, as in `gaussian_noise`. None: lo + (hi - lo) * n, of the bounds or,
        where they are not finite, of the row's range: in [0, 1] it is 1, as in the paper.
      bounds: as in `fgsm`; None, as in the paper.
      mask: as in `fgsm`: x stays elsewhere.
      key: one key, or key[B], one per row (`random.row_keys`).
      logits_fn, y, aux: not used; every attack accepts them.

    Returns:
      f[B, *D] in the dtype of x, constant.

    Raises:
      UserError: key=None; x, std or key of a wrong shape, dtype or range.

    Sources: [goodfellow2015], appendix on rubbish class examples, with std 1;
    [wardefarley2016], sec. 1.2.6.

    >>> noise = rubbish(None, jnp.ones((1, 10_000)), None, key=jax.random.key(0))
    >>> round(float(noise.mean()), 1), round(float(noise.std()), 1)
    (0.0, 1.0)
    """
    check_bounds(bounds, np.shape(x))
    size = 1.0 if std is None else std
    noise = gaussian_noise(logits_fn, jnp.zeros_like(x), y, std=size, key=key)
    if std is None:
        lo, hi = jax.lax.stop_gradient(row_limits(jnp.asarray(x), bounds))
        noise = (lo + (hi - lo) * noise.astype(lo.dtype)).astype(noise.dtype)
    noise = noise if bounds is None else jnp.clip(noise, *limits(noise, bounds))
    return noise if mask is None else jnp.where(checked_mask(mask, noise), noise, x)
