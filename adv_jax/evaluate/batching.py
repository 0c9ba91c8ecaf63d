"""Maps functions of rows over a data set of N rows, in batches, on one or more devices."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Progress = Callable[[Any, str], Iterable[Any]]  # (batches, description) -> batches


def silent(batches: Any, _: str) -> Iterable[Any]:
    """Shows no progress; `tqdm.tqdm` and `rich.progress.track` have the same signature."""
    return batches


def over_rows(fn: Callable[..., Any], arrays: Any, *, batch_size: int) -> Any:
    """Maps fn over N rows, in batches, by `lax.map`; traceable.

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
    values = jax.lax.map(lambda rows: fn(*_take(arrays, rows)), jnp.asarray(index))

    def joined(value):
        return jnp.moveaxis(value, 0, -2).reshape(*value.shape[1:-1], -1)[..., :size]

    return jax.tree.map(joined, values)


def over_batches(
    fn: Callable[..., Any],
    arrays: Any,
    *,
    batch_size: int,
    progress: Progress = silent,
    description: str = "",
) -> Any:
    """Maps fn over N rows on all local devices, in a loop on the host that shows its progress.

    Args:
      fn: as in `over_rows`, over a leading axis of devices (`step.over_devices`).
      batch_size: largest number of rows of a batch on each device.
      progress: wraps the list of batches, with `description`.

    Returns:
      A tree of NumPy f[..., N].

    >>> over_batches(jax.pmap(lambda x: 2 * x), (jnp.arange(5),), batch_size=2)
    array([0, 2, 4, 6, 8], dtype=int32)
    """
    devices = jax.local_device_count()
    index, size = _batches(arrays, batch_size, multiple=devices)
    index = index.reshape(-1, devices, index.shape[1])
    values = [jax.device_get(fn(*_take(arrays, rows))) for rows in progress(index, description)]

    def joined(*parts):  # Each f[devices, ..., b].
        return np.concatenate([batch for part in parts for batch in part], axis=-1)[..., :size]

    return jax.tree.map(joined, *values)


def _batches(arrays: Any, batch_size: int, *, multiple: int = 1) -> tuple[np.ndarray, int]:
    """Returns the row indices of each batch, i32[batches, b], with the smallest padding, and N.

    multiple: the number of batches is a multiple of this.
    """
    size = len(jax.tree.leaves(arrays)[0])
    count = -(-size // (batch_size * multiple)) * multiple
    rows = np.arange(count * -(-size // count), dtype=np.int32)
    return np.where(rows < size, rows, 0).reshape(count, -1), size


def _take(arrays: Any, rows: Any) -> Any:
    return jax.tree.map(lambda array: array[rows], arrays)
