"""Writes files atomically, and checks beforehand that a folder takes them."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

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


def check_writable(folder: Path) -> None:
    """Checks that a folder, which may not exist yet, can be made and takes files. Writes nothing.

    Raises:
      WorkdirError: the system refuses it, or its path leaves no room for the names of files.
    """
    with writing(folder):
        if folder.exists() and not folder.is_dir():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        with suppress(FileNotFoundError):
            os.lstat(folder / ("-" * _ROOM))  # Fails below a file, and for too long a path.
        above = (folder.absolute(), *folder.absolute().parents)
        there = next(path for path in above if os.path.exists(path))
        if not os.access(there, os.W_OK | os.X_OK):
            # The system names the reason: a file system that is read-only, or the permissions.
            read_only = os.statvfs(there).f_flag & os.ST_RDONLY
            number = errno.EROFS if read_only else errno.EACCES
            raise OSError(number, os.strerror(number))


def write_file(path: Path, content: bytes) -> None:
    """Writes a file atomically, as `replace`, and its folder if there is none."""
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    replace(path, content)


def replace(path: Path, content: bytes) -> None:
    """Writes a file atomically.

    Raises:
      WorkdirError: the file cannot be written.
    """
    part = path.with_name(path.name + ".part")
    with writing(path):
        try:
            with part.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise


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
