"""Checks of the radius, of one number or of each feature, and of the mask."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from adv_jax import norms
from adv_jax.checks._values import broadcasts, radius
from adv_jax.types import (
    Array,
    Bounds,
    Mask,
    Norm,
    UserError,
    check_known,
    described,
    dtype_of,
    is_known,
    is_real,
    working_dtype,
)


class Ball(NamedTuple):
    """The ball ||r / scale|| <= radius of each row.

    radius: f32[1 or B, 1, ..., 1], to multiply f[B, *D]; None: no limit.
    scale: f32[1 or B, ...], of the rank of x and broadcast to it, in [0, 1]: the radius of each
      feature over the largest one; 0 for a feature that must not move. None: 1 everywhere.
    """

    radius: Array | None
    scale: Array | None


def ball(
    eps: Any,
    x: Array,
    norm: Norm,
    bounds: Bounds | None = None,
    mask: Mask | None = None,
    *,
    name: str = "eps",
    legal_norms: Sequence[str] = norms.CONVEX,
    optional: bool = False,
) -> Any:
    """Returns the `Ball` of an attack.

    Args:
      eps: a number, f32[B], or the radius of each feature, an array of the rank of x that
        broadcasts to it, whose width is not checked: it may be a multiple of any units. None: no
        limit.
      mask: bool, or 0 and 1, broadcast to x by NumPy's rules: what may be changed; None: all.
      legal_norms: those that the attack knows.
      optional: eps may be None.

    Raises:
      UserError: eps or mask of another shape or dtype; the attack does not know the norm, or it is
        l0 and eps is of each feature; where values are known: eps is negative or not finite, a mask
        has other numbers; and as `check_width`.
    """
    dtype = working_dtype(x.dtype)
    kind = norms.canonical(norm, among=legal_norms)
    allowed = None if mask is None else checked_mask(mask, x)
    if not is_per_feature(eps, x):
        free = optional and eps is None
        size = None if free else radius(eps, x, norm, bounds, name=name)
        return Ball(size, None if allowed is None else allowed.astype(dtype))
    if kind == "l0":
        raise UserError(f"{name} must be a number or f32[B] under l0, got {described(eps)}")
    if not broadcasts(eps, x.shape):
        shape = np.shape(eps)
        raise UserError(f"{name} must broadcast to x, {described(x)}, got the shape {shape}")
    norms.check_sizes(name, eps, dtype)
    each = jnp.asarray(eps, dtype)
    each = each if allowed is None else jnp.where(allowed, each, 0)
    largest = each.max(axis=tuple(range(1, x.ndim)), keepdims=True)
    return Ball(largest, each / jnp.where(largest == 0, 1, largest))


def checked_mask(mask: Any, x: Array) -> Array:
    """Returns a mask as bool[...], of the rank of x.

    Raises:
      UserError: neither bool nor numbers, or it does not broadcast to x; a known number is neither
        0 nor 1.
    """
    is_bool = jnp.issubdtype(dtype_of(mask), jnp.bool_)
    if not (is_bool or is_real(mask)) or not broadcasts(mask, x.shape):
        raise UserError(
            f"mask must be bool or 0 and 1, broadcast to x, {described(x)}, got {described(mask)}"
        )
    if is_known(mask) and not is_bool:
        check_known("mask", mask, lambda number: (number == 0) | (number == 1), "0 or 1")
    mask = jnp.asarray(mask).astype(bool)
    return mask.reshape(*(1,) * (x.ndim - mask.ndim), *mask.shape)


def is_per_feature(eps: Any, x: Array) -> bool:
    """Returns whether eps has the rank of x and an axis of features; f32[B, 1, ..., 1] has none."""
    shape = np.shape(eps) if is_real(eps) else ()
    return len(shape) == x.ndim and any(size != 1 for size in shape[1:])
