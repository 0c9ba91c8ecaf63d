"""Check of attacks that need images."""

from adv_jax.checks import dtype_and_shape
from adv_jax.types import Array, UserError


def check_images(x: Array, name: str) -> None:
    """Raises UserError, naming the function, unless x is f[B, h, w] or f[B, h, w, c]."""
    if x.ndim not in (3, 4):
        raise UserError(
            f"x must be images f[B, h, w] or f[B, h, w, c] for {name}, got {dtype_and_shape(x)}"
        )
