"""Ends a command in one line where Python would print a traceback."""

import contextlib
import errno
import io
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

from absl import logging

from adv_jax.runner.host.signals import Interrupted
from adv_jax.runner.store.stragglers import without_stragglers

# Reasons of the system, not of a program, to refuse a file.
_FULL = {errno.ENOSPC, errno.EDQUOT}
_REFUSALS = {errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP, errno.EROFS} | _FULL


@contextlib.contextmanager
def without_traceback() -> Iterator[None]:
    """Ends a command by one line: on a UserError with 1, on a signal with 128 + its number.

    A file that the system refuses, as for want of a permission or of space, is such an error, too.

    So it ends if its standard output cannot be written, too: on a closed pipe silently, by SIGPIPE,
    on other errors with 1. Training first saves the current epoch, as after SIGTERM.
    """
    if "JAX_LOG_COMPILES" not in os.environ:
        logging.set_verbosity(logging.FATAL)  # JAX and Orbax also raise the errors that they log.
    sys.unraisablehook = without_stragglers(sys.unraisablehook)  # Until the process ends.
    before = sys.stdout
    if not isinstance(before, io.TextIOWrapper):  # None: closed by the shell, `>&-`.
        with _in_one_line():
            yield
        return
    raw = _Output(before.fileno(), "w", closefd=False)
    # A path may hold what the encoding of the output does not.
    ours = io.TextIOWrapper(
        io.BufferedWriter(raw),
        before.encoding,
        "backslashreplace",
        line_buffering=before.line_buffering,
    )
    sys.stdout, ended = ours, None
    try:
        with _in_one_line():
            yield
    except SystemExit as error:
        ended = error
    finally:
        with contextlib.suppress(SystemExit):
            ours.flush()
        sys.stdout = before
    failure = raw.failure
    if failure and not (ended and isinstance(ended.code, str)):  # Keep the command's own message.
        if failure.errno == errno.EPIPE:
            sys.exit(128 + signal.SIGPIPE)
        sys.exit(f"error: standard output cannot be written: {failure.strerror}")
    if ended:
        raise ended


@contextlib.contextmanager
def first_line_of_errors() -> Iterator[None]:
    """Raises UserError with the first line of a ValueError, as of an attack or file of the user.

    A training needs the traceback of such an error.
    """
    try:
        yield
    except ValueError as error:
        from adv_jax.types import UserError  # Later, as in `_in_one_line`.

        raise UserError(str(error).strip().partition("\n")[0]) from error


@contextlib.contextmanager
def _in_one_line() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        from adv_jax.types import UserError  # Loads JAX, which `python -m adv_jax` can do without.

        if not isinstance(error, UserError):
            raise
        sys.exit(f"error: {error}")
    except OSError as error:  # Of any file of the command, also when it asks if one exists.
        if error.errno in _FULL and error.filename is None:  # Writing to an open file names none.
            sys.exit(f"error: a file cannot be written: {error.strerror}")
        if error.errno not in _REFUSALS or error.filename is None:
            raise
        sys.exit(f"error: {error.filename} cannot be used: {error.strerror}")
    except Interrupted as stop:
        print(stop)
        sys.exit(128 + stop.signum)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)


class _Output(io.FileIO):
    """A file that stops the command at the first error and discards later writes."""

    failure: OSError | None = None

    def write(self, data: Any) -> int | None:
        if self.failure is None:
            try:
                return super().write(data)
            except OSError as error:
                self.failure = error
                # Stop by a signal or SystemExit: libraries may catch a subclass of Exception.
                if not callable(signal.getsignal(signal.SIGTERM)):
                    sys.exit(1)
                signal.raise_signal(signal.SIGTERM)
        return memoryview(data).nbytes
