"""Masked sums over batches, so that exactly N examples count whatever the batch size."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from adv_jax.types import Array


def mean_over_rows(
    fn: Callable[..., Any], *arrays: Array, batch_size: int, key: Array | None = None
) -> Any:
    """The means of what fn computes for each row, over all N rows, in batches on the device.

    Args:
      fn: (*batches f[batch_size, ...], key) -> a tree of f32[..., batch_size], rows last.
      arrays: f[N, ...] each; the last batch is filled up by repeating the first row, and what fn
        gives for the filling is not counted.
      batch_size: rows at a time.
      key: batch i gets fold_in(key, i); None is passed on as None.

    Returns:
      The tree of f32[...]: sums over the N rows / N.
    """
    arrays = tuple(map(jnp.asarray, arrays))
    size = arrays[0].shape[0]
    batches = -(-size // batch_size)
    rows = jnp.arange(batches * batch_size)
    mask = (rows < size).reshape(batches, batch_size)
    rows = jnp.where(rows < size, rows, 0).reshape(batches, batch_size)

    def batch_sum(i):
        batch_key = None if key is None else jax.random.fold_in(key, i)
        values = fn(*(array[rows[i]] for array in arrays), batch_key)
        return jax.tree.map(lambda v: jnp.sum(jnp.where(mask[i], v, 0), axis=-1), values)

    sums = jax.lax.map(batch_sum, jnp.arange(batches))
    return jax.tree.map(lambda s: s.sum(0) / size, sums)
