"""Draws the figure of a sweep."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from launch import _space


def scatter(
    path: Path, rows: Iterable[Mapping[str, Any]], fields: Sequence[str], metric: str
) -> None:
    """Draws the metric over each field, with a dot for each row that has the metric."""
    measured = [row for row in rows if row[metric] is not None]
    figure = Figure(figsize=(1 + 3 * len(fields), 3.5), layout="constrained", dpi=120)
    panels = figure.subplots(1, len(fields), sharey=True, squeeze=False)[0]
    for axes, field in zip(panels, fields, strict=True):
        values = [_space.encode(row[field]) for row in measured]
        if any(isinstance(value, str) for value in values):
            values = list(map(str, values))
        elif 0 < 100 * min(values) <= max(values):
            axes.set_xscale("log")
        dots = sorted(zip(values, (row[metric] for row in measured), strict=True))
        axes.scatter(*zip(*dots, strict=True), alpha=0.7)
        axes.set_xlabel(field)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel(metric)
    figure.savefig(path)
