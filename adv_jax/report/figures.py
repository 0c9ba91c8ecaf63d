"""PNG figures of a run: measures over the size of an attack, metrics over epochs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

_STYLES = ("-", "--", "-.", ":")


def attack_curves(path: Path, evaluation: Mapping[str, Mapping], *, title: str) -> None:
    """Draws error and confidence against eps: the mean over replicas, and their range shaded.

    Args:
      path: the PNG to write.
      evaluation: attack -> {"eps": [E], "error": [R][E], "confidence": [R][E]}, as result.json
        has them; an attack without a confidence has no line in the second panel.
      title: what was trained and tested.
    """
    figure, panels = _figure(2, title)
    for axes, measure in zip(panels, ("error", "confidence"), strict=True):
        for i, (attack, curve) in enumerate(evaluation.items()):
            if measure in curve:
                _line(axes, curve["eps"], np.array(curve[measure]), attack, i)
        axes.set(xlabel="eps (units of the input)", ylabel=measure)
        axes.legend()
    figure.savefig(path)


def learning_curves(path: Path, lines: Sequence[Mapping[str, float]], *, title: str) -> None:
    """Draws loss and rates over epochs: the mean over replicas, and their range shaded.

    Args:
      path: the PNG to write.
      lines: of metrics.jsonl.
      title: what was trained.
    """
    names = sorted({name for line in lines for name in line} - {"epoch", "replica", "seed"})
    errors = [name for name in names if name.endswith("error")]
    figure, panels = _figure(2, title)
    for axes, chosen, label in zip(panels, (["loss"], errors), ("loss", "error"), strict=True):
        for i, name in enumerate(chosen):
            values: dict[int, list[float]] = {}
            for line in lines:
                if name in line:
                    values.setdefault(int(line["epoch"]), []).append(line[name])
            epochs = sorted(values)
            # Replicas that stopped early leave fewer values for the later epochs.
            mean, low, high = (
                np.array([reduce(values[epoch]) for epoch in epochs])
                for reduce in (np.mean, np.min, np.max)
            )
            style = _STYLES[i % len(_STYLES)]
            marker = "." if len(epochs) == 1 else None  # There is no line through one point.
            axes.plot(epochs, mean, style, marker=marker, label=name.replace("_", " "))
            axes.fill_between(epochs, low, high, alpha=0.2)
        # An error may reach 0, which a logarithm cannot show.
        positive = all(line[name] > 0 for line in lines for name in chosen if name in line)
        axes.set(xlabel="epoch", ylabel=label, yscale="log" if positive else "linear")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend()
    figure.savefig(path)


def _figure(count: int, title: str):
    figure = Figure(figsize=(5 * count, 3.8), layout="constrained", dpi=120)
    figure.suptitle(title, fontsize="medium")
    panels = figure.subplots(1, count)
    for axes in panels:
        axes.grid(alpha=0.3)
    return figure, panels


def _line(axes, points: Sequence[float], values: np.ndarray, label: str, index: int) -> None:
    """values: f[R, E]."""
    style = _STYLES[index % len(_STYLES)]
    axes.plot(points, values.mean(0), style, marker=".", label=label.replace("_", " "))
    axes.fill_between(points, values.min(0), values.max(0), alpha=0.2)
