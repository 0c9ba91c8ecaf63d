"""Draws the chart of `launch.reproduce`: the paper's numbers beside ours.

Shapes repeat the colors.
"""

import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adv_jax import style
from papers.judging.metrics import METRICS, in_percent

OURS, PAPER = style.COLORS[:2]
_WIDTH = 7.0  # inches


@style.styled()
def comparison(found: Mapping[str, Any], *, title: str = "") -> Figure:
    """Draws each seed, our mean and the paper's number with their sd in percent, by metric.

    The axis of errors is logarithmic if they differ much. That of accuracies stays linear, as a
    logarithm would press the high ones together.

    Args:
      found: the contents of results/TARGET.json.
      title: title above the chart.
    """
    by_metric: dict[str, list[Mapping[str, Any]]] = {}
    for row in found["rows"]:
        by_metric.setdefault(row["metric"], []).append(in_percent(row))
    # Labels take at most half of the width, at about .1 inch per letter.
    letters = round(_WIDTH * 5.5)
    labels = {
        metric: [textwrap.fill(row["label"], letters) for row in rows]
        for metric, rows in by_metric.items()
    }
    lines = {metric: max(label.count("\n") + 1 for label in labels[metric]) for metric in labels}
    heights = [
        (0.2 + 0.14 * lines[metric]) * len(rows) + 0.75 for metric, rows in by_metric.items()
    ]
    heading = [
        part for line in title.split("\n") for part in textwrap.wrap(line, round(_WIDTH * 13))
    ]
    height = sum(heights) + 0.45 + 0.15 * len(heading)
    figure = style.figure(_WIDTH, height, title="\n".join(heading))
    paper, ours = _name("paper", found["rows"], "paper_sd"), _name("ours", found["rows"], "sd")
    panels = figure.subplots(len(by_metric), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (metric, rows) in zip(panels, by_metric.items(), strict=True):
        for i, row in enumerate(rows):
            _dots(axes, i, row, paper=paper, ours=ours)
        axes.set_yticks(range(len(rows)), labels[metric])
        axes.set(ylim=(len(rows) - 0.5, -0.5), xlabel=METRICS[metric].axis)
        if METRICS[metric].is_error:
            _widen(axes, rows)
        axes.grid(False, axis="y")
    handles = {
        label: handle
        for axes in panels
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=3,
    )
    return figure


def _name(whose: str, rows: Iterable[Mapping[str, Any]], sd: str) -> str:
    """Returns a name for the legend, with the sd if a row has one."""
    return f"{whose} (sd)" if any(row[sd] is not None for row in rows) else whose


def _widen(axes: Axes, rows: Iterable[Mapping[str, Any]]) -> None:
    """Makes the axis of errors in percent logarithmic if they differ by much and none is 0."""
    rows = list(rows)
    sides = [(row["paper"], row["paper_sd"]) for row in rows]
    sides += [(row["mean"], row["sd"]) for row in rows]
    means = [mean for mean, _ in sides if mean is not None]
    values = [*means, *(value for row in rows for value in row["values"].values())]
    if style.widen(axes, values, x=True):
        bars = [end for m, sd in sides if m and sd for end in (m - sd, m + sd) if end > 0]
        axes.set_xlim(min(*values, *bars) / 1.2, max(*values, *bars) * 1.2)
        axes.set_xlabel(f"{axes.get_xlabel()}, log scale")


def _dots(axes: Axes, y: float, row: Mapping[str, Any], *, paper: str, ours: str) -> None:
    if row["paper"] is not None:
        axes.errorbar(
            row["paper"],
            y - 0.15,
            xerr=row["paper_sd"],
            fmt="D",
            color=PAPER,
            markerfacecolor="none",
            capsize=3,
            label=paper,
        )
    if row["mean"] is not None:
        axes.errorbar(
            row["mean"],
            y + 0.15,
            xerr=row["sd"],
            fmt="o",
            color=OURS,
            capsize=3,
            label=ours,
        )
        seeds = list(row["values"].values())
        if len(seeds) > 1:
            at = np.full(len(seeds), y + 0.15)
            axes.plot(seeds, at, "|", color=OURS, markersize=9, alpha=0.6, label="a seed of ours")
