"""Random crops and mirror images, drawn for each batch on the device."""

import jax
import jax.numpy as jnp

from adv_jax.types import Array, Key


def augmented(
    key: Key, x: Array, shape: tuple[int, ...], *, pad: int = 0, mirror: bool = False
) -> Array:
    """Crops images to `shape` and mirrors them, at random: f[B, H, W, C] -> f[B, *shape].

    pad: zeros added around the images before the crop.
    """
    key_crop, key_mirror = jax.random.split(key)
    if pad:
        x = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    if x.shape[1:] != shape:
        x = random_crop(key_crop, x, shape)
    return random_mirror(key_mirror, x) if mirror else x


def center_crop(x: Array, shape: tuple[int, ...]) -> Array:
    """Crops the center of each image: f[B, H, W, C] -> f[B, *shape]; odd pixels go at the end.

    >>> center_crop(jnp.arange(4.).reshape(1, 1, 4, 1), (1, 2, 1)).ravel()
    Array([1., 2.], dtype=float32)
    """
    top, left = ((old - new) // 2 for old, new in zip(x.shape[1:3], shape, strict=False))
    return x[:, top : top + shape[0], left : left + shape[1]]


def random_crop(key: Key, x: Array, shape: tuple[int, ...]) -> Array:
    """Crops each image at a uniformly random position: f[B, H, W, C] -> f[B, *shape]."""

    def crop(key: Key, image: Array) -> Array:
        last = [old - new for old, new in zip(image.shape, shape, strict=True)]
        start = jax.random.randint(key, (len(last),), 0, jnp.array(last) + 1)
        return jax.lax.dynamic_slice(image, start, shape)

    return jax.vmap(crop)(jax.random.split(key, len(x)), x)


def random_mirror(key: Key, x: Array) -> Array:
    """Flips each image f[B, H, W, C] horizontally with probability 1/2."""
    flips = jax.random.bernoulli(key, jnp.float32(0.5), (len(x), 1, 1, 1))
    return jnp.where(flips, x[:, :, ::-1], x)
