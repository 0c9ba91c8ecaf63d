"""A file system without space."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Takes what is left of the file system of a folder, and gives it back.

    Page by page until the system refuses: how much is free may change while it is asked for.
    """
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(4096))
    yield
    ballast.unlink()
