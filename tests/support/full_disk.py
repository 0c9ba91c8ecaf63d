"""A file system without space."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Takes what is left of the file system of a folder, and gives it back.

    Page by page until the system refuses: how much is free may change while it is asked for.
    """
    ballast = folder / "ballast"
    command = ["dd", "if=/dev/zero", f"of={ballast}", "bs=4096"]
    assert b"No space left" in subprocess.run(command, capture_output=True).stderr
    yield
    ballast.unlink()
