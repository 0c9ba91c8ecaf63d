"""Training sets that arrive in batches and need not fit into memory."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from adv_jax.data.arrays import from_arrays, labels_of, natural
from adv_jax.data.dataset import Arrays, DataError, Dataset, Stream
from adv_jax.types import Bounds, UserError

CHUNK_BYTES = 2**26  # of the float32 images that go to the device at once


def from_batches(
    name: str,
    *,
    train: Callable[[int], Iterable[tuple[Any, Any]]],
    num_batches: int,
    test: tuple[Any, Any],
    num_classes: int,
    bounds: Bounds | None = None,
) -> Dataset:
    """Returns a data set whose training set arrives in batches, checked as by `from_arrays`.

    The batches of each epoch are trained on in their order, without shuffling. Memory holds some
    chunks of them. `Dataset.train` has the first chunk: a sample that the statistics of batch
    normalization are averaged over for tests.

    Args:
      name: your name for it.
      train: epoch, from 0, -> `num_batches` batches (x, y), arrays or CPU tensors of one shape: a
        torch DataLoader, a Grain loader, a TFDS iterator. A run that resumes in epoch e calls
        train(e) again. It continues bit for bit if a call with the same epoch yields the same
        batches: derive their order from the epoch.
      num_batches: of an epoch; of an iterable that is longer, the first ones.
      test: (x, y), in memory.
      num_classes, bounds: as in `from_arrays`.

    Raises:
      DataError: as `from_arrays`; train(0) yields no batches.

    >>> import numpy as np
    >>> batch = np.zeros((4, 8, 8), np.uint8), np.arange(4) % 2
    >>> black = from_batches("black", train=lambda epoch: [batch] * 3, num_batches=3,
    ...                      test=batch, num_classes=2)
    >>> black.stream.batch_size, black.train.x.shape
    (4, (12, 8, 8, 1))
    """
    if not isinstance(num_batches, int) or isinstance(num_batches, bool) or num_batches < 1:
        raise DataError(f"{name}: num_batches must be a whole number from 1, got {num_batches!r}")
    x, y = _next(iter(_called(name, train, 0)), f"{name}: batch 0 of epoch 0", num_batches)
    size = max(1, min(num_batches, CHUNK_BYTES // max(1, 4 * x.size)))
    batches = _called(name, train, 0)
    first = [_next(batches, f"{name}: batch {i} of epoch 0", num_batches) for i in range(size)]
    try:
        sample = np.concatenate([x for x, _ in first]), np.concatenate([y for _, y in first])
    except ValueError as error:
        raise DataError(f"{name}: batches must be of one shape ({error})") from error
    dataset = from_arrays(name, train=sample, test=test, num_classes=num_classes, bounds=bounds)
    return dataset._replace(stream=Stream(train, num_batches, len(y)))


def chunks(dataset: Dataset, epoch: int) -> Iterator[Arrays]:
    """Yields the batches of an epoch, as many at once as `Dataset.train` has, then the rest.

    Raises:
      UserError: the iterable ends early or fails; a batch of another shape; a label out of range.
    """
    stream = dataset.stream
    assert stream is not None
    at_once = len(dataset.train.y) // stream.batch_size
    checked = _checked(dataset, stream, epoch)
    for first in range(0, stream.num_batches, at_once):
        count = min(at_once, stream.num_batches - first)
        x, y = zip(*itertools.islice(checked, count), strict=True)
        yield Arrays(np.concatenate(x), np.concatenate(y))


def _checked(dataset: Dataset, stream: Stream, epoch: int) -> Iterator[Arrays]:
    """Yields the batches of an epoch in natural units, f32[B, *D] and i32[B]."""
    batches = _called(dataset.name, stream.batches, epoch)
    shape = stream.batch_size, *dataset.train.x.shape[1:]
    for index in range(stream.num_batches):
        origin = f"{dataset.name}: batch {index} of epoch {epoch}"
        x, y = _next(batches, origin, stream.num_batches)
        x = natural(f"{origin}: x", x)
        if x.shape != shape:
            raise DataError(f"{origin}: x must have shape {shape}, got {x.shape}")
        yield Arrays(x, labels_of(origin, "y", y, len(x), dataset.num_classes))


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
      DataError: there is none, or it is not (x, y).
    """
    try:
        batch = next(batches)
    except StopIteration:
        allowed = f"one of {num_batches}, as num_batches says"
        raise DataError(f"{origin} must be {allowed}, got the end of the batches") from None
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        raise DataError(f"{origin} must be (x, y), got a {type(batch).__name__}")
    x, y = map(np.asarray, batch)
    return x, y
