"""Tables with the rows and columns of a paper: ours, the paper's value under it, and a mark.

Gray italics are not judged: shorter runs, and numbers without a test. An empty cell was not run.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from papers.judging import numbers
from papers.judging.documents import data_in_words
from papers.judging.metrics import METRICS, printed_interval
from papers.judging.numbers import Entry, Paper
from papers.judging.words import (
    CONSISTENT,
    FULL,
    NOT_REPRODUCED,
    REPRODUCED,
    RIGHT,
    SAME_DIRECTION,
    UNCLEAR,
    WRONG,
    epochs_in_words,
    joined,
    span,
)
from papers.pages.chapters import Line
from papers.pages.markup import folded, markdown
from papers.pages.wording import decimals, place_of, two_digits

MARKS = {
    REPRODUCED: "✓",
    CONSISTENT: "≈",
    SAME_DIRECTION: "→",
    NOT_REPRODUCED: "✗",
    UNCLEAR: "?",
}
CELLS = (
    "In a cell, our mean ± standard deviation stands above the paper's value: ✓ reproduced, ≈ "
    "consistent, ✗ not reproduced, ? unclear."
)
LEGEND = (
    f"{CELLS} ★: p is also below .05 divided by the number of all "
    "tests. Gray italics are not judged: the runs are shorter than the paper's, or the number has "
    "no test. Empty cells were not run."
)


class Grid(NamedTuple):
    """A printed table.

    title: its place in the paper and what it has.
    columns: names of the columns.
    rows: name of a row -> name of a column -> the line of the cell.
    """

    title: str
    columns: list[str]
    rows: dict[str, dict[str, Line]]

    @property
    def lines(self) -> list[Line]:
        """The lines of all cells."""
        return [line for row in self.rows.values() for line in row.values()]

    @property
    def is_measured(self) -> bool:
        """Whether a cell was run."""
        return any(line.verdict.is_run for line in self.lines)


def grids(paper: Paper, lines: Sequence[Line]) -> Iterator[Grid]:
    """Yields the tables of a paper; those of one number are one table together.

    Worked examples are no part of them.

    Args:
      paper: the paper.
      lines: the lines of its numbers; those that it does not print are left out.
    """
    by_table: dict[str, list[Line]] = {}
    for line in lines:
        entry = paper.entries.get(line.key)
        if entry and entry["kind"] != "worked_example":
            by_table.setdefault(entry.get("table", ""), []).append(line)
    alone = [own[0] for own in by_table.values() if len(own) == 1]
    for table, own in by_table.items():
        if len(own) > 1 or len(alone) == 1:
            yield _grid(paper, table, own)
    if len(alone) > 1:
        label = {f"{place_of(paper.entries[line.key])}: {line.label}": line for line in alone}
        headings = {_heading(paper.entries[line.key]) for line in alone}
        column = headings.pop() if len(headings) == 1 else "ours"
        yield Grid("Tables of one number", [column], {k: {column: v} for k, v in label.items()})


def label_in(paper: Paper, line: Line) -> str:
    """Returns a cell in words: "Table 1, LWA_Rep under Adv_Loss"."""
    for grid in grids(paper, _same_table(paper, line)):
        for row, cells in grid.rows.items():
            for column, one in cells.items():
                if one.key == line.key:
                    parts = [row] if column == _heading(paper.entries[line.key]) else [row, column]
                    return ", ".join([grid.title.partition(":")[0], *parts])
    return line.label


def _heading(entry: Entry) -> str:
    """Returns the heading of a column whose numbers have no other: their metric, or "ours"."""
    metric = METRICS.get(entry.get("metric", ""))
    return "ours" if metric is None else metric.axis.removeprefix("test ")


def _same_table(paper: Paper, line: Line) -> list[Line]:
    table = paper.entries[line.key].get("table")
    return [
        line._replace(key=name)
        for name, entry in paper.entries.items()
        if entry.get("table") == table and (entry["kind"] != "claim" or name == line.key)
    ]


def _grid(paper: Paper, table: str, lines: Sequence[Line]) -> Grid:
    names = paper.printed.get(table, {})
    rows: dict[str, dict[str, Line]] = {}
    columns: list[str] = []
    for line in lines:
        entry = paper.entries[line.key]
        row, column = (_name(entry, part, names.get(f"{part}s", {})) for part in ("row", "column"))
        if not row and not column:  # Numbers in a line, each with a long heading.
            row = entry["where"].partition("), ")[2]
        row, column = row or line.label, column or _heading(entry)
        if column in rows.get(row, {}):  # Two entries of one place: their labels differ.
            row = line.label
        rows.setdefault(row, {})[column] = line
        columns += [column] if column not in columns else []
    places = dict.fromkeys(place_of(paper.entries[line.key]) for line in lines)
    title = " and ".join(places)
    return Grid(f"{title}: {names['title']}" if "title" in names else title, columns, rows)


def _name(entry: Entry, part: str, names: Mapping[str, str] | str) -> str:
    """Returns the name of an entry's row or column; "" if it has none."""
    if isinstance(names, str):  # a field of the entries
        value = entry[names]
        return f"{value:g}" if isinstance(value, float) else str(value)
    key = entry.get(part) or ""
    if key in names or not re.fullmatch(r"(row|col)\d+", key):
        return names.get(key, key.replace("_", " "))
    return ""


def table(grid: Grid) -> str:
    """Returns the grid in Markdown; a list of one column without what was not run."""
    return markdown(
        ["", *grid.columns],
        [
            [row, *(_cell(cells[name]) if name in cells else "" for name in grid.columns)]
            for row, cells in grid.rows.items()
            if len(grid.columns) > 1 or any(line.verdict.is_run for line in cells.values())
        ],
    )


def details(grid: Grid) -> str:
    """Returns the differences, intervals, tolerances, p values and seeds of a grid, folded."""
    found = [
        f"{row}{'' if len(grid.columns) == 1 else f', {column}'}: {detail(line)}"
        for row, cells in grid.rows.items()
        for column, line in cells.items()
        if line.verdict.is_run
    ]
    return folded("difference (95 % interval), tolerance T, p of the test, seeds n", found)


def mark(line: Line) -> str:
    """Returns the mark of a finding; "" if nothing is judged."""
    star = "★" if line.verdict.is_strong else ""
    return f"{MARKS.get(line.verdict.word, '')}{star}" if line.verdict.extent == FULL else ""


def plain_cell(line: Line) -> tuple[str, str]:
    """Returns ours with the mark, and the paper's value; two empty texts if nothing was run."""
    if not line.verdict.is_run:
        return "", ""
    if line.row is None:
        paper = line.paper.partition(" (")[0]
        return line.ours.removesuffix(" %"), paper.removesuffix(" %")
    ours = f"{in_digits(line.row['mean'], line.row['sd'])} {mark(line)}".strip()
    value = line.row["paper"]
    sd = line.row["paper_sd"] if "spread" in numbers.entry(line.key) else None
    paper = "–" if value is None else f"{value:g}" + ("" if sd is None else f" ± {sd:g}")
    return ours, paper


def _cell(line: Line) -> str:
    """Returns a cell in Markdown: ours over the paper's value, gray if it is not judged."""
    ours, paper = plain_cell(line)
    if not ours:
        return ""
    shown = ours if line.verdict.extent == FULL else gray(ours)
    return f"{shown}<br><sub>{paper}</sub>"


def in_digits(mean: float, sd: float | None) -> str:
    """Formats "97.917 ± 0.073", to two digits of the sd."""
    if not sd:
        return f"{mean:.4g}"
    return f"{mean:.{min(decimals(sd), 4)}f} ± {two_digits(sd)}"


def detail(line: Line) -> str:
    """Returns the difference of a cell, its interval, tolerance, p and seeds."""
    row = line.row
    if not line.verdict.is_run:
        return ""
    if row is None or row["difference"] is None:
        return joined(line.verdict.why, line.trained)
    parts = [f"{row['difference']:+.3g}"]
    if row["interval"]:
        factor = METRICS[row["metric"]].factor
        low, high = (end / factor for end in row["interval"])
        if ends := printed_interval(low, high, row["metric"]):
            parts[0] += f" ({ends[0]:.3g} to {ends[1]:.3g})"
    parts += [f"T {row['tolerance']:g}"] if row["tolerance"] is not None else []
    parts += [f"p {row['p']:.2g}"] if row["p"] is not None else []
    parts += [f"n {row['n']}"]
    is_untested = row["extent"] == FULL != line.verdict.extent
    why = line.verdict.why if is_untested else row.get("plan", "")
    return joined(", ".join(parts), why)


def caption(lines: Sequence[Line]) -> str:
    """Returns the seeds, epochs and data of the cells of a table, and their tolerances.

    Those of short and quick runs, and of cells without a test, stand apart.
    """
    parts = []
    for is_full in (True, False):
        own = [
            line
            for line in lines
            if line.row and line.training and (line.row["extent"] == FULL) == is_full
            if line.row["values"]
        ]
        if own:
            parts.append(("" if is_full else "Shorter runs: ") + _trained(own, is_full))
    alone = [line.trained.replace("; ", ", ") for line in lines if line.source and line.trained]
    if alone:
        parts.append(f"Without a test: {'; '.join(dict.fromkeys(alone))}.")
    return " ".join([*parts, *_tolerances(lines)])


def _tolerances(lines: Sequence[Line]) -> Iterator[str]:
    """Yields the tolerances of the judged cells of a table: "Tolerance 0.5 to 5 points."."""
    rows = [line.row for line in lines if line.row and line.verdict.extent == FULL]
    judged = [row for row in rows if row["values"] and row["tolerance"] is not None]
    if judged:
        unit = METRICS[judged[0]["metric"]].unit.replace("%", "points")
        tolerances = [row["tolerance"] for row in judged]
        ends = dict.fromkeys((min(tolerances), max(tolerances)))
        yield f"Tolerance {' to '.join(f'{end:g}' for end in ends)} {unit}."


def _trained(lines: Sequence[Line], is_full: bool) -> str:
    trainings = [line.training for line in lines if line.training]
    counts = [len(line.row["values"]) for line in lines if line.row]
    epochs = [number for training in trainings for number in training["epochs"]]
    allowed = [] if is_full else [training["paper_epochs"] for training in trainings]
    names = dict.fromkeys(data_in_words(training["data"]) for training in trainings)
    planned = [training.get("paper_seeds", 0) for training in trainings]
    is_short = any(n < most for n, most in zip(counts, planned, strict=True))
    of_planned = f" of {span(set(planned) - {0})} planned" if is_short else ""
    seeds = f"{span(counts)}{of_planned} seed{'s' if is_short or set(counts) != {1} else ''}"
    return f"{', '.join([seeds, epochs_in_words(epochs, allowed), *names])}."


def arithmetic(lines: Sequence[Line]) -> list[Line]:
    """Returns the lines of worked examples."""
    return [line for line in lines if line.verdict.word in (RIGHT, WRONG)]


def gray(text: str) -> str:
    """Returns a text in Markdown that is gray on the site, and in italics everywhere."""
    return f'<span class="gray">_{text}_</span>'
