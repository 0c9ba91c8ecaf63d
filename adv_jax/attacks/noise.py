"""Random perturbations, the controls of attacks.

They have an attack's signature; `logits_fn`, `y` and `aux` are ignored. `key` is one key, or
key[B], one per row (`random.row_keys`). The result is f[B, *D] in the dtype of x, constant.
"""

import jax
from jax.typing import ArrayLike

from adv_jax import norms
from adv_jax.attacks._attack import attack
from adv_jax.attacks._traits import NOISE
from adv_jax.checks import ball
from adv_jax.perturbations import of_units, perturbed
from adv_jax.random import draw_rows, row_keys
from adv_jax.types import Array, Bounds, Key, LogitsFn, Mask, Norm, RowTree, working_dtype


@attack(size="std", rank=NOISE, needs_key=True)
def gaussian_noise(
    logits_fn: LogitsFn | None,
    x: Array,
    y: Array | None,
    *,
    std: ArrayLike,
    bounds: Bounds | None = None,
    mask: Mask | None = None,
    aux: RowTree | None = None,
    key: Key,
) -> Array:
    """Returns x + std * n, n standard normal, independent in every entry.

    Args:
      std: standard deviation, f32[] or f32[B], >= 0, in units of x, or of each feature.
      bounds, mask: as in `fgsm`.

    Raises:
      UserError: key=None; x, std or key of a wrong shape, dtype or range.

    Source: the "noise" samples of the shallow-net thesis, pp. 31, 33; [maronas2016], N(0, .3), .3
    the standard deviation.

    >>> import jax.numpy as jnp
    >>> gaussian_noise(None, jnp.zeros((2, 3)), None, std=.3, key=jax.random.key(0)).shape
    (2, 3)
    """
    noise = _draw(jax.random.normal, key, x)
    std, scale = ball(std, x, "linf", mask=mask, name="std")
    return perturbed(x, std * of_units(noise, scale), bounds)


@attack(norm="linf", rank=NOISE, needs_key=True)
def sign_noise(
    logits_fn: LogitsFn | None,
    x: Array,
    y: Array | None,
    *,
    eps: ArrayLike,
    bounds: Bounds | None = None,
    mask: Mask | None = None,
    aux: RowTree | None = None,
    key: Key,
) -> Array:
    """Returns x + eps or x - eps with equal probability, independent in every entry.

    Args:
      eps: size of each change, f32[] or f32[B], >= 0, in units of x, or of each feature.
      bounds, mask: as in `fgsm`.

    Raises:
      UserError: key=None; x, eps or key of a wrong shape, dtype or range.

    Source: the control of [maronas2016], sec. 5.4 (tau * sign of a normal draw).

    >>> import jax.numpy as jnp
    >>> x_adv = sign_noise(None, jnp.zeros((1, 8)), None, eps=.5, key=jax.random.key(0))
    >>> jnp.unique(x_adv)
    Array([-0.5,  0.5], dtype=float32)
    """
    signs = _draw(jax.random.rademacher, key, x)
    eps, scale = ball(eps, x, "linf", bounds, mask)
    return perturbed(x, eps * of_units(signs, scale), bounds)


@attack(rank=NOISE, needs_key=True)
def uniform_noise(
    logits_fn: LogitsFn | None,
    x: Array,
    y: Array | None,
    *,
    eps: ArrayLike,
    norm: Norm = "linf",
    bounds: Bounds | None = None,
    mask: Mask | None = None,
    aux: RowTree | None = None,
    key: Key,
) -> Array:
    """Returns x + r, r uniform in the ball of radius eps; linf: each entry in [-eps, eps].

    Args:
      eps: radius of the ball, as in `fgsm`.
      norm: "linf", "l2", "l1", "rms" or an alias (`norms.canonical`).
      bounds, mask: as in `fgsm`.

    Raises:
      UserError: key=None; unknown norm; x, eps or key of a wrong shape, dtype or range.

    Source: the random start of PGD, [madry2018], as a control; [barthe2005] (how it is drawn).

    >>> import jax.numpy as jnp
    >>> x_adv = uniform_noise(None, jnp.zeros((1, 8)), None, eps=.5, key=jax.random.key(0))
    >>> bool(jnp.abs(x_adv).max() <= .5)
    True
    """
    eps, scale = ball(eps, x, norm, bounds, mask)
    return perturbed(x, eps * norms.sample(key, x, 1.0, norm, scale), bounds)


def _draw(distribution, key: Key, x: Array) -> Array:
    """Draws f32[B, *D] from `distribution(key, shape, dtype)`, with one key per row."""
    dtype = working_dtype(x.dtype)
    return draw_rows(distribution, row_keys(key, x.shape[0]), x.shape[1:], dtype)
