"""Computes and draws learning curves: losses and errors over the epochs of a run."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from adv_jax import style


def curves_of_lines(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the mean, lowest and highest losses and errors over all replicas, by epoch.

    Replicas that stopped early do not count in later epochs. About a hundred epochs are kept, and
    always the last one.

    Args:
      lines: the lines of metrics.jsonl.

    Returns:
      name -> {"epoch": [E], "mean": [E], "low": [E], "high": [E]}.
    """
    names = sorted({name for line in lines for name in line if _is_curve(name)})
    found = {}
    for name in names:
        by_epoch: dict[int, list[float]] = {}
        for line in lines:
            if name in line:
                by_epoch.setdefault(line["epoch"], []).append(line[name])
        epochs = sorted(by_epoch)
        step = -(-len(epochs) // 100)
        epochs = sorted({*epochs[::step], epochs[-1]})
        found[name] = {
            "epoch": epochs,
            "mean": [_rounded(sum(by_epoch[e]) / len(by_epoch[e])) for e in epochs],
            "low": [_rounded(min(by_epoch[e])) for e in epochs],
            "high": [_rounded(max(by_epoch[e])) for e in epochs],
        }
    return found


@style.styled()
def chart(curves: Mapping[str, Mapping[str, Sequence[float]]], *, title: str = "") -> Figure:
    """Draws losses and errors in two panels, or losses alone: a line for the mean, a shaded range.

    Args:
      curves: the output of `curves_of_lines`.
      title: title above the panels.
    """
    losses = [name for name in curves if name.endswith("loss")]
    errors = [name for name in curves if name not in losses]
    names = {"loss": losses, "error (fraction)": errors}
    if losses and not errors:  # A model without classes.
        del names["error (fraction)"]
    figure, panels = style.canvas(1, len(names), title=title, width=7 / len(names), height=2.7)
    for axes, (label, shown) in zip(panels.ravel(), names.items(), strict=True):
        for color, name in zip(itertools.cycle(style.COLORS), shown, strict=False):
            curve = curves[name]
            marker = "o" if len(curve["epoch"]) == 1 else None  # A line needs two points.
            text = name.replace("_", " ")
            axes.plot(curve["epoch"], curve["mean"], color=color, marker=marker, label=text)
            axes.fill_between(
                curve["epoch"], curve["low"], curve["high"], color=color, alpha=0.2, linewidth=0
            )
        axes.set(xlabel="epoch", ylabel=label)
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        ends = [value for name in shown for key in ("low", "high") for value in curves[name][key]]
        style.widen(axes, ends)
        style.name_lines(axes)
    return figure


def _is_curve(name: str) -> bool:
    return name.endswith(("loss", "error"))


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
