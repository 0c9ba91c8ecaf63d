"""The types of a loaded data set."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from adv_jax.types import Bounds, UserError, described


class DataError(UserError):
    """Invalid file or argument; the one-line message names it, the legal values and the value."""


class MissingData(DataError):
    """A source has no such files, cannot be fetched, or lacks a package; another one may do."""


class Arrays(NamedTuple):
    """Examples in the order of their source.

    x: f32[N, *D] in natural units (pixels: byte / 255), or preprocessed.
    y: i32[N], classes in [0, num_classes).
    """

    x: np.ndarray
    y: np.ndarray


class Stream(NamedTuple):
    """A training set in batches, from `from_batches`.

    batches: epoch, from 0, -> an iterable of (x, y).
    num_batches: of an epoch.
    batch_size: rows of a batch.
    dtype: of the images on the way to the device: uint8, of bytes that become floats there, or
      float32.
    """

    batches: Callable[[int], Iterable[tuple[Any, Any]]]
    num_batches: int
    batch_size: int
    dtype: np.dtype


class Dataset(NamedTuple):
    """A data set and where it came from.

    name, source: as given to `load`.
    sha256: file name -> hex digest of the file as stored (a .gz is not unpacked).
    train, test: the split of the source.
    num_classes: K.
    bounds: (lo, hi), the smallest and largest value of an input, in the units of `x`; None if
      unbounded, as after whitening.
    stream: the training set, if it does not fit into memory; then `train` is a sample of it.
    unlabeled: f32[N, *D], the training images where their labels are not used; None: those of
      `train`.
    """

    name: str
    source: str
    sha256: dict[str, str]
    train: Arrays
    test: Arrays
    num_classes: int
    bounds: Bounds | None
    stream: Stream | None = None
    unlabeled: np.ndarray | None = None

    def __repr__(self) -> str:
        fields = (f"{name}={described(value)}" for name, value in self._asdict().items())
        return f"Dataset({', '.join(fields)})"

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns {"x", "y", "unlabeled"} for training and {"test_x", "test_y"} for testing.

        "unlabeled" is missing if it would be the same as "x".
        """
        (x, y), (test_x, test_y) = self.train, self.test
        own = {} if self.unlabeled is None else {"unlabeled": self.unlabeled}
        return {"x": x, "y": y, **own, "test_x": test_x, "test_y": test_y}


class ImageSet(NamedTuple):
    """The name, shape and number of classes of a set of images.

    name: as given to `load`.
    shape: (height, width, channels) of an image.
    num_classes: K.
    first_label: the label of the first class in the files.
    """

    name: str
    shape: tuple[int, int, int]
    num_classes: int
    first_label: int = 0

    def arrays(self, images: np.ndarray, labels: np.ndarray, *, origin: str | Path) -> Arrays:
        """Converts bytes u8[N, ...] and integers [N] to natural units f32[N, *shape] and i32[N].

        Raises:
          DataError: a label outside the `num_classes` from `first_label` on, in `origin`.
        """
        y = labels.astype(np.int32) - self.first_label
        bad = np.flatnonzero((y < 0) | (y >= self.num_classes))
        if bad.size:
            first, last = self.first_label, self.first_label + self.num_classes - 1
            raise DataError(
                f"{origin}: the label of row {bad[0]} must be {first} to {last}, got "
                f"{labels[bad[0]]}"
            )
        return Arrays(from_bytes(images.reshape(-1, *self.shape)), y)

    def dataset(
        self, source: str, sha256: dict[str, str], *, train: Arrays, test: Arrays
    ) -> Dataset:
        """Returns the data set of these arrays."""
        return Dataset(self.name, source, sha256, train, test, self.num_classes, (0.0, 1.0))


def from_bytes(pixels: np.ndarray) -> np.ndarray:
    """Converts bytes u8[...] to natural units: f32[...] in [0, 1], byte / 255."""
    return np.divide(pixels, np.float32(255), order="C")
