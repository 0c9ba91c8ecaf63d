"""The idx format of the MNIST family: a typed array behind a short header, gzipped or not.

Header: two zero bytes, a type code, the number of axes, then each axis as a big-endian uint32.
"""

import gzip
import hashlib
import io
import math
import zlib
from pathlib import Path

import numpy as np

from adv_jax.data.dataset import DataError

_UBYTE = 8
_GZIP_MAGIC = b"\x1f\x8b"
# A header may promise terabytes, and a small .gz deliver them; no idx set in use comes near this.
_MAX_BYTES = 1 << 30


def read(path: Path, *, shape: tuple[int, ...]) -> tuple[np.ndarray, str]:
    """Reads an idx file of unsigned bytes.

    Args:
      path: the file; gzip is recognised by its first bytes, not by its name.
      shape: the axes of one item: `(28, 28)` for MNIST images, `()` for labels.

    Returns:
      u8[N, *shape] with N >= 1, and the SHA-256 (hex) of the file as stored.

    Raises:
      DataError: the file cannot be read, is truncated, too long, corrupt, or holds something else.
    """
    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise DataError(f"{path}: {size} bytes found, allowed are at most {_MAX_BYTES}")
        stored = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    stream = io.BytesIO(stored)
    if stored.startswith(_GZIP_MAGIC):
        stream = gzip.GzipFile(fileobj=stream)
    try:
        values = _parse(stream, path, shape)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: truncated or corrupt gzip ({error})") from None
    return values, hashlib.sha256(stored).hexdigest()


def _parse(stream, path: Path, shape: tuple[int, ...]) -> np.ndarray:
    magic = stream.read(4)
    allowed = bytes((0, 0, _UBYTE, 1 + len(shape)))
    if magic != allowed:
        raise DataError(
            f"{path}: magic number {magic.hex() or 'missing'} found, allowed is {allowed.hex()} "
            f"(idx, unsigned bytes, {1 + len(shape)} axes)"
        )
    header = stream.read(4 * (1 + len(shape)))
    if len(header) < 4 * (1 + len(shape)):
        raise DataError(f"{path}: truncated in its header, {4 + len(header)} bytes found")
    count, *axes = (int(axis) for axis in np.frombuffer(header, dtype=">u4"))
    if tuple(axes) != shape:
        raise DataError(f"{path}: items of shape {tuple(axes)} found, allowed is {shape}")
    promised = count * math.prod(shape)
    if not 0 < promised <= _MAX_BYTES:
        raise DataError(
            f"{path}: a header of {count} items found, allowed are 1 to "
            f"{_MAX_BYTES // math.prod(shape)}"
        )
    # One byte more than promised: enough to notice a tail, and it makes gzip check its CRC.
    payload = stream.read(promised + 1)
    if len(payload) != promised:
        found = f"only {len(payload)}" if len(payload) < promised else "more"
        raise DataError(f"{path}: {found} bytes of data found, its header promises {promised}")
    return np.frombuffer(payload, dtype=np.uint8).reshape(count, *shape)
