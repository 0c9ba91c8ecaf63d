"""The idx format of the MNIST family: a header and a typed array, gzipped or not.

Header: two zero bytes, a type code, the number of axes, then each axis as a big-endian uint32.
"""

import hashlib
import math
from functools import partial
from pathlib import Path

import numpy as np

from adv_jax.data import files
from adv_jax.data.dataset import DataError

_UBYTE = 8
_MAX_BYTES = 1 << 30  # A corrupt header may declare terabytes.


def read(path: Path, *, shape: tuple[int, ...]) -> tuple[np.ndarray, str]:
    """Reads an idx file of unsigned bytes.

    Args:
      path: the file, gzipped or not.
      shape: the axes of one item: `(28, 28)` for MNIST images, `()` for labels.

    Returns:
      u8[N, *shape] with N >= 1, and the SHA-256 (hex) of the file as stored.

    Raises:
      DataError: the file cannot be read, is truncated, too long, corrupt, or of another format.
    """
    return files.read(path, partial(_parse, path=path, shape=shape))


def sha256(array: np.ndarray) -> str:
    """Returns the SHA-256 (hex) of u8[N, ...] as an idx file, not gzipped."""
    header = bytes((0, 0, _UBYTE, array.ndim)) + np.array(array.shape, ">u4").tobytes()
    return hashlib.sha256(header + array.tobytes()).hexdigest()


def _parse(stream: files.Reader, path: Path, shape: tuple[int, ...]) -> np.ndarray:
    magic = stream.read(4)
    allowed = bytes((0, 0, _UBYTE, 1 + len(shape)))
    if magic != allowed:
        raise DataError(
            f"{path}: magic number must be {allowed.hex()} (idx, unsigned bytes, "
            f"{1 + len(shape)} axes), got {magic.hex() or 'none'}"
        )
    size = 4 * (1 + len(shape))
    header = stream.read(size)
    if len(header) < size:
        found = len(magic + header)
        raise DataError(f"{path}: header must be {len(magic) + size} bytes, got {found}")
    count, *axes = (int(axis) for axis in np.frombuffer(header, dtype=">u4"))
    if tuple(axes) != shape:
        raise DataError(f"{path}: shape of an item must be {shape}, got {tuple(axes)}")
    size = count * math.prod(shape)
    if not 0 < size <= _MAX_BYTES:
        raise DataError(
            f"{path}: number of items in the header must be 1 to "
            f"{_MAX_BYTES // math.prod(shape)}, got {count}"
        )
    # One byte more: it detects a tail and makes gzip check its CRC.
    payload = stream.read(size + 1)
    if len(payload) != size:
        found = len(payload) if len(payload) < size else "more"
        raise DataError(f"{path}: data must be {size} bytes as in the header, got {found}")
    return np.frombuffer(payload, dtype=np.uint8).reshape(count, *shape)
