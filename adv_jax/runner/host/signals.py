"""Handlers for SIGINT and SIGTERM, which let a run finish and save its epoch."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any


class Interrupted(BaseException):
    """A signal stopped the run, which can be resumed.

    Derives from BaseException, as KeyboardInterrupt does: JAX and others swallow some Exceptions.

    signum: the signal.
    """

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.signum = signum


@contextmanager
def on_signals(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Handles SIGINT and SIGTERM with `handler`; does nothing outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handled = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(signum, handler) for signum in handled]
    try:
        with _resend_dropped_interruptions():
            yield
    finally:
        for signum, earlier in zip(handled, before, strict=True):
            signal.signal(signum, earlier)


@contextmanager
def _resend_dropped_interruptions() -> Iterator[None]:
    """Sends the signal again if Interrupted is raised in a finalizer, where Python drops it."""
    before = sys.unraisablehook

    def hook(dropped: Any) -> None:
        if isinstance(dropped.exc_value, Interrupted):
            again = (os.getpid(), dropped.exc_value.signum)
            threading.Timer(0.05, os.kill, again).start()  # The finalizer would drop it again now.
        else:
            before(dropped)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


def stop_at_once(signum: int, _: object) -> None:
    """Handles a signal by raising Interrupted."""
    name = signal.Signals(signum).name
    raise Interrupted(signum, f"stopped by {name}; run the same command to resume")


@contextmanager
def held_signals() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM in a list; the second signal kills the process."""
    received: list[int] = []

    def hold(signum: int, _: object) -> None:
        received.append(signum)
        # The signal may interrupt `print`, which is not reentrant.
        with suppress(OSError):
            os.write(1, b"\nstopping after this epoch; the same signal again stops at once\n")
        signal.signal(signum, signal.SIG_DFL)

    with on_signals(hold):
        yield received
