"""Accuracy and confidence over width and training eps.

Source: shallow-net thesis, sec. 3.4.1, 3.4.2.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from adv_jax.style import canvas, name_lines
from adv_jax.types import UserError
from papers.judging import numbers
from papers.running.drawing import Drawing, rounded
from papers.running.runs import trained_on
from papers.shallow_thesis.runs import LABELS, STYLES, ShallowRun, read

Points = dict[float, list[float]]  # x -> a value of each replica

MEASURES = ("accuracy", "confidence")
_EPS = "objective.attack.eps"


def widths(workdirs: Sequence[str]) -> Drawing:
    """Fig. 3.2: clean and adversarial nets of several widths.

    Args:
      workdirs: one run of A and one of B per width.

    Raises:
      UserError: `runs.read` raises, or two runs have the same kind and width.
    """
    runs = read(workdirs, figure="fig3.2", methods=("clean", "adversarial"))
    runs = sorted(runs, key=lambda run: (run.method, run.width))
    for a, b in pairwise(runs):
        if (a.method, a.width) == (b.method, b.width):
            one = f"one run of {LABELS[a.method]} with {a.width} units"
            raise UserError(f"workdir must be {one}, got {a.path} and {b.path}")
    lines: dict[str, dict[str, Points]] = {
        measure: {
            kind: {run.width: run.measured(measure) for run in runs if run.method == kind}
            for kind in sorted({run.method for run in runs}, key=list(LABELS).index)
        }
        for measure in MEASURES
    }
    accuracy = {kind: _means(points) for kind, points in lines["accuracy"].items()}
    clean, adversarial = (accuracy.get(kind, {}) for kind in ("clean", "adversarial"))
    gap = {width: clean[width] - adversarial[width] for width in clean.keys() & adversarial.keys()}
    found = [f"{100 * gap[width]:.1f} points with {width:g} units" for width in sorted(gap)]
    caption = (
        "The net trained half on FGSM's examples is less accurate than the clean one by "
        f"{', '.join(found) or '?'}; {trained_on(runs)}. The shallow-net thesis: by 17 points with "
        "5 units; the clean nets level off between 50 and 100 units, the adversarial ones at 400."
    )
    figure = _figure(f"3.2: hidden units; {trained_on(runs)}", "hidden units", lines)
    for axes in figure.axes:
        axes.set_xscale("log")
        ticks = sorted({run.width for run in runs})
        axes.set_xticks(ticks, [str(width) for width in ticks])
        axes.minorticks_off()
    document = {
        "thesis": {
            "gap": {"5": numbers.fraction("shallow_thesis.fig3_2.gap_5_units")},
            "plateau": {
                "clean": _printed("2.plateau_clean"),
                "adversarial": _printed("2.plateau_adv"),
            },
        },
        "gap": {str(width): rounded(gap[width]) for width in sorted(gap)},
    }
    return Drawing(figure, _document(caption, runs, lines) | document)


def training_eps(workdirs: Sequence[str]) -> Drawing:
    """Fig. 3.3: nets trained with several eps; 0 is a clean net.

    Args:
      workdirs: a run of B over a grid of eps, or runs of A and B of equal width.

    Raises:
      UserError: `runs.read` raises, or the widths differ.
    """
    runs = read(workdirs, figure="fig3.3", methods=("clean", "adversarial"), over=(_EPS,))
    if len(found := {run.width for run in runs}) > 1:
        raise UserError(f"workdir must be runs of one width, got {sorted(found)} units")
    lines = {measure: {"adversarial": _by_eps(runs, measure)} for measure in MEASURES}
    accuracy = _means(lines["accuracy"]["adversarial"])
    best = max(accuracy, key=lambda eps: accuracy[eps])
    caption = (
        f"With {runs[0].width} units an eps of {best:g} is the most accurate on clean test data, "
        f"{100 * accuracy[best]:.2f} %, where {min(accuracy):g} has "
        f"{100 * accuracy[min(accuracy)]:.2f} %. The shallow-net thesis: eps from .05 to .3 "
        "(shaded) are good, .1 (dotted) is best; confidence falls with eps."
    )
    (low, high), printed_best = _printed("3.good_eps_range"), _printed("3.best_eps")
    title = f"3.3: eps of the training; {runs[0].width} hidden units; {trained_on(runs)}"
    figure = _figure(title, "training eps (units of the input)", lines)
    for axes in figure.axes:
        axes.axvspan(low, high, color="0.93", zorder=0)
        axes.axvline(printed_best, color="0.4", linestyle=":")
    document = {"thesis": {"good": [low, high], "best": printed_best}, "best": rounded(best)}
    return Drawing(figure, _document(caption, runs, lines) | document)


def _printed(place: str) -> Any:
    """Returns the printed value of a place in a figure, such as "3.best_eps" of Fig. 3.3."""
    return numbers.entry(f"shallow_thesis.fig3_{place}")["value"]


def _by_eps(runs: Sequence[ShallowRun], measure: str) -> Points:
    points: Points = {}
    for run in runs:
        alone = run.config["objective"].get("attack", {}).get("eps", 0.0)
        replicas = zip(run.result["replicas"], run.measured(measure), strict=True)
        for replica, value in replicas:
            points.setdefault(replica["overrides"].get(_EPS, alone), []).append(value)
    return dict(sorted(points.items()))


def _means(points: Points) -> dict[float, float]:
    return {x: float(np.mean(values)) for x, values in points.items()}


def _figure(what: str, xlabel: str, lines: Mapping[str, Mapping[str, Points]]):
    """Draws a panel per measure with a line per kind."""
    title = f"Shallow-net thesis, Fig. {what}"
    figure, (panels,) = canvas(1, len(lines), title=title)
    for axes, (measure, kinds) in zip(panels, lines.items(), strict=True):
        for kind, points in kinds.items():
            values = points.values()
            low, mean, high = ([f(v) for v in values] for f in (np.min, np.mean, np.max))
            axes.plot(list(points), mean, label=LABELS[kind], **STYLES[kind])
            axes.fill_between(list(points), low, high, color=STYLES[kind]["color"], alpha=0.2)
        axes.set(xlabel=xlabel, ylabel=f"{measure} on clean test data (fraction)")
        name_lines(axes)
    return figure


def _document(
    caption: str, runs: Sequence[ShallowRun], lines: Mapping[str, Mapping[str, Points]]
) -> dict[str, Any]:
    values = {
        measure: {
            kind: {f"{x:g}": rounded(values) for x, values in points.items()}
            for kind, points in kinds.items()
        }
        for measure, kinds in lines.items()
    }
    settings = {"chosen": ["widths", "eps", "seeds", "test set"]}
    return {
        "caption": caption,
        "settings": settings,
        **values,
        "runs": [run.about() for run in runs],
    }
