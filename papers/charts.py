"""Draws the chart of `launch.reproduce`: the paper's numbers beside ours.

The colors work with color blindness and on light and dark backgrounds; shapes repeat them.
"""

import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from papers.target import in_percent

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


def comparison(found: Mapping[str, Any], *, title: str = "", width: float = 7) -> Figure:
    """Draws each seed, our mean and the paper's number with their sd in percent, by metric.

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
    panels = figure.subplots(len(by_metric), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (metric, rows) in zip(panels, by_metric.items(), strict=True):
        for i, row in enumerate(rows):
            _dots(axes, i, row)
        axes.set_yticks(range(len(rows)), labels[metric], fontsize="small")
        axes.set(ylim=(len(rows) - 0.5, -0.5), xlabel=UNITS[metric])
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


def _dots(axes: Axes, y: float, row: Mapping[str, Any]) -> None:
    if row["paper"] is not None:
        axes.errorbar(
            row["paper"],
            y - 0.15,
            xerr=row["paper_sd"],
            fmt="D",
            color=PAPER,
            markerfacecolor="none",
            capsize=3,
            label="paper (sd)",
        )
    if row["mean"] is not None:
        axes.errorbar(
            row["mean"],
            y + 0.15,
            xerr=row["sd"],
            fmt="o",
            color=OURS,
            capsize=3,
            label="ours (sd)",
        )
        seeds = list(row["values"].values())
        if len(seeds) > 1:
            at = np.full(len(seeds), y + 0.15)
            axes.plot(seeds, at, "|", color=OURS, markersize=9, alpha=0.6, label="a seed of ours")
