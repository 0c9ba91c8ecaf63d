"""A full file system."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Fills the file system of a folder until exit.

    Writes pages until the system refuses, as the free space may change meanwhile.
    """
    ballast = folder / "ballast"
    command = ["dd", "if=/dev/zero", f"of={ballast}", "bs=4096"]
    assert b"No space left" in subprocess.run(command, capture_output=True).stderr
    yield
    ballast.unlink()
