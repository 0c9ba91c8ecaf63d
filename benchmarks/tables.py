"""Tables of a report, which the console and benchmarks/RESULTS.md show alike."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import rich.table
from rich.console import Console

# Not a terminal: wide enough that few cells wrap. Rich's default is 80.
console = Console(width=None if sys.stdout.isatty() else 160)
UNLOCKED = "torch unlocked"
UNFAIR = (
    f"A goal is met beside torch, which is PyTorch as installed, and missed beside {UNLOCKED}, the "
    "fair peer: on this CPU the installed MKL takes a slow path."
)


class Table(NamedTuple):
    """A table of a report.

    title: what the table shows.
    columns: names of the columns.
    rows: the cells; an empty first cell continues the row above.
    words: number of leading columns with words; the others have numbers.
    note: a sentence below the table.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1
    note: str = ""


class Goal(NamedTuple):
    """A ratio and the bound that it has to meet.

    task: title of the task.
    ratio: what is divided by what.
    measured: its median, least and greatest value.
    bound: the goal for the median; None without a goal.
    at_least: whether the bound is the smallest allowed value instead of the largest.
    beside: the peers that were measured, if others are missing; the goal is then met beside
      these only.
    """

    task: str
    ratio: str
    measured: Mapping[str, float]
    bound: float | None
    at_least: bool = False
    beside: str = ""

    @property
    def demand(self) -> str:
        if self.bound is None:
            return ""
        return f"at {'least' if self.at_least else 'most'} {self.bound:g}"

    @property
    def met(self) -> bool | None:
        if self.bound is None:
            return None
        median = self.measured["median"]
        return median >= self.bound if self.at_least else median <= self.bound

    @property
    def verdict(self) -> str:
        return f"of {self.beside} only" if self.met and self.beside else yes(self.met)


def goals(found: Iterable[Goal]) -> Table:
    """Returns the table of goals, with a note if one is met beside PyTorch as installed only."""
    found = list(found)
    rows, above = [], ""
    for goal in found:
        cells = (goal.ratio, shown(goal.measured), goal.demand, goal.verdict)
        rows.append((goal.task if goal.task != above else "", *cells))
        above = goal.task
    return Table(
        "Goals", ("step", "ratio", "measured", "goal", "met"), rows, words=2, note=unfair(found)
    )


def unfair(found: Iterable[Goal]) -> str:
    """Returns a note if a goal is met beside PyTorch as installed only, else ""."""
    of_torch = [goal for goal in found if "torch" in goal.ratio]
    met = {goal.task for goal in of_torch if UNLOCKED not in goal.ratio and goal.met}
    missed = {goal.task for goal in of_torch if UNLOCKED in goal.ratio and goal.met is False}
    return UNFAIR if met & missed else ""


def yes(met: bool | None) -> str:
    return {True: "yes", False: "no", None: ""}[met]


def shown(values: Mapping[str, float]) -> str:
    """Formats "median (min-max)" with two decimals."""
    return "{median:.2f} ({min:.2f}-{max:.2f})".format(**values)


def shown_peak(peak: Mapping[str, Any]) -> str:
    """Formats the best float32 product of all sides, and that of each."""
    sides = ", ".join(f"{side} {max(values):.0f}" for side, values in peak["sides"].items())
    return f"peak {peak['gflops']:.0f} GFLOP/s ({sides})"


def three_digits(value: float) -> str:
    """Formats a positive number with three significant digits, or all before the point.

    >>> [three_digits(value) for value in (0.13926, 1.0, 35.44, 99.96, 554.6, 3162.1)]
    ['0.139', '1.00', '35.4', '100', '555', '3,162']
    """
    if float(f"{value:.3g}") >= 1000:
        return f"{value:,.0f}"
    return f"{value:#.3g}".rstrip(".")


def show(tables: Iterable[Table]) -> None:
    """Prints the tables, with a line between the tasks if some have several rows."""
    for table in tables:
        made = rich.table.Table(title=table.title, title_justify="left")
        for index, column in enumerate(table.columns):
            justify = "left" if index < table.words else "right"
            made.add_column(column, justify=justify, overflow="fold")
        grouped = any(not row[0] for row in table.rows)
        for row in table.rows:
            if grouped and row[0]:
                made.add_section()
            made.add_row(*row)
        console.print(made)
        if table.note:
            console.print(table.note)
