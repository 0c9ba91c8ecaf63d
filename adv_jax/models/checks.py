"""Checks that models of images with a code share."""

from collections.abc import Sequence

from adv_jax.types import Array


def check_latent(latent: int) -> None:
    """Raises ValueError if a code has no values."""
    if latent < 1:
        raise ValueError(f"model.latent must be at least 1, got {latent}")


def check_shape(x: Array, shape: Sequence[int]) -> None:
    """Raises ValueError if the inputs f[B, *D] have another shape than the model's images."""
    if x.shape[1:] != tuple(shape):
        raise ValueError(f"model.shape must be {x.shape[1:]}, the shape of x, got {tuple(shape)}")
