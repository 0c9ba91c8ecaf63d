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

import jax.numpy as jnp
import numpy as np

from adv_jax.data.arguments import as_array
from adv_jax.data.dataset import DataError
from adv_jax.ranges import ranged
from adv_jax.types import Bounds, check_choice, described

__all__ = ["blend", "contrast_norm", "gray", "pixel_scale", "standardize", "zca"]

_BLOCK = 1000  # rows at a time in float64, to save memory
_SMALLEST_NORM = 1e-8
_LUMA = (0.299, 0.587, 0.114)


class Transform(Protocol):
    """A fitted transform: a NamedTuple of arrays, which can be stored, with pure methods."""

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Transforms f32[N, *D] -> f32[N, *E], row by row.

        Raises:
          DataError: the inputs are no floats, or do not have the values per row that it needs.
        """
        ...

    def bounds(self, bounds: Bounds | None) -> Bounds | None:
        """Returns the bounds of the output for those of the input; None: unbounded."""
        ...

    def _asdict(self) -> dict[str, np.ndarray]: ...


Fit = Callable[[np.ndarray], Transform]  # Refuses inputs as `Transform.apply`, and empty ones.


@ranged(cells="{2, 3, ...}", strength="[0, 1]")
def blend(*, cells: int = 4, strength: float = 1.0) -> Fit:
    """Puts each image on a background of its own, by the absolute difference.

        x' = |x - b|,   b = strength W g W^T

    g are cells x cells values, uniform in [0, 1), and W interpolates them linearly to the size of
    the image, with the first and the last value at the edges. They depend on the pixels of the
    image in float32 alone (PCG64 of their CRC-32), so that the background is the same in each run.
    Nothing is fitted.

    Source: [ganin2016] blends digits with patches of photographs by the same difference (MNIST-M).

    Raises:
      UserError: `cells` is not a whole number > 1, `strength` is not in [0, 1].
      DataError: by the fit, the inputs are not images.
    """

    def fit(x: np.ndarray) -> Transform:
        _check_images_of_blend(x)
        return _Blend(np.array(cells, np.int64), np.array(strength, np.float64))

    return _checked_fit("blend", fit)


@ranged(norm="(0, inf)")
def contrast_norm(*, norm: float = 55.0) -> Fit:
    """Subtracts from each image its mean over all values and scales it to the length `norm`.

        x' = (x - mean(x)) / s,   s = |x - mean(x)|_2 / norm, but 1 where that is below 1e-8

    A constant image becomes 0. The result does not depend on the units of x, unless s is replaced
    by 1. Nothing is fitted.

    Source: the ladder's reference program, nn.py, `ContrastNorm`.

    Raises:
      UserError: norm <= 0.
    """
    return _checked_fit("contrast_norm", lambda x: _ContrastNorm(np.array(norm, np.float64)))


@ranged(regularizer="[0, inf)")
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
      UserError: `regularizer` is negative.
      DataError: by the fit, C + regularizer I is numerically singular, or m is not finite.
    """
    regularizer = float(regularizer)  # In float64, whatever scalar it is.

    def fit(x: np.ndarray) -> Transform:
        mean = _mean("zca", x)
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

    return _checked_fit("zca", fit)


def standardize() -> Fit:
    """Subtracts each value's mean over the training set and divides by its standard deviation.

    Constant values are only shifted. The deviation is the biased one, with N.

    Raises:
      DataError: by the fit, the mean is not finite.
    """

    def fit(x: np.ndarray) -> Transform:
        # The mean of equal values may be rounded to another one: their deviation would not be 0.
        mean = np.where((x == x[0]).all(axis=0).ravel(), x[0].ravel(), _mean("standardize", x))
        std = np.sqrt(sum(((rows - mean) ** 2).sum(0) for rows in _blocks(x)) / len(x))
        return _Standardization(mean, np.where(std > 0, std, 1.0))

    return _checked_fit("standardize", fit)


def gray() -> Fit:
    """Returns the luma .299 R + .587 G + .114 B of RGB images: f32[N, ..., 3] -> f32[N, ..., 1].

    The weights are those of ITU-R BT.601, as in Pillow and MATLAB; bounds are unchanged.

    Raises:
      DataError: by the fit, the inputs are not of three channels.
    """

    def fit(x: np.ndarray) -> Transform:
        _check_rgb(x)
        return _Gray()

    return _checked_fit("gray", fit)


@ranged(mean="(-inf, inf)", divisor="(0, inf)")
def pixel_scale(*, mean: float = 0.0, divisor: float = 256.0) -> Fit:
    """Rescales pixels: x' = (255 x - mean) / divisor, x = byte / 255. Nothing is fitted.

    Source: [huang2015], sec. 7: MNIST / 256; CIFAR-10 less 117, / 256.

    Raises:
      UserError: `mean` is not a number, or `divisor` is not a number > 0.
    """
    transform = _PixelScale(np.array(mean, np.float64), np.array(divisor, np.float64))
    return _checked_fit("pixel_scale", lambda x: transform)


def restored(name: str, arrays: Mapping[str, np.ndarray]) -> Transform:
    """Restores a fitted transform from its stored arrays.

    Raises:
      UserError: there is no transform of that name.
      DataError: the arrays are not those of `name`.
    """
    check_choice("name", name, _TRANSFORMS)
    transform: Any = _TRANSFORMS[name]
    if arrays.keys() != set(transform._fields):
        raise DataError(f"arrays of {name} must be {transform._fields}, got {list(arrays)}")
    return transform(**arrays)


class _Blend(NamedTuple):
    """cells: i64[]; strength: f64[]."""

    cells: np.ndarray
    strength: np.ndarray

    def apply(self, x: np.ndarray) -> np.ndarray:
        x = _inputs("blend", x)
        _check_images_of_blend(x)
        height, width, channels = x.shape[1:]
        vertical, horizontal = self._weights(height), self._weights(width)

        def blended(rows: np.ndarray) -> np.ndarray:
            grids = np.stack([self._grid(row) for row in rows])
            background = self.strength * (vertical @ grids @ horizontal.T)
            return np.abs(rows.reshape(-1, height, width, channels) - background[..., None])

        return _by_blocks("blend", blended, x, x.shape[1:])

    def bounds(self, bounds: Bounds | None) -> Bounds | None:
        if bounds is None:
            return None
        lo, hi = (float(bound) for bound in bounds)
        return 0.0, max(hi, float(self.strength) - lo)

    def _grid(self, row: np.ndarray) -> np.ndarray:
        """Returns the values behind one image: f64[cells, cells]."""
        count = int(self.cells)
        # NumPy guarantees the raw bits; those of `Generator` may change between versions.
        seed = zlib.crc32(row.astype("<f4").tobytes())
        raw = np.random.PCG64(seed).random_raw(count * count)
        return (raw.reshape(count, count) >> np.uint64(11)) * 2.0**-53

    def _weights(self, size: int) -> np.ndarray:
        """Returns W, f64[size, cells]."""
        at = np.linspace(0, int(self.cells) - 1, size)[:, None]
        return np.maximum(0, 1 - np.abs(at - np.arange(int(self.cells))))


class _ContrastNorm(NamedTuple):
    """norm: f64[]."""

    norm: np.ndarray

    def apply(self, x: np.ndarray) -> np.ndarray:
        x = _inputs("contrast_norm", x)

        def normalized(rows: np.ndarray) -> np.ndarray:
            # float64, in which the mean of a constant image is exact.
            centered = rows - rows.mean(axis=1, keepdims=True, dtype=np.float64)
            scale = np.linalg.norm(centered, axis=1, keepdims=True) / self.norm
            return centered / np.where(scale < _SMALLEST_NORM, 1.0, scale)

        return _by_blocks("contrast_norm", normalized, x, x.shape[1:])

    def bounds(self, bounds: Bounds | None) -> None:
        """Returns None: the range of a value depends on the others of its image."""


class _Whitening(NamedTuple):
    """mean: f32[D]; matrix: f32[D, D], symmetric."""

    mean: np.ndarray
    matrix: np.ndarray

    def apply(self, x: np.ndarray) -> np.ndarray:
        x = _inputs("zca", x, values=len(self.mean))
        return _by_blocks("zca", lambda rows: (rows - self.mean) @ self.matrix, x, x.shape[1:])

    def bounds(self, bounds: Bounds | None) -> None:
        """Returns None: the image of a box is not a box."""


class _Standardization(NamedTuple):
    """mean, std: f64[D]."""

    mean: np.ndarray
    std: np.ndarray

    def apply(self, x: np.ndarray) -> np.ndarray:
        x = _inputs("standardize", x, values=len(self.mean))
        return _by_blocks("standardize", lambda rows: (rows - self.mean) / self.std, x, x.shape[1:])

    def bounds(self, bounds: Bounds | None) -> None:
        """Returns None: the bounds would differ between values."""


class _Gray(NamedTuple):
    def apply(self, x: np.ndarray) -> np.ndarray:
        x = _inputs("gray", x)
        _check_rgb(x)

        def luma(rows: np.ndarray) -> np.ndarray:
            return rows.reshape(len(rows), -1, len(_LUMA)) @ np.array(_LUMA)

        return _by_blocks("gray", luma, x, (*x.shape[1:-1], 1))

    def bounds(self, bounds: Bounds | None) -> Bounds | None:
        return bounds  # The weights sum to 1.


class _PixelScale(NamedTuple):
    """mean, divisor: f64[]."""

    mean: np.ndarray
    divisor: np.ndarray

    def apply(self, x: np.ndarray) -> np.ndarray:
        x = _inputs("pixel_scale", x)
        scaled = lambda rows: (255.0 * rows - self.mean) / self.divisor
        return _by_blocks("pixel_scale", scaled, x, x.shape[1:])

    def bounds(self, bounds: Bounds | None) -> Bounds | None:
        if bounds is None:
            return None
        lo, hi = (float((255.0 * bound - self.mean) / self.divisor) for bound in bounds)
        return lo, hi


_TRANSFORMS = {
    "blend": _Blend,
    "contrast_norm": _ContrastNorm,
    "gray": _Gray,
    "pixel_scale": _PixelScale,
    "standardize": _Standardization,
    "zca": _Whitening,
}


def _by_blocks(
    step: str, fn: Callable[[np.ndarray], np.ndarray], x: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
    """Applies fn, rows f32[n, D] -> n rows, to x f32[N, *D] in blocks: f32[N, *shape].

    Raises:
      DataError: a result is not finite.
    """
    out = np.empty((len(x), *shape), np.float32)
    done = 0
    for rows in _blocks(x):
        block = out[done : done + len(rows)]
        with np.errstate(over="ignore", invalid="ignore"):
            block[:] = fn(rows).reshape(-1, *shape)
        if (bad := block[~np.isfinite(block)]).size:
            raise DataError(f"{step} must give numbers that float32 holds, got {bad[0]}")
        done += len(rows)
    return out


def _blocks(x: np.ndarray) -> Iterator[np.ndarray]:
    """Yields the rows of f32[N, *D] in order, as blocks f32[n, D]."""
    for start in range(0, len(x), _BLOCK):
        rows = x[start : start + _BLOCK]
        yield rows.reshape(len(rows), -1)


def _checked_fit(step: str, fit: Fit) -> Fit:
    """Returns a fit that refuses inputs as `_inputs`, and those without a row or a value."""

    def checked(x: np.ndarray) -> Transform:
        x = _inputs(step, x)
        if not x.size:
            allowed = "have at least one row of at least one value"
            raise DataError(f"inputs of {step} must {allowed}, got {described(x)}")
        return fit(x)

    return checked


def _inputs(step: str, x: Any, *, values: int | None = None) -> np.ndarray:
    """Returns inputs f[N, *D] as a NumPy array; floats below 32 bits, such as bfloat16, as float32.

    Args:
      step: the name of the transform, for messages.
      values: the product of D that was fitted; None: any.

    Raises:
      DataError: no floats, without an axis of rows or of values, or of other sizes D.
    """
    x = as_array(f"inputs of {step}", x)
    if not jnp.issubdtype(x.dtype, jnp.floating) or x.ndim < 2:
        raise DataError(f"inputs of {step} must be floats [N, *D], got {described(x)}")
    if values not in (None, math.prod(x.shape[1:])):
        allowed = f"have rows of {values} values, as those that it was fitted to"
        raise DataError(f"inputs of {step} must {allowed}, got the shape {x.shape[1:]}")
    return x.astype(np.float32) if x.dtype.itemsize < 4 else x


def _check_images_of_blend(x: np.ndarray) -> None:
    if x.ndim != 4:
        raise DataError(f"inputs of blend must be images, got the shape {x.shape[1:]}")


def _check_rgb(x: np.ndarray) -> None:
    if x.shape[-1] != len(_LUMA):
        raise DataError(
            "inputs of gray must be images whose last axis is red, green, blue, got the shape "
            f"{x.shape[1:]}"
        )


def _mean(step: str, x: np.ndarray) -> np.ndarray:
    """Returns the mean over the rows, f[N, *D] -> f64[D]; raises DataError if it is not finite."""
    with np.errstate(invalid="ignore", over="ignore"):
        mean = x.mean(axis=0, dtype=np.float64).ravel()
    if (bad := mean[~np.isfinite(mean)]).size:
        raise DataError(f"inputs of {step} must have a finite mean, got {bad[0]}")
    return mean
