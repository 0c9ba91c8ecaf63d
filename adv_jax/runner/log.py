"""Where the numbers of a run go: metrics.jsonl, the terminal and, if wanted, TensorBoard."""

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from adv_jax.runner.config import Replica
from adv_jax.runner.workdir import Workdir
from adv_jax.types import UserError


class Log:
    """Logs epochs: a bar on a terminal and plain lines elsewhere; a context manager."""

    def __init__(
        self,
        files: Workdir,
        replicas: Sequence[Replica],
        *,
        epochs: int,
        done: int,
        tensorboard: bool,
    ) -> None:
        """epochs: of the whole run; done: how many of them an earlier process has done."""
        self._files, self._replicas, self._epochs = files, replicas, epochs
        self._writers = _writers(files, len(replicas), done) if tensorboard else []
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
        for writer in self._writers:
            writer.close()

    def say(self, line: str) -> None:
        """One line, above the bar if there is one."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def epoch(
        self, epoch: int, metrics: dict[str, np.ndarray], *, running: np.ndarray, steps: int
    ) -> None:
        """Logs an epoch.

        Args:
          epoch: counted from 1.
          metrics: name -> f[R].
          running: bool[R], the replicas that had not stopped before; the others are not logged.
          steps: done in this epoch, over all replicas.
        """
        lines: list[dict[str, Any]] = [
            {"epoch": epoch, "replica": i, "seed": replica.seed}
            | {name: float(values[i]) for name, values in metrics.items()}
            for i, replica in enumerate(self._replicas)
            if running[i]
        ]
        self._files.append_metrics(lines)
        for line in lines if self._writers else ():
            for name in metrics:
                self._writers[line["replica"]].add_scalar(name, line[name], epoch)
            # What is older than a checkpoint is not logged again after a kill.
            self._writers[line["replica"]].flush()
        now = time.monotonic()
        rate, self._last = steps / (now - self._last), now
        means = {name: values[running].mean() for name, values in metrics.items()}
        told = {name: f"{name} {mean:.4g}" for name, mean in means.items()}
        speed = f"{rate:.0f} steps/s" if rate >= 1 else f"{1 / rate:.1f} s/step"
        # More would push the bar out of a window of 80 columns.
        short = [told[name] for name in ("loss", "accuracy") if name in told]
        self._bar.update(self._task, completed=epoch, numbers="  ".join([*short, speed]))
        if not self._console.is_terminal:
            self.say("  ".join([f"epoch {epoch}/{self._epochs}", *told.values(), speed]))


def require_tensorboard() -> None:
    """Refuses a run that could not write its events, before it begins.

    Raises:
      UserError: tensorboardX is not installed.
    """
    try:
        import tensorboardX  # noqa: F401
    except ImportError:
        raise UserError(
            "tensorboard is True, which needs tensorboardX: pip install 'adv-jax[tensorboard]'"
        ) from None


def _writers(files: Workdir, count: int, done: int) -> list[Any]:
    """One TensorBoard writer a replica; what an earlier process wrote after `done` is dropped."""
    from tensorboardX import SummaryWriter

    path = files.path / "tensorboard"
    return [SummaryWriter(str(path / str(i)), purge_step=done + 1) for i in range(count)]


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Prints a line and a table under it."""
    table = Table()
    for column in columns:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*map(str, row))
    console = Console()
    if not console.is_terminal:
        console.width = 200  # Nobody's window is that of a file: no cell is broken for it.
    console.print(title, markup=False, highlight=False, soft_wrap=True)
    console.print(table)
