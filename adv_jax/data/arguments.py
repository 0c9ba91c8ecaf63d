"""Checks of arguments: numbers, arrays and pairs (x, y) of them."""

from typing import Any

import numpy as np

from adv_jax.data.dataset import DataError
from adv_jax.ranges import Range
from adv_jax.types import described, host_array


def number(field: str, value: Any, interval: str, *, allowed: str = "") -> Any:
    """Returns a number, or a scalar of NumPy or JAX, as a number of Python.

    Args:
      interval: the range, as the text that `Range.of` reads.
      allowed: words that complete "must be"; "": those of the range.

    Raises:
      DataError: it is outside the range, or no number; booleans are no numbers.

    >>> number("cells", np.int64(4), "{2, 3, ...}")
    4
    """
    within = Range.of(interval)
    if not within.allows(found := plain(value)):
        raise DataError(f"{field} must be {allowed or within}, got {described(value)}")
    return found


def plain(value: Any) -> Any:
    """Returns a scalar of NumPy, JAX or PyTorch as a value of Python; all else as it is."""
    try:
        return value.item() if value.shape == () else value
    except (AttributeError, TypeError, NotImplementedError):  # No array; a traced number; a key.
        return value


def as_array(field: str, value: Any) -> np.ndarray:
    """Returns a NumPy array.

    Raises:
      DataError: the values are unknown, as in `jax.jit`, or have a mask, which NumPy would drop; a
        ragged list; other Python objects.
    """
    found = host_array(value)
    if found is None:
        allowed = "an array of numbers on the host, neither traced nor masked"
        raise DataError(f"{field} must be {allowed}, got {described(value)}")
    return found


def pair(field: str, value: Any, *, x: str, y: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns (x, y) as NumPy arrays.

    Args:
      x, y: the fields of the two arrays, for messages.

    Raises:
      DataError: the value is no tuple or list of two, or as `as_array`.
    """
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise DataError(f"{field} must be (x, y), got {described(value)}")
    return as_array(x, value[0]), as_array(y, value[1])
