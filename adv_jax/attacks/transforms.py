"""Wrappers of a model for examples that transfer: random resizing and smoothed gradients."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from adv_jax.attacks._images import check_images, within_range
from adv_jax.attacks.defenses import averaged, identity, straight_through
from adv_jax.checks import check_function, checked_number, is_whole, own_keywords
from adv_jax.types import Array, Key, LogitsFn, UserError, working_dtype


@own_keywords
def input_diversity(
    logits_fn: LogitsFn, *, prob: float = 0.5, smallest: float = 0.9, seed: int = 0
) -> LogitsFn:
    """Input diversity (DI): the model of an image that is randomly shrunk and padded.

        logits(x) = f(pad(resize(x)))  with probability prob, else f(x)

    The sides shrink by the same factor, drawn uniformly between `smallest` and 1, to whole pixels,
    by bilinear interpolation; zeros around fill the image up to its size, at a place drawn
    uniformly. As in `expectation`, the draws of a row derive from the bits of its numbers, so each
    step of an attack has fresh draws and rows are independent.

    Args:
      logits_fn: f[B, h, w] or f[B, h, w, c] -> f[B, K], or (x, aux) -> f[B, K].
      prob: probability of a transformation, in [0, 1].
      smallest: the smallest share of each side, in (0, 1].
      seed: of the draws.

    Returns:
      x -> f[B, K], or (x, aux) -> f[B, K]: a logits_fn for every attack that takes gradients.

    Raises:
      UserError: prob or smallest out of range; when called: x is not a batch of images.

    Source: [xie2019], which pads to a larger image; the size is kept as in torchattacks.

    >>> total = input_diversity(lambda x: x.sum((1, 2))[:, None], prob=1., smallest=.5)
    >>> bool((total(jnp.ones((3, 8, 8))) < 64).any())  # Some of the image is padding.
    True
    """
    check_function(logits_fn)
    prob = checked_number("prob", prob, "[0, 1]")
    checked_number("smallest", smallest, "(0, 1]")

    def drawn(x: Array, *rest: Any) -> Array:
        *aux, key = rest
        key_coin, key_image = jax.random.split(key)
        changed = _shrunk(key_image, x[0], smallest)[None]
        return logits_fn(jnp.where(jax.random.bernoulli(key_coin, prob), changed, x), *aux)

    fn = averaged(drawn, num_samples=1, seed=seed, name="logits_fn")

    def diverse(x: Array, *aux: Any) -> Array:
        x = jnp.asarray(x)
        check_images(x, "input_diversity")
        return fn(x, *aux)

    return diverse


@own_keywords
def translation_invariance(
    logits_fn: LogitsFn, *, kernel_size: int = 15, sigma: float | None = None
) -> LogitsFn:
    """Translation invariance (TI): the model whose gradient is smoothed by a Gaussian kernel.

        logits(x) = f(x),   d logits / dx := W * (df / dx),   W_ij ~ exp(-(i^2 + j^2) / (2 sigma^2))

    The smoothed gradient is about the mean gradient of the translated images, weighted by W. Each
    channel is smoothed alone, with zeros around the image, and the weights sum to 1.

    Args:
      logits_fn: f[B, h, w] or f[B, h, w, c] -> f[B, K], or (x, aux) -> f[B, K].
      kernel_size: side of the kernel in pixels, odd.
      sigma: standard deviation in pixels, > 0; None: (kernel_size - 1) / 6.

    Returns:
      x -> f[B, K], or (x, aux) -> f[B, K]: a logits_fn for every attack that takes gradients.

    Raises:
      UserError: kernel_size or sigma out of range; when called: x is not a batch of images.

    Source: [dong2019], sec. 3.2; sigma from the authors' program, whose kernel ends at 3 sigma.

    >>> smooth = translation_invariance(lambda x: x[:, 1, 1:], kernel_size=3, sigma=1.)
    >>> np.asarray(jax.grad(lambda x: smooth(x).sum())(jnp.zeros((1, 3, 2)))).round(2)
    array([[[0.08, 0.12],
            [0.12, 0.2 ],
            [0.08, 0.12]]], dtype=float32)
    """
    check_function(logits_fn)
    if not is_whole(kernel_size) or kernel_size < 1 or kernel_size % 2 == 0:
        raise UserError(f"kernel_size must be an odd whole number, got {kernel_size!r}")
    sigma = checked_number("sigma", sigma, "(0, inf)", optional=True)
    reach = int(kernel_size) // 2
    width = max(reach, 1) / 3 if sigma is None else sigma
    smoothed = straight_through(identity, lambda x: _blurred(x, reach, width))

    def invariant(x: Array, *aux: Any) -> Array:
        x = jnp.asarray(x)
        check_images(x, "translation_invariance")
        return logits_fn(smoothed(x), *aux)

    return invariant


def _shrunk(key: Key, image: Array, smallest: ArrayLike) -> Array:
    """Draws a size and a place; returns the image f[h, w, ...] at them, with zeros around."""
    share, *places = jax.random.uniform(key, (3,), working_dtype(image.dtype))
    sides = jnp.asarray(image.shape[:2], share.dtype)
    low = jnp.asarray(smallest, share.dtype)
    sizes = jnp.maximum(jnp.round(sides * (low + share * (1 - low))), 1)
    offsets = jnp.floor(jnp.stack(places) * (sides - sizes + 1))
    shrunk = jax.image.scale_and_translate(
        image.astype(share.dtype),
        image.shape,
        (0, 1),
        sizes / sides,
        offsets,
        method="linear",
        antialias=False,
    )
    padded = jnp.pad(image.astype(share.dtype).ravel(), (0, 1))  # Zeros are around it.
    return within_range(shrunk, padded).astype(image.dtype)


def _blurred(x: Array, reach: int, sigma: float) -> Array:
    """Convolves the axes 1 and 2 of f[B, h, w, ...] with a Gaussian, with zeros around."""
    weights = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    dtype = working_dtype(x.dtype)
    blurred = x.astype(dtype)
    for axis in (1, 2):
        # A product with a band matrix: XLA's convolutions are slow in loops on CPUs.
        size = x.shape[axis]
        offset = np.subtract.outer(np.arange(size), np.arange(size)) + reach
        inside = (offset >= 0) & (offset < len(weights))
        band = np.where(inside, weights[np.clip(offset, 0, 2 * reach)], 0)
        moved = jnp.moveaxis(blurred, axis, -1) @ jnp.asarray(band, dtype)
        blurred = jnp.moveaxis(moved, -1, axis)
    return blurred.astype(x.dtype)
