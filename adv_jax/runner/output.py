"""What the commands print: to a full disk, to a closed pipe, and without the words of others."""

import contextlib
import errno
import io
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def standard_output() -> Iterator[None]:
    """Ends a command without a traceback when its standard output cannot be written.

    A closed pipe ends it with 128 + SIGPIPE and no words, as it ends other programs; anything else
    with 1 and one line. A training is stopped as by SIGTERM: it saves the epoch under way before.
    """
    sys.unraisablehook = without_stragglers(sys.unraisablehook)  # Until the process has ended.
    before = sys.stdout
    if not isinstance(before, io.TextIOWrapper):  # None: closed by the shell, `>&-`.
        yield
        return
    raw = _Output(before.fileno(), "w", closefd=False)
    ours = io.TextIOWrapper(
        io.BufferedWriter(raw), before.encoding, before.errors, line_buffering=before.line_buffering
    )
    sys.stdout, ended = ours, None
    try:
        yield
    except SystemExit as error:
        ended = error
    finally:
        with contextlib.suppress(SystemExit):
            ours.flush()
        sys.stdout = before
    failure = raw.failure
    if failure and not (ended and isinstance(ended.code, str)):  # Its words say why it ended.
        if failure.errno == errno.EPIPE:
            sys.exit(128 + signal.SIGPIPE)
        sys.exit(f"error: standard output cannot be written: {failure.strerror}")
    if ended:
        raise ended


def without_stragglers(hook: Callable[[Any], Any]) -> Callable[[Any], None]:
    """A `sys.unraisablehook` without what TensorStore says, later, of arrays that Orbax gave up."""

    def filtered(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            hook(unraisable)

    return filtered


class _Output(io.FileIO):
    """A file that stops the command at the first failure, and swallows what is written after it."""

    failure: OSError | None = None

    def write(self, data: Any) -> int | None:
        if self.failure is None:
            try:
                return super().write(data)
            except OSError as error:
                self.failure = error
                # Not a subclass of Exception, which others would take for a failure of their own.
                if not callable(signal.getsignal(signal.SIGTERM)):
                    sys.exit(1)
                signal.raise_signal(signal.SIGTERM)
        return memoryview(data).nbytes
