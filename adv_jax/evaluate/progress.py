"""The progress of a call: a bar on a terminal, or a function of the user."""

import contextlib
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax

from adv_jax.types import UserError, described

Progress = Callable[[Any, str], Iterable[Any]]  # (batches, description) -> batches

_PATIENCE = 2.0  # seconds that a call lasts before its bar appears


def silent(batches: Any, _: str) -> Iterable[Any]:
    """Shows no progress; `tqdm.tqdm` and `rich.progress.track` have the same signature."""
    return batches


@contextlib.contextmanager
def shown(progress: Progress | bool) -> Iterator[Progress]:
    """Yields the function that wraps the batches of each pass of a call.

    Args:
      progress: such a function; True: a bar for each pass on standard error, if that is a terminal
        and once the call lasts over two seconds, by the first process; False: nothing.

    Raises:
      UserError: progress is something else.
    """
    if callable(progress):
        yield progress
    elif not isinstance(progress, bool):
        raise UserError(
            "progress must be True, False or a function (batches, description) -> batches, got "
            f"{described(progress)}"
        )
    elif progress and sys.stderr.isatty() and jax.process_index() == 0:
        with _bars() as bars:
            yield bars
    else:
        yield silent


@contextlib.contextmanager
def _bars() -> Iterator[Progress]:
    from rich.console import Console  # Slow to import, and only needed here.
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True, force_terminal=True)
    bars = Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        redirect_stdout=False,  # rich would print it to standard error.
        disable=console.is_dumb_terminal,
    )

    def tracked(batches: Any, description: str) -> Iterator[Any]:
        total = len(batches) if hasattr(batches, "__len__") else None
        task = bars.add_task(escape(description), total=total)
        for batch in batches:
            yield batch
            bars.advance(task)

    # A timer, as the first batch may take minutes to compile.
    timer = threading.Timer(_PATIENCE, bars.start)
    timer.daemon = True
    timer.start()
    try:
        yield tracked
    finally:
        timer.cancel()
        timer.join()
        if bars.live.is_started:
            bars.stop()
