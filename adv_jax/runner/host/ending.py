"""Ends a command in one line where Python would print a traceback."""

import contextlib
import errno
import io
import signal
import sys
from collections.abc import Iterator
from typing import Any

from adv_jax.runner.store.stragglers import without_stragglers


@contextlib.contextmanager
def without_traceback() -> Iterator[None]:
    """Ends a command on Ctrl-C with 128 + SIGINT, and if its standard output cannot be written.

    A closed pipe ends it silently with 128 + SIGPIPE, other errors with 1 and one line. Training
    stops as after SIGTERM: it first saves the current epoch.
    """
    sys.unraisablehook = without_stragglers(sys.unraisablehook)  # Until the process ends.
    before = sys.stdout
    if not isinstance(before, io.TextIOWrapper):  # None: closed by the shell, `>&-`.
        with _interrupted_in_a_line():
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
        with _interrupted_in_a_line():
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
def _interrupted_in_a_line() -> Iterator[None]:
    try:
        yield
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
