"""Tables of readings: what a printed number may be of, and what each reading gives.

about.toml of a paper names these figures in `readings`, for the generated pages.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from papers.judging.statistics import BySeed, spread
from papers.judging.words import seeds_in_words
from papers.running.drawing import Drawing, Table, rounded


class Cell(NamedTuple):
    """A printed number.

    column: its heading.
    printed: the number, a fraction.
    tolerance: largest difference that counts as equal.
    """

    column: str
    printed: float
    tolerance: float


class Reading(NamedTuple):
    """A reading: its name, and cell -> the fractions that it gives, by seed."""

    name: str
    by_seed: Mapping[str, BySeed]


def compared(
    readings: Sequence[Reading], cells: Mapping[str, Cell], *, what: str, title: str
) -> Drawing:
    """Compares readings with the paper's numbers.

    A reading fits if each of its means over the seeds is within the tolerance of its cell. This is
    no test: there is no interval, and the readings are compared on the test set.

    Args:
      readings: one or more.
      cells: cell -> the printed number.
      what: the beginning of the caption, a sentence.
      title: title of the table.
    """
    rows: list[dict[str, Any]] = []
    for name, by_seed in readings:
        mean = {cell: rounded(spread([*by_seed[cell].values()]).mean) for cell in cells}
        off = {cell: rounded(abs(mean[cell] - cells[cell].printed)) for cell in cells}
        fits = all(off[cell] <= cells[cell].tolerance for cell in cells)
        rows.append({"reading": name, "mean": mean, "by_seed": by_seed, "off": off, "fits": fits})
    printed = {cell: number.printed for cell, number in cells.items()}
    shown = [[r["reading"], *_percents(r["mean"]), "yes" if r["fits"] else "no"] for r in rows]
    shown.append(["the paper", *_percents(printed), ""])
    shown.append(["to be within", *_percents({c: n.tolerance for c, n in cells.items()}), ""])
    nearest = min(rows, key=lambda row: max(row["off"][c] / cells[c].tolerance for c in cells))
    caption = (
        f"{what} A reading fits if all means over the seeds are within the tolerances, without an "
        f"interval; {sum(row['fits'] for row in rows)} of {len(rows)} fit. The nearest, selected "
        f"on the test set: {nearest['reading']}, off by "
        f"{100 * max(nearest['off'].values()):.2f} points at most."
    )
    document = {"caption": caption, "rows": rows, "printed": printed}
    columns = ["reading", *_columns(readings, cells), "fits"]
    return Drawing(None, document, Table(title, columns, shown))


def _columns(readings: Sequence[Reading], cells: Mapping[str, Cell]) -> list[str]:
    """Returns the headings of the cells, with their seeds where these differ among the cells."""
    seeds = [sorted({seed for r in readings for seed in r.by_seed[cell]}) for cell in cells]
    names = [number.column for number in cells.values()]
    if all(of_cell == seeds[0] for of_cell in seeds):
        return names
    return [f"{name} ({seeds_in_words(s)})" for name, s in zip(names, seeds, strict=True)]


def _percents(fractions: Mapping[str, float]) -> list[str]:
    return [f"{100 * value:.2f}" for value in fractions.values()]
