"""The arguments of an evaluation beside its attacks and sizes."""

import hashlib
from typing import Any, NamedTuple

import jax
import numpy as np

from adv_jax.random import key_of_rows
from adv_jax.types import Bounds, Key, described


class Setup(NamedTuple):
    """Data and settings of a call, to recognize and to repeat it.

    inputs: dtype and shape of x, as text.
    sha256: of the bytes of x, in the order of its rows.
    bounds: (lo, hi), as text, or None.
    bits: as in `evaluate`.
    key: the key as a call, or how many there are; None without one.
    """

    inputs: str
    sha256: str
    bounds: str | None
    bits: int | None
    key: str | None


class RowDigest:
    """The rows of x as they are given, in one or several blocks."""

    def __init__(self) -> None:
        self._count, self._digest = 0, hashlib.sha256()

    def add(self, x: Any) -> "RowDigest":
        """Counts and hashes a block of rows f[B, *D]."""
        x = np.ascontiguousarray(x)
        self._dtype, self._shape = x.dtype, x.shape[1:]
        self._count += len(x)
        self._digest.update(x.view(np.uint8).data)
        return self

    def setup(self, *, bounds: Bounds | None, bits: int | None, key: Key | None) -> Setup:
        """Returns the setup of a call on the rows so far."""
        return Setup(
            f"{self._dtype.name}{[self._count, *self._shape]}",
            self._digest.hexdigest(),
            None if bounds is None else described(bounds),
            bits,
            None if key is None else _as_call(key_of_rows(key, self._count)),
        )


def _as_call(key: Key) -> str:
    """Returns a key as text.

    >>> _as_call(jax.random.key(3)), _as_call(jax.random.split(jax.random.key(3)))
    ('jax.random.key(3)', '2 keys, one for each row')
    """
    if key.ndim:
        return f"{len(key)} keys, one for each row"
    data = np.asarray(jax.random.key_data(key))
    seed = int(data[-1])
    made = jax.random.key(seed % 2**31, impl=jax.random.key_impl(key))
    if np.array_equal(jax.random.key_data(made), data):
        return f"jax.random.key({seed})"
    return f"jax.random.wrap_key_data(np.array({data.tolist()}, np.uint32))"
