"""Random crops, affine maps, morphology and mirror images, drawn for each batch on the device."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates

from adv_jax.annotations import parameters_of
from adv_jax.data.arguments import plain
from adv_jax.data.dataset import DataError
from adv_jax.random import one_key
from adv_jax.ranges import COUNT, Range, ranged
from adv_jax.types import Array, Key, described, dtype_of, is_known

_AFFINE = {"rotation": "[0, 180]", "zoom": "[0, 0.9]", "shear": "[0, inf)"}


@ranged(pad="{0, 1, ...}", morphology="{0, 1, ...}", **_AFFINE)
def augmented(
    key: Key,
    x: Array,
    shape: tuple[int, ...],
    *,
    pad: int = 0,
    mirror: bool = False,
    rotation: float = 0.0,
    zoom: float = 0.0,
    shear: float = 0.0,
    morphology: int = 0,
) -> Array:
    """Distorts images, crops them to `shape` and mirrors them, at random.

    Args:
      x: f[B, H, W, C]; of any rank if the settings change nothing.
      shape: (H', W', C) of the result f[B, H', W', C]; at most the size of the padded images.
      pad: zeros added around the images before the crop, fewer than a side of the crop has pixels;
        like `mirror` and `morphology` not traced.
      mirror: whether half of the images are mirrored.
      rotation, zoom, shear: as in `random_affine`; all 0: none.
      morphology: size of the window in `random_morphology`; 0: none.

    Raises:
      DataError: x are no images, or `shape` or `pad` does not fit them; mirror is no boolean.
      UserError: a setting is out of its range; key is not one PRNG key.
    """
    if not isinstance(mirror, bool | np.bool_):
        raise DataError(f"mirror must be True or False, got {described(mirror)}")
    key = one_key(key)
    key_crop, key_mirror = jax.random.split(key)
    # Split keys may equal the folded keys 0 and 1.
    key_affine, key_morphology = (jax.random.fold_in(key, i) for i in (2, 3))
    if morphology:
        x = random_morphology(key_morphology, x, morphology)
    if any(not is_known(most) or most for most in (rotation, zoom, shear)):
        x = random_affine(key_affine, x, rotation=rotation, zoom=zoom, shear=shear)
    if pad:
        _check_images(x)
        if pad >= min(shape[:2]):  # A crop might have no pixel of the image.
            side = f"below {min(shape[:2])}, the shorter side of a crop"
            raise DataError(f"pad must be {side}, got {pad}")
        x = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    if x.shape[1:] != tuple(shape):
        x = random_crop(key_crop, x, shape)
    return random_mirror(key_mirror, x) if mirror else x


# The settings of `augmented` and their values that change nothing.
OFF: dict[str, Any] = {
    name: setting.default
    for name, setting in parameters_of(augmented).items()
    if setting.kind is setting.KEYWORD_ONLY
}


def center_crop(x: Array, shape: tuple[int, ...]) -> Array:
    """Crops the center of each image: f[B, H, W, C] -> f[B, *shape]; odd pixels go at the end.

    Raises:
      DataError: x are no images, or larger ones of as many channels do not have this `shape`.

    >>> center_crop(jnp.arange(4.).reshape(1, 1, 4, 1), (1, 2, 1)).ravel()
    Array([1., 2.], dtype=float32)
    """
    height, width, _ = _checked_crop(x, shape)
    top, left = (x.shape[1] - height) // 2, (x.shape[2] - width) // 2
    return x[:, top : top + height, left : left + width]


def random_crop(key: Key, x: Array, shape: tuple[int, ...]) -> Array:
    """Crops each image at a uniformly random position: f[B, H, W, C] -> f[B, *shape].

    Raises:
      DataError: as `center_crop`.
      UserError: key is not one PRNG key.
    """
    shape = _checked_crop(x, shape)

    def crop(key: Key, image: Array) -> Array:
        last = [old - new for old, new in zip(image.shape, shape, strict=True)]
        start = jax.random.randint(key, (len(last),), 0, jnp.array(last) + 1)
        return jax.lax.dynamic_slice(image, start, shape)

    return jax.vmap(crop)(jax.random.split(one_key(key), len(x)), x)


def random_mirror(key: Key, x: Array) -> Array:
    """Flips each image f[B, H, W, C] horizontally with probability 1/2.

    Raises:
      DataError: x are no images.
      UserError: key is not one PRNG key.
    """
    _check_images(x)
    flips = jax.random.bernoulli(one_key(key), jnp.float32(0.5), (len(x), 1, 1, 1))
    return jnp.where(flips, x[:, :, ::-1], x)


@ranged(**_AFFINE)
def random_affine(key: Key, x: Array, *, rotation: float, zoom: float, shear: float) -> Array:
    """Turns, shears and scales each image f[B, H, W, C] about its center, by uniform draws.

    Args:
      rotation: largest angle either way, in degrees.
      zoom: largest change of the size, a fraction below 1: sizes are 1 - zoom to 1 + zoom.
      shear: largest shift of a row either way, in pixels per row above or below the center.

    Raises:
      DataError: x are no images.
      UserError: a setting is out of its range; key is not one PRNG key.
    """
    _check_floats(x)
    limits = jnp.array([jnp.deg2rad(rotation), zoom, shear], jnp.float32)
    draws = jax.random.uniform(one_key(key), (len(x), 3), jnp.float32, -1, 1) * limits[None]

    def matrix(draw: Array) -> Array:
        angle, change, slope = draw
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        turn = jnp.array([[cos, -sin], [sin, cos]])
        return turn @ jnp.array([[1, 0], [slope, 1]]) / (1 + change)

    return affine(x, jax.vmap(matrix)(draws))


def affine(x: Array, matrix: Array) -> Array:
    """Returns images whose pixel p is that of x at c + A (p - c), with c the center of the image.

    Interpolates linearly, with zeros outside.

    Args:
      x: f[B, H, W, C].
      matrix: A, f32[B, 2, 2], for (row, column).

    Raises:
      DataError: x are no images; `matrix` is not of their batch.
    """
    _check_floats(x)
    if getattr(matrix, "shape", ()) != (len(x), 2, 2):
        raise DataError(f"matrix must be f32[{len(x)}, 2, 2], got {described(matrix)}")
    center = [(size - 1) / 2 for size in x.shape[1:3]]
    axes = (jnp.arange(size, dtype=jnp.float32) for size in x.shape[1:3])
    away = jnp.stack(
        [p - c for p, c in zip(jnp.meshgrid(*axes, indexing="ij"), center, strict=True)]
    )

    def mapped(image: Array, matrix: Array) -> Array:
        at = [p + c for p, c in zip(jnp.tensordot(matrix, away, 1), center, strict=True)]
        drawn = jax.vmap(lambda channel: map_coordinates(channel, at, order=1), -1, -1)(image)
        # Rounding would leave the bounds of the image.
        return jnp.clip(drawn, jnp.minimum(image.min(), 0), jnp.maximum(image.max(), 0))

    return jax.vmap(mapped)(x, matrix)


@ranged(size=COUNT)
def random_morphology(key: Key, x: Array, size: int) -> Array:
    """Leaves, dilates, erodes, opens or closes each image f[B, H, W, C], each with probability 1/5.

    Opening is the dilation of the erosion, closing the erosion of the dilation.

    Args:
      size: height and width of the window.

    Raises:
      DataError: as `dilated`.
      UserError: as `dilated`; key is not one PRNG key.
    """
    key = one_key(key)
    wide, thin = dilated(x, size), eroded(x, size)
    forms = [x, wide, thin, dilated(thin, size), eroded(wide, size)]
    chosen = jax.random.randint(key, (len(x), 1, 1, 1), 0, len(forms))
    return jnp.select([chosen == i for i in range(len(forms))], forms)


@ranged(size=COUNT)
def dilated(x: Array, size: int) -> Array:
    """Returns the largest value in a size x size window around each pixel: f[B, H, W, C].

    A window of even size reaches one pixel further down and right, and that of `eroded` one pixel
    further up and left, as in SciPy.

    Raises:
      DataError: x are no images of floats.
      UserError: the size is no whole number of at least 1.
    """
    _check_floats(x)
    return _largest(x, (size - 1) // 2, size // 2)


@ranged(size=COUNT)
def eroded(x: Array, size: int) -> Array:
    """Returns the smallest value in a size x size window around each pixel; see `dilated`."""
    _check_floats(x)
    return -_largest(-x, size // 2, (size - 1) // 2)


def _largest(x: Array, before: int, after: int) -> Array:
    size, margin = before + 1 + after, (before, after)
    window, padding = (1, size, size, 1), ((0, 0), margin, margin, (0, 0))
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, (1, 1, 1, 1), padding)


def _check_images(x: Any) -> None:
    if getattr(x, "ndim", 0) != 4:
        raise DataError(f"x must be images [B, H, W, C], got {described(x)}")


def _check_floats(x: Any) -> None:
    """Raises DataError unless x is f[B, H, W, C]: integers have no negative infinity, and wrap."""
    if not jnp.issubdtype(dtype_of(x), jnp.floating) or getattr(x, "ndim", 0) != 4:
        raise DataError(f"x must be images of floats f[B, H, W, C], got {described(x)}")


def _checked_crop(x: Array, shape: Any) -> tuple[int, ...]:
    """Returns the shape of a crop, after checking that it fits into the images.

    Raises:
      DataError: x are no images, or the shape is not (H', W', C) of the same channels.
    """
    _check_images(x)
    sizes = [plain(size) for size in shape] if isinstance(shape, tuple | list) else []
    is_whole = all(map(Range.of(COUNT).allows, sizes)) and len(sizes) == 3
    channels = x.shape[3]
    if not is_whole or sizes[2] != channels or sizes[0] > x.shape[1] or sizes[1] > x.shape[2]:
        allowed = f"(height, width, {channels}) from (1, 1, {channels}) to {x.shape[1:]}"
        raise DataError(f"shape must be {allowed}, got {described(shape)}")
    return tuple(sizes)
