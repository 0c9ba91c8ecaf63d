"""Logs metrics to metrics.jsonl and the terminal."""

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from adv_jax.runner.config.replicas import Replica
from adv_jax.runner.store.workdir import Workdir


class Log:
    """Logs epochs: a progress bar on a terminal, plain lines elsewhere. A context manager."""

    def __init__(
        self,
        files: Workdir,
        replicas: Sequence[Replica],
        *,
        epochs: int,
        done: int,
    ) -> None:
        """`epochs` is the total number; `done` is the number that earlier processes finished."""
        self._files, self._replicas, self._epochs = files, replicas, epochs
        self._console = Console()
        self._bar = Progress(
            TextColumn("epoch {task.completed:.0f}/{task.total:.0f}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(),
            console=self._console,
            expand=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", total=epochs, completed=done, numbers="compiling")
        self._last = time.monotonic()

    def __enter__(self) -> "Log":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def say(self, line: str) -> None:
        """Prints a line above the progress bar."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def epoch(
        self, epoch: int, metrics: dict[str, np.ndarray], *, running: np.ndarray, steps: int
    ) -> list[dict[str, Any]]:
        """Logs an epoch and returns its lines of metrics.jsonl.

        Args:
          epoch: counted from 1.
          metrics: name -> f[R].
          running: bool[R], the replicas that trained in this epoch; the others are not logged.
          steps: number of steps in this epoch, over all replicas.
        """
        lines: list[dict[str, Any]] = [
            {"epoch": epoch, "replica": i, "seed": replica.seed}
            | {name: float(values[i]) for name, values in metrics.items()}
            for i, replica in enumerate(self._replicas)
            if running[i]
        ]
        self._files.append_metrics(lines)
        now = time.monotonic()
        rate, self._last = steps / (now - self._last), now
        means = {name: values[running].mean() for name, values in metrics.items()}
        texts = {name: f"{name} {mean:.4g}" for name, mean in means.items()}
        speed = f"{rate:.0f} steps/s" if rate >= 1 else f"{1 / rate:.1f} s/step"
        # All metrics would leave no room for the bar in 80 columns.
        short = [texts[name] for name in ("loss", "accuracy") if name in texts]
        self._bar.update(self._task, completed=epoch, numbers="  ".join([*short, speed]))
        if not self._console.is_terminal:
            self.say("  ".join([f"epoch {epoch}/{self._epochs}", *texts.values(), speed]))
        return lines


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Prints a title and a table."""
    table = Table()
    for column in columns:
        table.add_column(Text(column), justify="right")  # Text: brackets are no markup.
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    console = Console()
    if not console.is_terminal:
        console.width = 200  # Not a terminal: wide enough that no cell wraps.
    console.print(title, markup=False, highlight=False, soft_wrap=True)
    console.print(table)
