"""Maps functions of rows over a data set of N rows, in batches, on one or more devices.

The devices are all local ones, or those of the mesh on which x lies.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from adv_jax.evaluate.progress import Progress, silent
from adv_jax.meshes import automatic
from adv_jax.programs import run_compiled
from adv_jax.types import Array


def over_rows(fn: Callable[..., Any], arrays: Any, *, batch_size: int) -> Any:
    """Maps fn over N rows, in batches, by `lax.map`; traceable, and compiled once otherwise.

    Args:
      fn: (*batches f[b, ...]) -> a tree of f[..., b], rows last; rows must not interact.
      arrays: a tuple of f[N, ...], N >= 1, or None, which is passed on.
      batch_size: largest number of rows of a batch. All batches have the same size b; the last is
        padded with copies of the first row, whose results are dropped.

    Returns:
      The tree of f[..., N].

    >>> over_rows(lambda x: 2 * x, (jnp.arange(5),), batch_size=2)
    Array([0, 2, 4, 6, 8], dtype=int32)
    """
    arrays = jax.tree.map(jnp.asarray, arrays)
    index, size = _batches(arrays, batch_size)

    def joined(value: Array) -> Array:
        return jnp.moveaxis(value, 0, -2).reshape(*value.shape[1:-1], -1)[..., :size]

    def mapped(arrays: Any) -> Any:
        values = jax.lax.map(lambda rows: fn(*_take(arrays, rows)), jnp.asarray(index))
        return jax.tree.map(joined, values)

    return run_compiled(mapped, arrays)


def mesh_sharding(x: Any) -> NamedSharding | None:
    """Returns the sharding of x if it lies on a mesh of several devices, else None."""
    sharding = getattr(x, "sharding", None)
    on_mesh = isinstance(sharding, NamedSharding) and sharding.mesh.size > 1
    return sharding if on_mesh else None


def row_shards(x: Any) -> int:
    """Returns over how many devices the rows of x are split: all local ones, or by its mesh."""
    if (sharding := mesh_sharding(x)) is None:
        return jax.local_device_count()
    return len(x) // sharding.shard_shape(x.shape)[0]


def over_batches(
    fn: Callable[..., Any],
    arrays: Any,
    *,
    batch_size: int,
    full: bool = False,
    progress: Progress = silent,
    description: str = "",
) -> Any:
    """Maps fn over N rows on several devices, in a loop on the host that shows its progress.

    Args:
      fn: as in `over_rows`, over a leading axis of parts (`compiled.Batched`).
      arrays: as in `over_rows`; the first one's sharding is that of each batch.
      batch_size: largest number of rows of a batch on each device.
      full: pads each batch to batch_size rows, so that data of any size share one program.
      progress: wraps the list of batches, with `description`.

    Returns:
      A tree of NumPy f[..., N].

    >>> over_batches(jax.pmap(lambda x: 2 * x), (jnp.arange(5),), batch_size=2)
    array([0, 2, 4, 6, 8], dtype=int32)
    """
    index, taken, size = _placed_batches(arrays, batch_size, full=full)
    values = [jax.device_get(fn(*taken(rows))) for rows in progress(index, description)]

    def joined(*parts):  # Each f[parts, ..., b].
        return np.concatenate([batch for part in parts for batch in part], axis=-1)[..., :size]

    return jax.tree.map(joined, *values)


def first_batch(arrays: Any, *, batch_size: int, full: bool) -> tuple[Any, ...]:
    """Returns what `over_batches` gives to fn first."""
    index, taken, _ = _placed_batches(arrays, batch_size, full=full)
    return taken(index[0])


def _placed_batches(
    arrays: Any, batch_size: int, *, full: bool
) -> tuple[np.ndarray, Callable[[np.ndarray], tuple[Any, ...]], int]:
    """Returns the row indices of each batch of all devices, what takes these rows, and N."""
    sharding, shards = mesh_sharding(arrays[0]), row_shards(arrays[0])
    index, size = _batches(arrays, batch_size, multiple=shards, full=full)
    if sharding is None:
        return index.reshape(-1, shards, index.shape[1]), partial(_take, arrays), size
    index = index.reshape(-1, 1, shards * index.shape[1])
    return index, partial(_placed, sharding, arrays), size


def _batches(
    arrays: Any, batch_size: int, *, multiple: int = 1, full: bool = False
) -> tuple[np.ndarray, int]:
    """Returns the row indices of each batch, i32[batches, b], and N.

    multiple: the number of batches is a multiple of this.
    full: b is batch_size; else the padding is the smallest.
    """
    size = len(jax.tree.leaves(arrays)[0])
    count = -(-size // (batch_size * multiple)) * multiple
    rows = np.arange(count * (batch_size if full else -(-size // count)), dtype=np.int32)
    return np.where(rows < size, rows, 0).reshape(count, -1), size


def _placed(sharding: NamedSharding, arrays: tuple[Any, ...], rows: np.ndarray) -> tuple[Any, ...]:
    """Returns rows i32[1, b] of the arrays, sharded as x, the first of them."""
    by_rows = (*sharding.spec, None)[:1]
    specs = [sharding.spec, *[by_rows] * (len(arrays) - 1)]

    def placed(array: Array, spec: Any) -> Array:
        target = NamedSharding(sharding.mesh, PartitionSpec(None, *spec))
        take = automatic(lambda array, rows: array[rows], target)
        return jax.jit(take, out_shardings=target)(array, rows)

    parts = zip(arrays, specs, strict=True)
    return tuple(jax.tree.map(partial(placed, spec=spec), array) for array, spec in parts)


def _take(arrays: Any, rows: Any) -> Any:
    return jax.tree.map(lambda array: array[rows], arrays)
