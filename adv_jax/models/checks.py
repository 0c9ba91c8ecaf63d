"""The checks of inputs that models share."""

from collections.abc import Sequence

import jax.numpy as jnp

from adv_jax.types import Array, UserError, described


def check_floats(x: Array) -> None:
    """Raises UserError unless x is a batch of floats f[B, *D], B and all of D at least 1."""
    if not jnp.issubdtype(x.dtype, jnp.floating) or not x.ndim or not x.size:
        raise UserError(
            f"x must be a batch of floats f[B, *D], B and all of D at least 1, got {described(x)}"
        )


def check_shape(x: Array, shape: Sequence[int]) -> None:
    """Checks a batch of a model's images.

    Raises:
      UserError: as `check_floats`, or D is not `shape`.
    """
    check_floats(x)
    if x.shape[1:] != tuple(shape):
        raise UserError(f"model.shape must be {x.shape[1:]}, the shape of x, got {tuple(shape)}")
