"""Finds, reads and hashes files, plain or gzipped."""

import contextlib
import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from adv_jax.data.dataset import DataError, MissingData

_GZIP_MAGIC = b"\x1f\x8b"
_MAX_BYTES = 1 << 30  # far above every supported file

Parsed = TypeVar("Parsed")


class Reader(Protocol):
    """The content of a file, read sequentially."""

    def read(self, size: int, /) -> bytes:
        """Returns the next `size` bytes, or fewer at the end."""
        ...


def folder_of(dir: str) -> Path:
    """Returns the path of `data.dir`, with a leading ~ expanded."""
    return Path(os.path.expanduser(dir))  # Path.expanduser raises without a home.


def required_folder(dir: str, content: str) -> Path:
    """Returns the folder `dir`, as `folder_of`.

    content: its files, in words, for the message.

    Raises:
      MissingData: `dir` is "".
    """
    if not dir:
        raise MissingData(f"data.dir must be the folder of {content} for source 'files', got ''")
    return folder_of(dir)


def find(folder: Path, name: str) -> Path | None:
    """Returns the file `name` in `folder`, plain or else with `.gz`, or None."""
    both = (folder / name, folder / f"{name}.gz")
    return next((p for p in both if os.path.exists(p)), None)


def required(folder: Path, name: str) -> Path:
    """Returns the file `name` in `folder`, as `find`.

    Raises:
      MissingData: there is none.
    """
    if (path := find(folder, name)) is None:
        raise MissingData(
            f"data.dir must be a folder with {name}, plain or .gz, for source 'files', got {folder}"
        )
    return path


@contextlib.contextmanager
def npz(path: Path) -> Iterator[Mapping[str, np.ndarray]]:
    """Opens a file of arrays; one that is damaged or has Python objects may raise any error."""
    # NumPy does not close a damaged file that it opened itself; np.load also takes other formats.
    with path.open("rb") as stream, np.lib.npyio.NpzFile(stream, allow_pickle=False) as arrays:
        yield arrays


def read(path: Path, parse: Callable[[Reader], Parsed]) -> tuple[Parsed, str]:
    """Parses a file.

    Args:
      path: the file; gzip is recognized by its first bytes, not by its name.
      parse: takes the unzipped content. It must limit its reads, as a small .gz may unzip to
        terabytes, but read to the end, where gzip checks its CRC.

    Returns:
      The result of `parse`, and the SHA-256 (hex) of the file as stored.

    Raises:
      DataError: the file cannot be read, is too long, or is corrupt gzip.
    """
    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise DataError(f"{path}: size must be at most {_MAX_BYTES} bytes, got {size}")
        stored = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    content = io.BytesIO(stored)
    zipped = stored.startswith(_GZIP_MAGIC)
    try:
        parsed = parse(gzip.GzipFile(fileobj=content) if zipped else content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: truncated or corrupt gzip ({error})") from None
    return parsed, hashlib.sha256(stored).hexdigest()


def sha256(path: Path) -> str:
    """Returns the SHA-256 (hex) of a file of any size."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
