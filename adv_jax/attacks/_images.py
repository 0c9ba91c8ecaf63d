"""Checks and operations of attacks that need images."""

import jax
import jax.numpy as jnp

from adv_jax.types import Array, UserError, described


def check_images(x: Array, name: str) -> None:
    """Raises UserError, naming the function, unless x is f[B, h, w] or f[B, h, w, c]."""
    if x.ndim not in (3, 4):
        raise UserError(
            f"x must be images f[B, h, w] or f[B, h, w, c] for {name}, got {described(x)}"
        )


def within_range(interpolated: Array, source: Array) -> Array:
    """Returns values interpolated from a source, without the rounding that leaves its range.

    The derivative is that of the values.
    """
    source = jax.lax.stop_gradient(source)
    clipped = jnp.clip(interpolated, source.min(), source.max())
    return interpolated + jax.lax.stop_gradient(clipped - interpolated)
