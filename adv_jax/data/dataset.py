"""What a loaded data set is."""

from typing import NamedTuple

import numpy as np

from adv_jax.types import UserError


class DataError(UserError):
    """One line: the file or field that is bad, what was found there, what is allowed."""


class Arrays(NamedTuple):
    """Examples in the order of their source.

    x: f32[N, *D] in natural units (pixels: byte / 255, within `Dataset.bounds`).
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
    bounds: (lo, hi), the least and greatest value that an input can have, in the units of `x`.
    """

    name: str
    source: str
    sha256: dict[str, str]
    train: Arrays
    test: Arrays
    num_classes: int
    bounds: tuple[float, float]

    def arrays(self) -> dict[str, np.ndarray]:
        """What a compiled program takes: {"x", "y"} to train on, and {"test_x", "test_y"}."""
        (x, y), (test_x, test_y) = self.train, self.test
        return {"x": x, "y": y, "test_x": test_x, "test_y": test_y}
