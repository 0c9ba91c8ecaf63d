"""Tables of readings: what a printed number may be of, and what each reading gives.

about.toml of a paper names these figures in `readings`, for the generated pages.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from papers.drawing import Drawing, Table, rounded
from papers.statistics import BySeed, spread


class Cell(NamedTuple):
    """A printed number.

    Attributes:
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

    A reading fits if each of its means over the seeds is within the tolerance of its cell.

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
        f"{what} A reading fits if all means over the seeds are within the tolerances; "
        f"{sum(row['fits'] for row in rows)} of {len(rows)} fit. The nearest: "
        f"{nearest['reading']}, off by {100 * max(nearest['off'].values()):.1f} points at most."
    )
    document = {"caption": caption, "rows": rows, "printed": printed}
    columns = ["reading", *(number.column for number in cells.values()), "fits"]
    return Drawing(None, document, Table(title, columns, shown))


def _percents(fractions: Mapping[str, float]) -> list[str]:
    return [f"{100 * value:.1f}" for value in fractions.values()]
