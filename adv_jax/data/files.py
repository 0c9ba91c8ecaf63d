"""Files on disk: found plain or gzipped, parsed from their content, known by their SHA-256."""

import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from adv_jax.data.dataset import DataError

_GZIP_MAGIC = b"\x1f\x8b"
_MAX_BYTES = 1 << 30  # No file of a set in use comes near this.

Parsed = TypeVar("Parsed")


class Stream(Protocol):
    """The content of a file, read in turn."""

    def read(self, size: int, /) -> bytes:
        """At most so many of the next bytes; fewer at the end."""
        ...


def folder_of(dir: str) -> Path:
    """The path of `data.dir`, from a leading ~ the home on, if there is one."""
    return Path(os.path.expanduser(dir))  # Path.expanduser raises where there is none.


def find(folder: Path, name: str) -> Path | None:
    """The file `name` in `folder`, plain or else with `.gz`; None: neither is there."""
    both = (folder / name, folder / f"{name}.gz")
    return next((p for p in both if os.path.exists(p)), None)  # None too where none can be.


def read(path: Path, parse: Callable[[Stream], Parsed]) -> tuple[Parsed, str]:
    """Parses a file.

    Args:
      path: the file; gzip is recognised by its first bytes, not by its name.
      parse: takes the content, unzipped. A small .gz may deliver terabytes, so it reads no more
        than it can use, but to the end, where gzip checks its CRC.

    Returns:
      What `parse` gave, and the SHA-256 (hex) of the file as stored.

    Raises:
      DataError: the file cannot be read, is too long, or is corrupt as gzip.
    """
    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise DataError(f"{path}: {size} bytes found, allowed are at most {_MAX_BYTES}")
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
    """The SHA-256 (hex) of a file of any size."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
