"""Draws the figure of a sweep."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from adv_jax import style
from launch import _space

_MOST_NAMED = 20  # dots of a panel that are all named; else the best alone


@style.styled()
def scatter(
    path: Path, rows: Iterable[Mapping[str, Any]], fields: Sequence[str], metric: str
) -> None:
    """Draws the metric over each field, with a dot for each row that has the metric.

    Args:
      path: the PNG to write.
      rows: the rows of the printed table, the best first; dots are named by their lines in it.
      fields: the panels, from left to right.
      metric: a column of the rows.
    """
    measured = {line: row for line, row in enumerate(rows, 1) if row[metric] is not None}
    title = f"{metric} by field; 1 is the lowest, numbers are lines of the sweep's table"
    figure, (panels,) = style.canvas(1, len(fields), title=title, width=3.3, sharey=True)
    scores = [row[metric] for row in measured.values()]
    for axes, field in zip(panels, fields, strict=True):
        values = [_space.encode(row[field]) for row in measured.values()]
        if any(isinstance(value, str) for value in values):
            values = [style.plain(str(value)) for value in values]
            axes.margins(x=0.2)
        elif not style.widen(axes, values, x=True) and all(isinstance(v, int) for v in values):
            axes.xaxis.get_major_locator().set_params(integer=True)
        axes.scatter(values, scores, color=style.COLORS[0], alpha=0.7)
        for line, value in zip(measured, values, strict=True):
            if len(measured) <= _MOST_NAMED or line == 1:
                place = {"xytext": (4, 3), "textcoords": "offset points", "fontsize": "x-small"}
                axes.annotate(str(line), (value, measured[line][metric]), **place)
        axes.set_xlabel(field)
    panels[0].set_ylabel(metric)
    style.save(figure, path)
