"""Checks of keys, and faster `jax.random.normal` and `jax.random.bernoulli` of the same numbers.

XLA:CPU runs jax.random's Threefry as five passes over the array. Here its rounds and the
transformation to normals fuse into one pass.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adv_jax.types import Array, Key, UserError, check_known, described, dtype_of, is_known

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)


def one_key(key: Key | None) -> Key:
    """Returns a key[] as it is, and a legacy uint32 key as a key[].

    Raises:
      UserError: key is None, no PRNG key, or more than one.
    """
    found = _wrapped(key)
    if found is None or found.ndim != 0:
        raise UserError(f"key must be one key of jax.random, got {described(key)}")
    return found


def row_keys(key: Key | None, batch: int, *, first: int = 0) -> Key:
    """Returns one key per row: key[] or key[B] -> key[B]; legacy uint32 keys are accepted.

    With one key, the draws of row i depend on the key and i. With one key per example, the draws
    stay with the example when a batch is permuted, split or padded.

    Args:
      key: one key, or one key per row.
      batch: B.
      first: index of the first row, which one key is folded with.

    Raises:
      UserError: key is None, no PRNG key, or of another shape.
    """
    found = key_of_rows(key, batch)
    if found.ndim == 0:
        return jax.vmap(jax.random.fold_in, (None, 0))(found, jnp.arange(first, first + batch))
    return found


def key_of_rows(key: Key | None, batch: int) -> Key:
    """Returns key[] or key[B] as it is, and legacy uint32 keys as typed ones.

    Raises:
      UserError: as `row_keys`.
    """
    found = _wrapped(key)
    if found is None:
        wanted = "key must be jax.random.key(seed) or one key per row"
        raise UserError(f"{wanted}, got {described(key)}")
    if found.shape not in ((), (batch,)):
        raise UserError(f"key must be one key or key[B] with B = {batch}, got {found.shape}")
    return found


def fold_in_rows(keys: Key, data: Array | int) -> Key:
    """Returns new keys of the rows for a step: key[B] and i32[] -> key[B]."""
    return jax.vmap(jax.random.fold_in, (0, None))(keys, data)


def split_rows(keys: Key, num: int = 2) -> Key:
    """Splits the key of each row: key[B] -> key[num, B]."""
    return jax.vmap(jax.random.split, (0, None), 1)(keys, num)


def draw_rows(
    distribution: Callable[..., Array], keys: Key, shape: tuple[int, ...], dtype: Any
) -> Array:
    """Draws distribution(key, shape, dtype) with the key of each row: key[B] -> [B, *shape]."""
    return jax.vmap(lambda key: distribution(key, shape, dtype))(keys)


def normal(key: Key, shape: tuple[int, ...], *, block: Array | int = 0, start: int = 0) -> Array:
    """Returns standard normal f32[shape], by default bit for bit those of jax.random.normal.

    A key has 2^32 blocks of 2^32 numbers each, of which `start` skips some: several draws of one
    key are independent if they do not overlap, and need no keys of their own.

    Args:
      key: a threefry key, as made by jax.random.key(seed).
      shape: with fewer than 2^32 entries.
      block: i32[] or u32[].
      start: the index of the first number in its block; start + entries <= 2^32.

    Raises:
      UserError: the key is not a threefry key; a known `block` or `start` is out of its range.
    """
    size = math.prod(shape)
    _check_to(2**32 - 1, "block", block)
    _check_to(2**32 - size, "start", start)
    # Scale to the open interval (-1, 1).
    low = jnp.nextafter(jnp.float32(-1), jnp.float32(0))
    unit = _unit(_words(key), size, jnp.uint32(block), jnp.uint32(start))
    uniform = jnp.maximum(low, unit * (1 - low) + low)
    return (jnp.float32(math.sqrt(2)) * jax.lax.erf_inv(uniform)).reshape(shape)


def bernoulli(key: Key, p: float, shape: tuple[int, ...]) -> Array:
    """Returns bool[shape], True with probability p, bit for bit those of jax.random.bernoulli.

    Args:
      key, shape: as in `normal`.
      p: in [0, 1].

    Raises:
      UserError: the key is not a threefry key; a known p is not in [0, 1].
    """
    _check_to(1, "p", p)
    zero = jnp.uint32(0)
    return (_unit(_words(key), math.prod(shape), zero, zero) < jnp.float32(p)).reshape(shape)


# jit keeps the trace of its hundred operations for each size.
@partial(jax.jit, static_argnames="size")
def _unit(words: Array, size: int, block: Array, start: Array) -> Array:
    """Returns uniform f32[size] in [0, 1): the 23 high bits give a float in [1, 2)."""
    mantissa = (_bits(words, size, block, start) >> 9) | jnp.uint32(0x3F800000)
    return jax.lax.bitcast_convert_type(mantissa, jnp.float32) - 1


def _bits(words: Array, size: int, block: Array, start: Array) -> Array:
    """u32[size]: both words of Threefry-2x32 of each index, joined.  [salmon2011]"""
    schedule = (words[0], words[1], words[0] ^ words[1] ^ _PARITY)
    # The words of the counter, of 64 bits.
    a = jnp.full((size,), schedule[0] + block)
    b = jnp.arange(size, dtype=jnp.uint32) + (schedule[1] + start)
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            a = a + b
            b = a ^ ((b << rotation) | (b >> (32 - rotation)))
        a = a + schedule[(group + 1) % 3]
        b = b + schedule[(group + 2) % 3] + jnp.uint32(group + 1)
    return a ^ b


def check_seed(seed: Any) -> None:
    """Raises UserError unless a seed is one whole number that int32 holds.

    JAX drops bits beyond 32, so that different seeds would be one.
    """
    is_integer = jnp.issubdtype(dtype_of(seed), jnp.integer) and np.ndim(seed) == 0
    if not is_integer or (is_known(seed) and not -(2**31) <= int(seed) < 2**31):
        allowed = f"a whole number from {-(2**31)} to {2**31 - 1}"
        raise UserError(f"seed must be {allowed}, got {described(seed)}")


def _check_to(high: int, name: str, value: Any) -> None:
    """Raises UserError for a known number outside [0, high]."""
    check_known(name, value, lambda n: (n >= 0) & (n <= high), f"a number from 0 to {high}")


def _words(key: Any) -> Array:
    """Returns the words u32[2] of a threefry key; raises UserError for all else."""
    found = _wrapped(key)
    if found is None or (words := jax.random.key_data(found)).shape != (2,):
        raise UserError(f"key must be one threefry key, got {described(key)}")
    return words


def _wrapped(key: Any) -> Key | None:
    """Returns keys of any kind as typed ones; None if they are no keys."""
    if hasattr(key, "dtype") and jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        return key
    try:
        return jax.random.wrap_key_data(key)
    except (AttributeError, TypeError, ValueError):
        return None
