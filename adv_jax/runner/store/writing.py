"""Writes files atomically, and checks beforehand that a folder takes them."""

import fcntl
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from adv_jax.types import UserError

_ROOM = 100  # characters of the longest name below a folder, with those of its subfolders


class WorkdirError(UserError):
    """A workdir cannot be used."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Converts an OSError to a WorkdirError that names the path."""
    try:
        yield
    except OSError as error:
        raise WorkdirError(f"{path} cannot be written: {error.strerror or error}") from error


@contextmanager
def scratch() -> Iterator[Path]:
    """Makes a temporary folder where the system has them; deletes it at the end.

    Raises:
      WorkdirError: none can be made.
    """
    try:
        made = tempfile.TemporaryDirectory()
    except OSError as error:
        why = error.strerror or error
        raise WorkdirError(f"TMPDIR must be a folder that takes files, got none: {why}") from error
    with made as path:
        yield Path(path)


def check_writable(folder: Path) -> None:
    """Checks that a folder, which may not exist yet, can be made and takes files; leaves none.

    Raises:
      WorkdirError: the system refuses it, or its path leaves no room for the names of files.
    """
    with writing(folder):
        if folder.exists() and not folder.is_dir():
            raise WorkdirError(f"{folder} must be a folder, got a file")
        with suppress(FileNotFoundError):
            os.lstat(folder / ("-" * _ROOM))  # Fails below a file, and for too long a path.
        there = _existing(folder)
        for name in folder.absolute().relative_to(there).parts:
            _check_name(there, name)
        with tempfile.TemporaryFile(dir=there):
            pass


def check_file(path: Path) -> None:
    """Checks that a file, whose folder may not exist yet, can be written. Leaves it as it is.

    Raises:
      WorkdirError: it is a folder or a device, its name is too long, or its folder is refused.
    """
    check_writable(path.parent)
    with writing(path):
        if path.is_dir():
            raise WorkdirError(f"{path} must be a file, got a folder")
        if path.exists() and not path.is_file():  # It would be replaced by a file.
            raise WorkdirError(f"{path} must be a file, got a device or a pipe")
        _check_name(_existing(path.parent), _part(path).name)


def _existing(folder: Path) -> Path:
    """Returns the folder, or the deepest one above it that exists."""
    above = (folder.absolute(), *folder.absolute().parents)
    return next(path for path in above if os.path.exists(path))


def _check_name(folder: Path, name: str) -> None:
    """Raises OSError if the folder takes no such name, as one that is too long."""
    with suppress(FileNotFoundError):
        os.lstat(folder / name)


def write_files(contents: Mapping[Path, bytes], *, stale: Iterable[Path] = ()) -> None:
    """Writes files that belong together, in order, and their folders.

    Each file changes at once, and none before all are on the disk. No path may be there twice.

    Args:
      contents: path -> bytes.
      stale: other files, which belong to what these replace. They are deleted if they exist.

    Raises:
      WorkdirError: a file cannot be written or deleted.
    """
    for path in contents:
        with writing(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as parts:
        # In the same order in all processes, which may wait for each other.
        for path in sorted(contents, key=os.path.realpath):
            with writing(path):
                parts.enter_context(_part_of(path, contents[path]))
        for path in contents:
            with writing(path):
                _part(path).replace(path)
    for path in stale:
        with writing(path):
            path.unlink(missing_ok=True)


def replace(path: Path, content: bytes) -> None:
    """Writes a file in a folder that exists, as `write_files`."""
    with writing(path), _part_of(path, content):
        _part(path).replace(path)


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")


@contextmanager
def _part_of(path: Path, content: bytes) -> Iterator[None]:
    """Writes a file under a temporary name, and deletes it if it still has that name at the end."""
    part = _part(path)
    with _opened_alone(part) as file:
        try:
            file.truncate(0)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            yield
        finally:
            if is_at(part, file.fileno()):
                part.unlink()


def _opened_alone(path: Path) -> BinaryIO:
    """Opens a file to write; waits while another process has it, which may rename it meanwhile."""
    while True:
        file = path.open("ab")
        with suppress(OSError):  # Some file systems have no locks.
            fcntl.flock(file, fcntl.LOCK_EX)
        if is_at(path, file.fileno()):
            return file
        file.close()


def is_at(path: Path, descriptor: int) -> bool:
    """Returns whether a path is still that of an open file or folder."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except OSError:
        return False


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the lock of a file, which stays; waits while another process holds it.

    Raises:
      WorkdirError: the file cannot be written.
    """
    with ExitStack() as opened:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = opened.enter_context(path.open("a"))
            fcntl.flock(file, fcntl.LOCK_EX)  # The kernel releases it when the file is closed.
        yield
