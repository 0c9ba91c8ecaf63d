"""SIGINT and SIGTERM: what has to be finished is, and the run says how to go on."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any


class Interrupted(BaseException):
    """A signal asked the run to stop, and what can be resumed is saved.  signum: the signal.

    No Exception, as KeyboardInterrupt is none: JAX and others drop those that come in their way.
    """

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.signum = signum


@contextmanager
def on_signals(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """SIGINT and SIGTERM go to the handler. Only a main thread may have one: others go without."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handled = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(signum, handler) for signum in handled]
    try:
        with _dropped_interruptions_come_again():
            yield
    finally:
        for signum, earlier in zip(handled, before, strict=True):
            signal.signal(signum, earlier)


@contextmanager
def _dropped_interruptions_come_again() -> Iterator[None]:
    """Python drops what a finaliser or a callback of the garbage collector raises: not a signal."""
    before = sys.unraisablehook

    def hook(dropped: Any) -> None:
        if isinstance(dropped.exc_value, Interrupted):
            again = (os.getpid(), dropped.exc_value.signum)
            threading.Timer(0.05, os.kill, again).start()  # At once it would be dropped again.
        else:
            before(dropped)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


def stop_at_once(signum: int, _: object) -> None:
    """A handler for where nothing has to be finished: raises Interrupted."""
    name = signal.Signals(signum).name
    raise Interrupted(signum, f"stopped by {name}; the same command goes on from what is saved")


@contextmanager
def held_signals() -> Iterator[list[int]]:
    """A list that SIGINT and SIGTERM are put on; the second one stops the process at once."""
    received: list[int] = []

    def hold(signum: int, _: object) -> None:
        received.append(signum)
        # `print` may be what the signal interrupts, and cannot be entered twice.
        with suppress(OSError):
            os.write(1, b"\nstopping after this epoch; the same signal again stops at once\n")
        signal.signal(signum, signal.SIG_DFL)

    with on_signals(hold):
        yield received
