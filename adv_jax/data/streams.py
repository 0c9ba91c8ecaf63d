"""Training sets that arrive in batches and need not fit into memory."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from adv_jax.data.arguments import number, pair
from adv_jax.data.arrays import check_name, checked_classes, from_arrays, labels_of, natural
from adv_jax.data.dataset import Arrays, DataError, Dataset, Stream
from adv_jax.ranges import COUNT
from adv_jax.types import Array, Bounds, UserError

SAMPLE_BYTES = 2**26  # of the float32 images of `Dataset.train`
CHUNK_BYTES = 2**23  # of the float32 images that go to the device at once
ALIGNMENT = 64  # bytes
_HIGH = np.float32(round(2**23 / 255) / 2**23)
_LOW = np.float32(1 / 255 - float(_HIGH))


def from_batches(
    name: str,
    *,
    train: Callable[[int], Iterable[tuple[Any, Any]]],
    num_batches: int,
    test: tuple[Any, Any],
    num_classes: int,
    bounds: Bounds | None = None,
) -> Dataset:
    """Returns a data set whose training set arrives in batches.

    Each batch is checked as it arrives: as by `from_arrays`, and floats must be within `bounds`.
    The batches of each epoch are trained on in their order, without shuffling. Memory holds some
    chunks of them. `Dataset.train` has the first ones, up to 64 MiB as float32: a sample that the
    statistics of batch normalization are averaged over for tests. `Dataset.sha256` is of the sample
    and the test set only. Bytes go to the device as bytes.

    Args:
      name: your name for it.
      train: epoch, from 0, -> a fresh iterable at each call, of `num_batches` batches (x, y),
        arrays or CPU tensors of one shape: a torch DataLoader, a Grain loader, a TFDS iterator.
        `from_batches` reads the sample from train(0), so that a run reads the first batches twice.
        A run that resumes in epoch e calls train(e) again. It continues bit for bit if a call with
        the same epoch yields the same batches: derive their order from the epoch.
      num_batches: of an epoch; of an iterable that is longer, the first ones.
      test: (x, y), in memory.
      num_classes: K, at most 2^31.
      bounds: as in `from_arrays`.

    Raises:
      DataError: as `from_arrays`; train(0) yields no batches, or batches that are not alike.

    >>> import numpy as np
    >>> batch = np.zeros((4, 8, 8), np.uint8), np.arange(4) % 2
    >>> black = from_batches("black", train=lambda epoch: [batch] * 3, num_batches=3,
    ...                      test=batch, num_classes=2)
    >>> black.stream.batch_size, black.train.x.shape
    (4, (12, 8, 8, 1))
    """
    check_name(name)
    num_batches = number(f"{name}: num_batches", num_batches, COUNT)
    num_classes = checked_classes(name, num_classes)
    batches = _called(name, train, 0)
    origin = f"{name}: batch 0 of epoch 0"
    x, y = first = _next(batches, origin, num_batches)
    alone = from_arrays(origin, train=first, test=first, num_classes=num_classes, bounds=bounds)
    dtype = np.dtype(np.uint8 if x.dtype == np.uint8 else np.float32)
    stream = Stream(train, num_batches, len(y), dtype)
    sample = [first]
    for index in range(1, min(num_batches, _at_once(x.size, SAMPLE_BYTES))):
        origin = f"{name}: batch {index} of epoch 0"
        sample.append(batch := _next(batches, origin, num_batches))
        _checked(alone._replace(stream=stream), origin, *batch)
    # `Dataset.sha256` is of the arrays as they come, not of the converted ones.
    joined = _joined([x for x, _ in sample]), _joined([y for _, y in sample])
    dataset = from_arrays(name, train=joined, test=test, num_classes=num_classes, bounds=bounds)
    return dataset._replace(stream=stream)


def buffers(dataset: Dataset, count: int) -> list[Arrays]:
    """Returns memory for so many chunks of a stream: x[N, *D] of `Stream.dtype`, y i32[N].

    The batches of a chunk divide those of the epoch if more than half of `CHUNK_BYTES` allows it,
    as chunks of one size need one compiled program.
    """
    stream = dataset.stream
    assert stream is not None
    shape = dataset.train.x.shape[1:]
    most = min(stream.num_batches, _at_once(stream.batch_size * math.prod(shape), CHUNK_BYTES))
    divisors = (n for n in range(most, most // 2, -1) if stream.num_batches % n == 0)
    rows = next(divisors, most) * stream.batch_size
    return [
        Arrays(_aligned((rows, *shape), stream.dtype), np.empty(rows, np.int32))
        for _ in range(count)
    ]


def chunks(dataset: Dataset, epoch: int, memory: Sequence[Arrays]) -> Iterator[Arrays]:
    """Yields the batches of an epoch, as many at once as a buffer holds, then the rest.

    `in_natural_units` converts bytes.

    memory: from `buffers`; each chunk lies in the next one, in turn.

    Raises:
      UserError: the iterable ends early or fails; a batch of another shape or dtype; a value out
        of the bounds; a label out of range.
    """
    stream = dataset.stream
    assert stream is not None
    batches, rows = _called(dataset.name, stream.batches, epoch), stream.batch_size
    at_once = len(memory[0].y) // rows
    firsts = range(0, stream.num_batches, at_once)
    for first, (x, y) in zip(firsts, itertools.cycle(memory), strict=False):
        count = min(at_once, stream.num_batches - first)
        for i in range(count):
            origin = f"{dataset.name}: batch {first + i} of epoch {epoch}"
            batch = _next(batches, origin, stream.num_batches)
            own = slice(i * rows, (i + 1) * rows)
            x[own], y[own] = _checked(dataset, origin, *batch)
        yield Arrays(x[: count * rows], y[: count * rows])


def in_natural_units(x: Array) -> Array:
    """Returns the images of a chunk as f32: bytes become byte / 255, rounded as by NumPy.

    XLA multiplies by 1 / 255 instead, which rounds half of the bytes to another float. Here 1 / 255
    has two parts: byte * _HIGH is exact, as _HIGH has 16 bits.
    """
    if x.dtype != np.uint8:
        return x
    pixels = x.astype(np.float32)
    return pixels * _HIGH + pixels * _LOW


def _at_once(values: int, limit: int) -> int:
    """Returns the number of batches of so many float32 values each in `limit` bytes, at least 1."""
    return max(1, limit // max(1, 4 * values))


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the rows of all parts, in the shape of the first one's."""
    rows = parts[0].shape[1:]  # The axis of one channel, or of one label, may be missing in some.
    return np.concatenate([part.reshape(-1, *rows) for part in parts])


def _aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Returns an uninitialized array, aligned so that JAX uses its memory without a copy."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def _checked(dataset: Dataset, origin: str, x: np.ndarray, y: np.ndarray) -> Arrays:
    """Returns a batch as x[B, *D] of `Stream.dtype` and y i32[B]."""
    stream = dataset.stream
    assert stream is not None
    if (x.dtype == np.uint8) != (stream.dtype == np.uint8):
        allowed = "bytes uint8" if stream.dtype == np.uint8 else "floats"
        raise DataError(f"{origin}: x must be {allowed}, as at first, got {x.dtype}")
    if x.dtype != np.uint8:
        x = natural(f"{origin}: x", x)
    elif x.ndim == 3:
        x = x[..., None]
    shape = stream.batch_size, *dataset.train.x.shape[1:]
    if x.shape != shape:
        raise DataError(f"{origin}: x must have shape {shape}, got {x.shape}")
    if dataset.bounds and x.dtype != np.uint8:
        low, high = x.min(), x.max()
        if not dataset.bounds[0] <= low <= high <= dataset.bounds[1]:
            allowed = f"within its bounds, {dataset.bounds}"
            raise DataError(f"{origin}: x must be {allowed}, got values from {low!s} to {high!s}")
    return Arrays(x, labels_of(origin, "y", y, len(x), dataset.num_classes))


def _called(name: str, train: Callable[[int], Iterable[Any]], epoch: int) -> Iterator[Any]:
    """Yields train(epoch); errors of the user's program become a DataError."""
    try:
        yield from train(epoch)
    except UserError:
        raise
    except Exception as error:
        line = str(error).partition("\n")[0]
        raise DataError(
            f"{name}: train({epoch}) must yield batches, got {type(error).__name__}: {line}"
        ) from error


def _next(batches: Iterator[Any], origin: str, num_batches: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the next batch as NumPy arrays.

    Raises:
      DataError: there is none, or it is not (x, y), as `pair`.
    """
    try:
        batch = next(batches)
    except StopIteration:
        allowed = f"one of {num_batches}, as num_batches says, of a fresh iterable for each call"
        raise DataError(f"{origin} must be {allowed}, got the end of the batches") from None
    return pair(origin, batch, x=f"{origin}: x", y=f"{origin}: y")
