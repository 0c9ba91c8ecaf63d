"""Data sets from arrays: the user's own, or those of an npz file."""

import hashlib
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from adv_jax.data import files
from adv_jax.data.arguments import as_array, number, pair, plain
from adv_jax.data.dataset import Arrays, DataError, Dataset, from_bytes
from adv_jax.ranges import Range
from adv_jax.types import Bounds, described

NAMES = ("x_train", "y_train", "x_test", "y_test")  # of the arrays in an npz file
MOST_CLASSES = 2**31  # Labels are int32.
_OF_BYTES = (0.0, 1.0)


def from_arrays(
    name: str,
    *,
    train: tuple[Any, Any],
    test: tuple[Any, Any],
    num_classes: int | None = None,
    bounds: Bounds | None = None,
) -> Dataset:
    """Returns the data set of your own arrays, checked and converted.

    Args:
      name: your name for it.
      train, test: (x, y). x: bytes u8[N, *D], which become byte / 255 as of the image files, with
        bounds (0, 1) and, if u8[N, H, W], an axis of one channel; or floats f[N, *D], which keep
        their units as float32. y: integers [N] or [N, 1], in [0, num_classes).
      num_classes: K, at most 2^31; None: the largest label + 1.
      bounds: (lo, hi), the smallest and largest value that an input can have, finite and with
        lo < hi in float32; None: (0, 1) for bytes, and floats are unbounded.

    Raises:
      DataError: another dtype or shape; traced or masked arrays; a value that is not finite or
        outside the bounds; a label out of range; bounds that are not (lo, hi), or other ones than
        (0, 1) with bytes.

    >>> import numpy as np
    >>> x, y = np.zeros((6, 8, 8), np.uint8), np.arange(6) % 3
    >>> digits = from_arrays("black", train=(x, y), test=(x, y))
    >>> digits.train.x.shape, digits.num_classes, digits.bounds
    ((6, 8, 8, 1), 3, (0.0, 1.0))
    """
    check_name(name)
    pairs = (_pair(name, "train", train), _pair(name, "test", test))
    arrays = dict(zip(NAMES, (*pairs[0], *pairs[1]), strict=True))
    sha256 = {"arrays": _sha256(arrays)}
    return _dataset(
        arrays, name=name, origin=name, num_classes=num_classes, bounds=bounds
    )._replace(sha256=sha256)


def check_name(name: Any) -> None:
    """Raises DataError unless the name of a data set is a printable text."""
    if not isinstance(name, str) or not name or not name.isprintable():
        raise DataError(f"the name of a data set must be a printable text, got {described(name)}")


def checked(dataset: Any, *, origin: str) -> Dataset:
    """Returns the result of a user's function, checked and converted as by `from_arrays`.

    Args:
      origin: the function, for the message.

    Raises:
      DataError: it is no Dataset, or as `from_arrays`.
    """
    if not isinstance(dataset, Dataset):
        found = f"a {type(dataset).__name__}"
        raise DataError(f"{origin} must return an adv_jax.data.Dataset, got {found}")
    own = dataset._asdict()
    made = from_arrays(**{k: own[k] for k in ("name", "train", "test", "num_classes", "bounds")})
    return made._replace(sha256=dict(dataset.sha256) or made.sha256, stream=dataset.stream)


def from_npz(dir: str, *, name: str) -> Dataset:
    """Reads the arrays x_train, y_train, x_test and y_test of `dir`/`name`.npz, as `from_arrays`.

    Args:
      dir: the folder of the file, "" for the current one; or the file itself, *.npz.
      name: the name of the data set.

    Raises:
      DataError: the file or an array is missing or damaged, an array holds Python objects, or as
        `from_arrays`.
    """
    check_name(name)
    folder = files.folder_of(dir)
    path = folder if folder.suffix == ".npz" else folder / f"{name}.npz"
    if not os.path.isfile(path):  # Path.is_file raises for a name that is too long.
        raise DataError(
            f"data.dir must be a folder with {name}.npz, or an npz file, for source 'npz', got "
            f"{dir!r}"
        )
    dataset = _dataset(_read(path), name=name, origin=path, num_classes=None, bounds=None)
    return dataset._replace(source="npz", sha256={path.name: files.sha256(path)})


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        with files.npz(path) as stored:
            there = list(stored)
            if not set(NAMES) <= set(there):
                legal, found = ", ".join(NAMES), ", ".join(there) or "none"
                raise DataError(f"{path} must have the arrays {legal}, got {found}")
            return {name: as_array(f"{path}: {name}", stored[name]) for name in NAMES}
    except DataError:
        raise
    except Exception as error:
        line = str(error).partition("\n")[0] or type(error).__name__
        found = "an array of Python objects" if line.startswith("Object arrays") else line
        raise DataError(f"{path} must be an npz file of numbers, got {found}") from error


def _pair(origin: str, split: str, part: Any) -> tuple[np.ndarray, np.ndarray]:
    x, y = (f"{origin}: {letter}_{split}" for letter in "xy")
    return pair(f"{origin}: {split}", part, x=x, y=y)


def _dataset(
    arrays: Mapping[str, np.ndarray],
    *,
    name: str,
    origin: str | Path,
    num_classes: int | None,
    bounds: Bounds | None,
) -> Dataset:
    """Checks and converts the arrays of `NAMES`; `origin` begins the messages."""
    for key in NAMES:
        (_check_x if key[0] == "x" else _check_y)(f"{origin}: {key}", arrays[key])
    x_train, y_train, x_test, y_test = (arrays[key] for key in NAMES)
    of_bytes = x_train.dtype == np.uint8
    if x_test.shape[1:] != x_train.shape[1:] or (x_test.dtype == np.uint8) != of_bytes:
        rows, found = described(x_train[0]), described(x_test[0])
        raise DataError(f"{origin}: x_test must have rows {rows}, as x_train, got {found}")
    if num_classes is None:
        # The line about a label out of range says more than one about num_classes.
        num_classes = min(max(1, int(y_train.max()) + 1, int(y_test.max()) + 1), MOST_CLASSES)
    num_classes = checked_classes(origin, num_classes)
    train, test = (
        Arrays(
            natural(f"{origin}: x_{split}", x),
            labels_of(origin, f"y_{split}", y, len(x), num_classes),
        )
        for split, x, y in (("train", x_train, y_train), ("test", x_test, y_test))
    )
    limits = _checked_bounds(origin, bounds, of_bytes=of_bytes)
    if limits and not of_bytes:
        for split, part in (("train", train), ("test", test)):
            _check_within(f"{origin}: x_{split}", part.x, limits)
    return Dataset(name, "arrays", {}, train, test, num_classes, limits)


def checked_classes(origin: str | Path, num_classes: Any) -> int:
    """Returns K; raises DataError unless it is a whole number from 1 to 2^31."""
    return number(f"{origin}: num_classes", num_classes, f"{{1, ..., {MOST_CLASSES}}}")


def _check_x(field: str, x: np.ndarray) -> None:
    # JAX knows bfloat16, which is no float of NumPy.
    is_legal = x.dtype == np.uint8 or jnp.issubdtype(x.dtype, jnp.floating)
    if not is_legal or x.ndim < 2 or not x.size:
        allowed = "bytes uint8[N, ...] or floats [N, ...]"
        raise DataError(f"{field} must be {allowed}, got {described(x)}")


def _check_y(field: str, y: np.ndarray) -> None:
    if y.dtype.kind not in "iu" or y.shape[1:] not in ((), (1,)) or not y.size:
        allowed = "classes, integers [N] or [N, 1]"
        raise DataError(f"{field} must be {allowed}, got {described(y)}")


def labels_of(
    origin: str | Path, name: str, y: np.ndarray, count: int, num_classes: int
) -> np.ndarray:
    """Returns i32[N] after checking that there are `count` labels in [0, num_classes).

    Args:
      origin, name: of the labels, "y..." beside "x...", for messages.

    Raises:
      DataError: there are others.
    """
    _check_y(f"{origin}: {name}", y)
    labels = y.reshape(-1)
    if count != len(labels):
        raise DataError(
            f"{origin}: {name} must have {count} labels, one for each row of "
            f"{name.replace('y', 'x', 1)}, got {len(labels)}"
        )
    bad = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if bad.size:
        raise DataError(
            f"{origin}: the label of row {bad[0]} of {name} must be 0 to {num_classes - 1}, "
            f"got {labels[bad[0]]}"
        )
    return labels.astype(np.int32)


def natural(field: str, x: np.ndarray) -> np.ndarray:
    """Returns f32[N, *D] in natural units.

    Raises:
      DataError: another dtype, no rows or a value that is not finite.
    """
    _check_x(field, x)
    if x.dtype == np.uint8:
        return from_bytes(x[..., None] if x.ndim == 3 else x)
    with np.errstate(over="ignore"):
        x = np.ascontiguousarray(x, np.float32)
    if not np.isfinite(x).all():
        bad = np.argwhere(~np.isfinite(x))
        raise DataError(
            f"{field} must be finite in float32, got {x[tuple(bad[0])]} in row {bad[0][0]}"
        )
    return x


def _checked_bounds(origin: str | Path, bounds: Any, *, of_bytes: bool) -> Bounds | None:
    if bounds is None:
        return _OF_BYTES if of_bytes else None
    is_sequence = isinstance(bounds, tuple | list) or getattr(bounds, "ndim", 0) == 1
    limits = [plain(limit) for limit in bounds] if is_sequence else []
    are_two = len(limits) == 2 and all(map(Range.of("(-inf, inf)").allows, limits))
    lo, hi = map(float, limits) if are_two else (0.0, 0.0)
    if of_bytes and (lo, hi) != _OF_BYTES:
        allowed = "(0, 1) or None for bytes, which become byte / 255"
        raise DataError(f"{origin}: bounds must be {allowed}, got {described(bounds)}")
    with np.errstate(over="ignore"):
        lo32, hi32 = np.array([lo, hi], np.float32)
    if not -math.inf < lo32 < hi32 < math.inf:
        allowed = "finite (lo, hi) with lo < hi in float32 or None"
        raise DataError(f"{origin}: bounds must be {allowed}, got {described(bounds)}")
    return lo, hi


def _check_within(field: str, x: np.ndarray, bounds: Bounds) -> None:
    """Raises DataError for a value outside the bounds, which no attack would take."""
    lo, hi = np.float32(bounds[0]), np.float32(bounds[1])
    outside = np.argwhere((x < lo) | (x > hi))
    if len(outside):
        first = tuple(outside[0])
        raise DataError(
            f"{field} must be within the bounds {bounds}, got {x[first]} in row {first[0]}"
        )


def _sha256(arrays: Mapping[str, np.ndarray]) -> str:
    """Returns the SHA-256 (hex) of the dtypes, shapes and values of arrays."""
    hashed = hashlib.sha256()
    for array in arrays.values():
        hashed.update(f"{array.dtype.str}{array.shape}".encode())
        hashed.update(np.ascontiguousarray(array).tobytes())
    return hashed.hexdigest()
