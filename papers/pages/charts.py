"""Draws the chart of `launch.reproduce`: the paper's numbers beside ours.

The colors work with color blindness and on light and dark backgrounds; shapes repeat them.
"""

import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from papers.judging.metrics import in_percent

WIDE = 8  # greatest error over least, from which on the axis is logarithmic
OURS, PAPER = "#2a86d1", "#d9700a"
# metric -> its name and unit in print
UNITS = {
    "error_percent": "test error (%)",
    "error": "test error (%)",
    "accuracy_percent": "test accuracy (%)",
    "accuracy": "test accuracy (%)",
    "confidence": "mean confidence (%)",
    "sparsity_percent (fraction of exact zeros)": "hidden units at 0 (%)",
    "log_likelihood_nats": "log-likelihood (nats)",
}
ERRORS = ("error_percent", "error")


def comparison(found: Mapping[str, Any], *, title: str = "", width: float = 7) -> Figure:
    """Draws each seed, our mean and the paper's number with their sd in percent, by metric.

    The axis of errors is logarithmic if they differ by a factor of more than 8. That of accuracies
    stays linear, as a logarithm would press the high ones together.

    Args:
      found: the contents of results/TARGET.json.
      title: title above the chart.
      width: width in inches.
    """
    by_metric: dict[str, list[Mapping[str, Any]]] = {}
    for row in found["rows"]:
        by_metric.setdefault(row["metric"], []).append(in_percent(row))
    # Labels take at most half of the width, at about .1 inch per letter.
    letters = round(width * 5.5)
    labels = {
        metric: [textwrap.fill(row["label"], letters) for row in rows]
        for metric, rows in by_metric.items()
    }
    lines = {metric: max(label.count("\n") + 1 for label in labels[metric]) for metric in labels}
    heights = [
        (0.2 + 0.14 * lines[metric]) * len(rows) + 0.75 for metric, rows in by_metric.items()
    ]
    heading = [
        part for line in title.split("\n") for part in textwrap.wrap(line, round(width * 13))
    ]
    height = sum(heights) + 0.45 + 0.15 * len(heading)
    figure = Figure(figsize=(width, height), layout="constrained", dpi=120)
    if heading:
        figure.suptitle("\n".join(heading), fontsize="medium")
    paper, ours = _name("paper", found["rows"], "paper_sd"), _name("ours", found["rows"], "sd")
    panels = figure.subplots(len(by_metric), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (metric, rows) in zip(panels, by_metric.items(), strict=True):
        for i, row in enumerate(rows):
            _dots(axes, i, row, paper=paper, ours=ours)
        axes.set_yticks(range(len(rows)), labels[metric], fontsize="small")
        axes.set(ylim=(len(rows) - 0.5, -0.5), xlabel=UNITS[metric])
        if metric in ERRORS:
            _widen(axes, rows)
        axes.grid(axis="x", alpha=0.3)
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
        fontsize="small",
        frameon=False,
    )
    return figure


def _name(whose: str, rows: Iterable[Mapping[str, Any]], sd: str) -> str:
    """Returns a name for the legend, with the sd if a row has one."""
    return f"{whose} (sd)" if any(row[sd] is not None for row in rows) else whose


def _widen(axes: Axes, rows: Iterable[Mapping[str, Any]]) -> None:
    """Makes the axis of errors in percent logarithmic if they differ by much and none is 0."""
    means = [value for row in rows for value in (row["paper"], row["mean"]) if value is not None]
    values = [*means, *(value for row in rows for value in row["values"].values())]
    if not values or min(values) <= 0 or max(values) <= WIDE * min(values):
        return
    axes.set_xscale("log")
    axes.set_xlim(min(values) / 1.2, max(values) * 1.2)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
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
