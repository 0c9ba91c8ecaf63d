"""What is done to the inputs before a model sees them; what is fitted, is on training data.

Each function binds its settings and gives a fit; the fit takes the inputs to train on and gives a
`Transform`, whose `apply` is the same for all inputs:

>>> import numpy as np
>>> from adv_jax.data import preprocessing
>>> train_x = np.array([[0.0, 1.0], [4.0, 1.0]], np.float32)
>>> transform = preprocessing.standardize()(train_x)
>>> transform.apply(np.array([[3.0, 2.0]], np.float32))
array([[0.5, 1. ]], dtype=float32)

A config lists them, each fitted on what those before it give:
`data.preprocess = ({"name": "contrast_norm", "norm": 55.0}, {"name": "zca", "regularizer": 0.1})`.
Sizes of perturbations are then in units of what the last one gives.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

from adv_jax.data.dataset import DataError
from adv_jax.types import Bounds

__all__ = ["contrast_norm", "grey", "pixel_scale", "standardize", "zca"]

_BLOCK = 1000  # rows at a time where float64 would need too much memory for all
_SMALLEST_NORM = 1e-8
_LUMA = (0.299, 0.587, 0.114)


class Transform(Protocol):
    """A fitted step: a NamedTuple of arrays, so that it can be stored, and pure methods."""

    def apply(self, x: np.ndarray) -> np.ndarray:
        """F32[N, *D] -> f32[N, *E], row by row."""
        ...

    def bounds(self, bounds: Bounds | None) -> Bounds | None:
        """The bounds of what comes out for those of what goes in; None: there are none."""
        ...

    def _asdict(self) -> dict[str, np.ndarray]: ...


Fit = Callable[[np.ndarray], Transform]


def contrast_norm(*, norm: float = 55.0) -> Fit:
    """Each image minus its mean over all values, at the length `norm`.

        x' = (x - mean(x)) / s,   s = |x - mean(x)|_2 / norm, but 1 where that is below 1e-8

    An image of one colour becomes 0. For all others the units of x do not matter: bytes and
    byte / 255 give the same. Nothing is fitted.

    Source: the ladder's reference program, nn.py, `ContrastNorm`.

    Raises:
      DataError: `norm` is not above 0.
    """
    if not _is_number(norm) or norm <= 0:
        raise DataError(f"norm of contrast_norm: {norm!r} found, allowed are numbers above 0")
    return lambda x: _ContrastNorm(np.array(norm, np.float64))


def zca(*, regularizer: float = 0.1) -> Fit:
    """Whitening by a symmetric matrix, after which every value is still that of its own pixel.

        x' = (x - m) V diag(1 / sqrt(e)) V^T,   V diag(e) V^T = C + regularizer I

    m and C = mean((x - m)^T (x - m)) are those of the training set, the image being one row of D
    values, and the covariance of its x' is C (C + regularizer I)^-1. All D components are kept.

    Fitted in float64, applied in float32. With u = 2^-24, a value of x' differs from the exact one
    by at most u sum_j ((D + 2) |x_j - m_j| + |m_j|) |P_ij|, where P is the matrix. Measured on a
    JPEG copy of CIFAR-10 after `contrast_norm`, where x' has a standard deviation of .47: by 4.4e-7
    (rms), and 1.0e-5 at most.

    Source: the ladder's reference program, nn.py, `ZCA`.

    Raises:
      DataError: `regularizer` is negative, or the covariance with it is singular to rounding.
    """
    if not _is_number(regularizer) or regularizer < 0:
        raise DataError(
            f"regularizer of zca: {regularizer!r} found, allowed are numbers of at least 0"
        )

    def fit(x: np.ndarray) -> Transform:
        mean = _mean(x)
        covariance = sum((d := rows - mean).T @ d for rows in _blocks(x)) / len(x)
        values, vectors = np.linalg.eigh(covariance + regularizer * np.eye(len(mean)))
        if values[0] <= len(values) * np.finfo(np.float64).eps * values[-1]:
            raise DataError(
                f"regularizer of zca: {regularizer!r} found, with which the covariance of the "
                "training set is singular; allowed are larger numbers, such as 0.1"
            )
        # Half of the power on either side: the product is symmetric to the last bit.
        root = vectors * values**-0.25
        return _Whitening(mean.astype(np.float32), (root @ root.T).astype(np.float32))

    return fit


def standardize() -> Fit:
    """Each of the D values minus its mean over the training set, divided by its deviation.

    A value that is the same in all of the training set is only shifted. The deviation is that of
    the N examples, not the estimate with N - 1.
    """

    def fit(x: np.ndarray) -> Transform:
        mean = _mean(x)
        std = np.sqrt(sum(((rows - mean) ** 2).sum(0) for rows in _blocks(x)) / len(x))
        return _Standardization(mean, np.where(std > 0, std, 1.0))

    return fit


def grey() -> Fit:
    """The luma .299 R + .587 G + .114 B of colour images: f32[N, ..., 3] -> f32[N, ..., 1].

    The weights are those of ITU-R BT.601, which Pillow and MATLAB use; bounds stay as they are.
    """

    def fit(x: np.ndarray) -> Transform:
        if x.shape[-1] != len(_LUMA):
            raise DataError(
                f"grey: inputs of shape {x.shape[1:]} found, allowed are images whose last axis "
                "is red, green, blue"
            )
        return _Grey()

    return fit


def pixel_scale(*, mean: float = 0.0, divisor: float = 256.0) -> Fit:
    """Bytes in other units: x' = (255 x - mean) / divisor, x = byte / 255. Nothing is fitted.

    Source: [huang2015], sec. 7: MNIST / 256; CIFAR-10 less 117, / 256.

    Raises:
      DataError: `mean` is no number, or `divisor` none above 0.
    """
    if not _is_number(mean) or not _is_number(divisor) or divisor <= 0:
        raise DataError(
            f"mean and divisor of pixel_scale: {mean!r} and {divisor!r} found, allowed are a "
            "number and a number above 0"
        )
    return lambda x: _PixelScale(np.array(mean, np.float64), np.array(divisor, np.float64))


def restored(name: str, arrays: Mapping[str, np.ndarray]) -> Transform:
    """The transform that the fit of `name` once gave, of its arrays; {} if it has none.

    Raises:
      DataError: these are not its arrays.
    """
    kind: Any = _KINDS[name]
    if arrays.keys() != set(kind._fields):
        raise DataError(f"arrays of {name}: {list(arrays)} found, allowed are {kind._fields}")
    return kind(**arrays)


class _ContrastNorm(NamedTuple):
    """norm: f64[]."""

    norm: np.ndarray

    def apply(self, x: np.ndarray) -> np.ndarray:
        def normalised(rows: np.ndarray) -> np.ndarray:
            # In float64 the mean of an image of one colour is exact, and nothing of it remains.
            centred = rows - rows.mean(axis=1, keepdims=True, dtype=np.float64)
            scale = np.linalg.norm(centred, axis=1, keepdims=True) / self.norm
            return centred / np.where(scale < _SMALLEST_NORM, 1.0, scale)

        return _by_blocks(normalised, x, x.shape[1:])

    def bounds(self, bounds: Bounds | None) -> None:
        """None: how far a value may go depends on the others of its image."""


class _Whitening(NamedTuple):
    """mean: f32[D]; matrix: f32[D, D], symmetric."""

    mean: np.ndarray
    matrix: np.ndarray

    def apply(self, x: np.ndarray) -> np.ndarray:
        return _by_blocks(lambda rows: (rows - self.mean) @ self.matrix, x, x.shape[1:])

    def bounds(self, bounds: Bounds | None) -> None:
        """None: a box is a box no longer."""


class _Standardization(NamedTuple):
    """mean, std: f64[D]."""

    mean: np.ndarray
    std: np.ndarray

    def apply(self, x: np.ndarray) -> np.ndarray:
        return _by_blocks(lambda rows: (rows - self.mean) / self.std, x, x.shape[1:])

    def bounds(self, bounds: Bounds | None) -> None:
        """None: they would differ from value to value."""


class _Grey(NamedTuple):
    """Nothing is fitted."""

    def apply(self, x: np.ndarray) -> np.ndarray:
        def luma(rows: np.ndarray) -> np.ndarray:
            return rows.reshape(len(rows), -1, len(_LUMA)) @ np.array(_LUMA)

        return _by_blocks(luma, x, (*x.shape[1:-1], 1))

    def bounds(self, bounds: Bounds | None) -> Bounds | None:
        """The same: the weights sum to 1."""
        return bounds


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


_KINDS = {
    "contrast_norm": _ContrastNorm,
    "grey": _Grey,
    "pixel_scale": _PixelScale,
    "standardize": _Standardization,
    "zca": _Whitening,
}


def _by_blocks(
    fn: Callable[[np.ndarray], np.ndarray], x: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
    """fn, which takes rows f32[n, D] and gives as many, of x f32[N, *D]: f32[N, *shape]."""
    out = np.empty((len(x), *shape), np.float32)
    done = 0
    for rows in _blocks(x):
        out[done : done + len(rows)] = fn(rows).reshape(-1, *shape)
        done += len(rows)
    return out


def _blocks(x: np.ndarray) -> Iterator[np.ndarray]:
    """f32[N, *D] -> f32[n, D] each, which have all rows in their order."""
    for start in range(0, len(x), _BLOCK):
        rows = x[start : start + _BLOCK]
        yield rows.reshape(len(rows), -1)


def _mean(x: np.ndarray) -> np.ndarray:
    """f32[N, *D] -> f64[D]."""
    return x.mean(axis=0, dtype=np.float64).ravel()


def _is_number(value: object) -> bool:
    is_real = isinstance(value, int | float) and not isinstance(value, bool)
    return is_real and math.isfinite(value)
