"""Calls in threads that do not hold the process."""

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

_T = TypeVar("_T")


def started(call: Callable[[], _T]) -> Future[_T]:
    """Starts call() in a daemon thread: one that hangs does not hold the process.

    `result()` of the future raises the error of the call.
    """
    ended: Future[_T] = Future()

    def run() -> None:
        try:
            ended.set_result(call())
        except SystemExit as error:  # By which a client may end; the process goes on.
            ended.set_exception(RuntimeError(f"it exited with {error}"))
        except Exception as error:
            ended.set_exception(error)

    Thread(target=run, daemon=True).start()
    return ended
