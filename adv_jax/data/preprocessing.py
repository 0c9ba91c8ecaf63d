"""Preprocessing of the inputs, fitted on training data.

Each function binds its settings and returns a fit; the fit takes the training inputs and returns a
`Transform`, whose `apply` is used for all inputs:

>>> import numpy as np
>>> from adv_jax.data import preprocessing
>>> train_x = np.array([[0.0, 1.0], [4.0, 1.0]], np.float32)
>>> transform = preprocessing.standardize()(train_x)
>>> transform.apply(np.array([[3.0, 2.0]], np.float32))
array([[0.5, 1. ]], dtype=float32)

A config lists them; each is fitted on the output of the one before:
`data.preprocess = ({"name": "contrast_norm", "norm": 55.0}, {"name": "zca", "regularizer": 0.1})`.
Sizes of perturbations are then in units of the last output. The steps of `data.target` make another
domain of the inputs: they change the unlabeled training images and the test images only.
"""

import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

from adv_jax.data.dataset import DataError
from adv_jax.types import Bounds

__all__ = ["blend", "contrast_norm", "grey", "pixel_scale", "standardize", "zca"]

_BLOCK = 1000  # rows at a time in float64, to save memory
_SMALLEST_NORM = 1e-8
_LUMA = (0.299, 0.587, 0.114)


class Transform(Protocol):
    """A fitted transform: a NamedTuple of arrays, which can be stored, with pure methods."""

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Transforms f32[N, *D] -> f32[N, *E], row by row."""
        ...

    def bounds(self, bounds: Bounds | None) -> Bounds | None:
        """Returns the bounds of the output for those of the input; None: unbounded."""
        ...

    def _asdict(self) -> dict[str, np.ndarray]: ...


Fit = Callable[[np.ndarray], Transform]


def blend(*, cells: int = 4, strength: float = 1.0) -> Fit:
    """Puts each image on a background of its own, by the absolute difference.

        x' = |x - b|,   b = strength W g W^T

    g are cells x cells values, uniform in [0, 1), and W interpolates them linearly to the size of
    the image, with the first and the last value at the edges. They depend on the pixels of the
    image alone (PCG64 of their CRC-32), so that the background is the same in each run. Nothing is
    fitted.

    Source: [ganin2016] blends digits with patches of photographs by the same difference (MNIST-M).

    Raises:
      DataError: `cells` is not a whole number > 1, `strength` is not in [0, 1], or, by the fit, the
        inputs are not images.
    """
    if not isinstance(cells, int) or isinstance(cells, bool) or cells < 2:
        raise DataError(f"cells of blend must be a whole number > 1, got {cells!r}")
    if not _is_finite_number(strength) or not 0 <= strength <= 1:
        raise DataError(f"strength of blend must be a number from 0 to 1, got {strength!r}")

    def fit(x: np.ndarray) -> Transform:
        if x.ndim != 4:
            raise DataError(f"inputs of blend must be images, got the shape {x.shape[1:]}")
        return _Blend(np.array(cells, np.int64), np.array(strength, np.float64))

    return fit


def contrast_norm(*, norm: float = 55.0) -> Fit:
    """Subtracts from each image its mean over all values and scales it to the length `norm`.

        x' = (x - mean(x)) / s,   s = |x - mean(x)|_2 / norm, but 1 where that is below 1e-8

    A constant image becomes 0. For all others the result does not depend on the units of x.
    Nothing is fitted.

    Source: the ladder's reference program, nn.py, `ContrastNorm`.

    Raises:
      DataError: norm <= 0.
    """
    if not _is_finite_number(norm) or norm <= 0:
        raise DataError(f"norm of contrast_norm must be a number > 0, got {norm!r}")
    return lambda x: _ContrastNorm(np.array(norm, np.float64))


def zca(*, regularizer: float = 0.1) -> Fit:
    """Whitens images by a symmetric matrix P (ZCA).

        x' = (x - m) P,   P = V diag(1 / sqrt(e)) V^T,   V diag(e) V^T = C + regularizer I

    m and C = mean((x - m)^T (x - m)) are those of the training set, with images as rows of D
    values. The covariance of x' is C (C + regularizer I)^-1. All D components are kept.

    Fitted in float64, applied in float32: with u = 2^-24, the error of x'_i is at most
    u sum_j ((D + 2) |x_j - m_j| + |m_j|) |P_ij|. Measured on a JPEG copy of CIFAR-10 after
    `contrast_norm`, where x' has a standard deviation of .47: 4.4e-7 (rms), at most 1.0e-5.

    Source: the ladder's reference program, nn.py, `ZCA`.

    Raises:
      DataError: `regularizer` is negative, or C + regularizer I is numerically singular.
    """
    if not _is_finite_number(regularizer) or regularizer < 0:
        raise DataError(f"regularizer of zca must be a number >= 0, got {regularizer!r}")

    def fit(x: np.ndarray) -> Transform:
        mean = _mean(x)
        covariance = sum((d := rows - mean).T @ d for rows in _blocks(x)) / len(x)
        values, vectors = np.linalg.eigh(covariance + regularizer * np.eye(len(mean)))
        if values[0] <= len(values) * np.finfo(np.float64).eps * values[-1]:
            raise DataError(
                "regularizer of zca must be larger, such as 0.1, as the covariance of the training "
                f"set is singular, got {regularizer!r}"
            )
        # The product of a matrix and its transpose is exactly symmetric.
        root = vectors * values**-0.25
        return _Whitening(mean.astype(np.float32), (root @ root.T).astype(np.float32))

    return fit


def standardize() -> Fit:
    """Subtracts each value's mean over the training set and divides by its standard deviation.

    Constant values are only shifted. The deviation is the biased one, with N.
    """

    def fit(x: np.ndarray) -> Transform:
        mean = _mean(x)
        std = np.sqrt(sum(((rows - mean) ** 2).sum(0) for rows in _blocks(x)) / len(x))
        return _Standardization(mean, np.where(std > 0, std, 1.0))

    return fit


def grey() -> Fit:
    """Returns the luma .299 R + .587 G + .114 B of RGB images: f32[N, ..., 3] -> f32[N, ..., 1].

    The weights are those of ITU-R BT.601, as in Pillow and MATLAB; bounds are unchanged.
    """

    def fit(x: np.ndarray) -> Transform:
        if x.shape[-1] != len(_LUMA):
            raise DataError(
                "inputs of grey must be images whose last axis is red, green, blue, got the shape "
                f"{x.shape[1:]}"
            )
        return _Grey()

    return fit


def pixel_scale(*, mean: float = 0.0, divisor: float = 256.0) -> Fit:
    """Rescales pixels: x' = (255 x - mean) / divisor, x = byte / 255. Nothing is fitted.

    Source: [huang2015], sec. 7: MNIST / 256; CIFAR-10 less 117, / 256.

    Raises:
      DataError: `mean` is not a number, or `divisor` is not a number > 0.
    """
    if not _is_finite_number(mean) or not _is_finite_number(divisor) or divisor <= 0:
        raise DataError(
            "mean and divisor of pixel_scale must be a number and a number > 0, got "
            f"{mean!r} and {divisor!r}"
        )
    return lambda x: _PixelScale(np.array(mean, np.float64), np.array(divisor, np.float64))


def restored(name: str, arrays: Mapping[str, np.ndarray]) -> Transform:
    """Restores a fitted transform from its stored arrays.

    Raises:
      DataError: the arrays are not those of `name`.
    """
    transform: Any = _TRANSFORMS[name]
    if arrays.keys() != set(transform._fields):
        raise DataError(f"arrays of {name} must be {transform._fields}, got {list(arrays)}")
    return transform(**arrays)


class _Blend(NamedTuple):
    """cells: i64[]; strength: f64[]."""

    cells: np.ndarray
    strength: np.ndarray

    def apply(self, x: np.ndarray) -> np.ndarray:
        height, width, channels = x.shape[1:]
        vertical, horizontal = self._weights(height), self._weights(width)

        def blended(rows: np.ndarray) -> np.ndarray:
            grids = np.stack([self._grid(row) for row in rows])
            background = self.strength * (vertical @ grids @ horizontal.T)
            return np.abs(rows.reshape(-1, height, width, channels) - background[..., None])

        return _by_blocks(blended, x, x.shape[1:])

    def bounds(self, bounds: Bounds | None) -> Bounds | None:
        if bounds is None:
            return None
        lo, hi = (float(bound) for bound in bounds)
        return 0.0, max(hi, float(self.strength) - lo)

    def _grid(self, row: np.ndarray) -> np.ndarray:
        """Returns the values behind one image: f64[cells, cells]."""
        count = int(self.cells)
        # NumPy guarantees the raw bits; those of `Generator` may change between versions.
        raw = np.random.PCG64(zlib.crc32(row.tobytes())).random_raw(count * count)
        return (raw.reshape(count, count) >> np.uint64(11)) * 2.0**-53

    def _weights(self, size: int) -> np.ndarray:
        """Returns W, f64[size, cells]."""
        at = np.linspace(0, int(self.cells) - 1, size)[:, None]
        return np.maximum(0, 1 - np.abs(at - np.arange(int(self.cells))))


class _ContrastNorm(NamedTuple):
    """norm: f64[]."""

    norm: np.ndarray

    def apply(self, x: np.ndarray) -> np.ndarray:
        def normalized(rows: np.ndarray) -> np.ndarray:
            # float64, in which the mean of a constant image is exact.
            centered = rows - rows.mean(axis=1, keepdims=True, dtype=np.float64)
            scale = np.linalg.norm(centered, axis=1, keepdims=True) / self.norm
            return centered / np.where(scale < _SMALLEST_NORM, 1.0, scale)

        return _by_blocks(normalized, x, x.shape[1:])

    def bounds(self, bounds: Bounds | None) -> None:
        """Returns None: the range of a value depends on the others of its image."""


class _Whitening(NamedTuple):
    """mean: f32[D]; matrix: f32[D, D], symmetric."""

    mean: np.ndarray
    matrix: np.ndarray

    def apply(self, x: np.ndarray) -> np.ndarray:
        return _by_blocks(lambda rows: (rows - self.mean) @ self.matrix, x, x.shape[1:])

    def bounds(self, bounds: Bounds | None) -> None:
        """Returns None: the image of a box is not a box."""


class _Standardization(NamedTuple):
    """mean, std: f64[D]."""

    mean: np.ndarray
    std: np.ndarray

    def apply(self, x: np.ndarray) -> np.ndarray:
        return _by_blocks(lambda rows: (rows - self.mean) / self.std, x, x.shape[1:])

    def bounds(self, bounds: Bounds | None) -> None:
        """Returns None: the bounds would differ between values."""


class _Grey(NamedTuple):
    def apply(self, x: np.ndarray) -> np.ndarray:
        def luma(rows: np.ndarray) -> np.ndarray:
            return rows.reshape(len(rows), -1, len(_LUMA)) @ np.array(_LUMA)

        return _by_blocks(luma, x, (*x.shape[1:-1], 1))

    def bounds(self, bounds: Bounds | None) -> Bounds | None:
        return bounds  # The weights sum to 1.


class _PixelScale(NamedTuple):
    """mean, divisor: f64[]."""

    mean: np.ndarray
    divisor: np.ndarray

    def apply(self, x: np.ndarray) -> np.ndarray:
        return _by_blocks(lambda rows: (255.0 * rows - self.mean) / self.divisor, x, x.shape[1:])

    def bounds(self, bounds: Bounds | None) -> Bounds | None:
        if bounds is None:
            return None
        lo, hi = (float((255.0 * bound - self.mean) / self.divisor) for bound in bounds)
        return lo, hi


_TRANSFORMS = {
    "blend": _Blend,
    "contrast_norm": _ContrastNorm,
    "grey": _Grey,
    "pixel_scale": _PixelScale,
    "standardize": _Standardization,
    "zca": _Whitening,
}


def _by_blocks(
    fn: Callable[[np.ndarray], np.ndarray], x: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
    """Applies fn, rows f32[n, D] -> n rows, to x f32[N, *D] in blocks: f32[N, *shape]."""
    out = np.empty((len(x), *shape), np.float32)
    done = 0
    for rows in _blocks(x):
        out[done : done + len(rows)] = fn(rows).reshape(-1, *shape)
        done += len(rows)
    return out


def _blocks(x: np.ndarray) -> Iterator[np.ndarray]:
    """Yields the rows of f32[N, *D] in order, as blocks f32[n, D]."""
    for start in range(0, len(x), _BLOCK):
        rows = x[start : start + _BLOCK]
        yield rows.reshape(len(rows), -1)


def _mean(x: np.ndarray) -> np.ndarray:
    """Returns the mean over the rows, f32[N, *D] -> f64[D]."""
    return x.mean(axis=0, dtype=np.float64).ravel()


def _is_finite_number(value: object) -> bool:
    is_real = isinstance(value, int | float) and not isinstance(value, bool)
    return is_real and math.isfinite(value)
