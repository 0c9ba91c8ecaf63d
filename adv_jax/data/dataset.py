"""What a loaded data set is."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from adv_jax.types import Bounds, UserError


class DataError(UserError):
    """One line: the file or field that is bad, what was found there, what is allowed."""


class Arrays(NamedTuple):
    """Examples in the order of their source.

    x: f32[N, *D] in natural units (pixels: byte / 255), or as the preprocessing has made them.
    y: i32[N], classes in [0, num_classes).
    """

    x: np.ndarray
    y: np.ndarray


class Dataset(NamedTuple):
    """A data set in memory and where it came from.

    name, source: as they were given to `load`.
    sha256: file name -> hex digest of the file as stored (a .gz is not unpacked first).
    train, test: the source's own division.
    num_classes: K.
    bounds: (lo, hi), the least and greatest value that an input can have, in the units of `x`;
      None: there are none, as after whitening.
    """

    name: str
    source: str
    sha256: dict[str, str]
    train: Arrays
    test: Arrays
    num_classes: int
    bounds: Bounds | None

    def arrays(self) -> dict[str, np.ndarray]:
        """What a compiled program takes: {"x", "y"} to train on, and {"test_x", "test_y"}."""
        (x, y), (test_x, test_y) = self.train, self.test
        return {"x": x, "y": y, "test_x": test_x, "test_y": test_y}


class ImageSet(NamedTuple):
    """What a set of images is, whichever source it comes from.

    name: as given to `load`.
    shape: (height, width, channels) of an image.
    num_classes: K.
    """

    name: str
    shape: tuple[int, int, int]
    num_classes: int

    def arrays(self, images: np.ndarray, labels: np.ndarray, *, origin: str | Path) -> Arrays:
        """Bytes to natural units: u8[N, ...] and integers [N] to f32[N, *shape] and i32[N].

        Raises:
          DataError: a label that is no class; `origin` says where.
        """
        bad = np.flatnonzero((labels < 0) | (labels >= self.num_classes))
        if bad.size:
            raise DataError(
                f"{origin}: label {labels[bad[0]]} found in row {bad[0]}, allowed are 0 to "
                f"{self.num_classes - 1}"
            )
        x = np.divide(images.reshape(-1, *self.shape), np.float32(255), order="C")
        return Arrays(x, labels.astype(np.int32))

    def dataset(
        self, source: str, sha256: dict[str, str], *, train: Arrays, test: Arrays
    ) -> Dataset:
        """The data set of these arrays."""
        return Dataset(self.name, source, sha256, train, test, self.num_classes, (0.0, 1.0))
