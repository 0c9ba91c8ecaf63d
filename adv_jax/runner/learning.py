"""Learning curves: loss and errors over the epochs of a run, as numbers and drawn."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

# Told apart by all readers, on light and dark ground; dashes say the same.
_LINES = (("#2a86d1", "-"), ("#d9700a", "--"), ("#8f7fd4", "-."), ("#7d8590", ":"))


def curves(lines: Sequence[Mapping[str, Any]], *, points: int = 100) -> dict[str, Any]:
    """Loss and errors over epochs, over all replicas: mean, lowest and highest.

    Replicas that stopped early leave fewer values for the later epochs.

    Args:
      lines: of metrics.jsonl.
      points: about so many epochs are kept, the last among them.

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
        step = -(-len(epochs) // points)
        epochs = sorted({*epochs[::step], epochs[-1]})
        found[name] = {
            "epoch": epochs,
            "mean": [_rounded(sum(by_epoch[e]) / len(by_epoch[e])) for e in epochs],
            "low": [_rounded(min(by_epoch[e])) for e in epochs],
            "high": [_rounded(max(by_epoch[e])) for e in epochs],
        }
    return found


def chart(
    curves: Mapping[str, Mapping[str, Sequence[float]]], *, title: str = "", width: float = 7
) -> Figure:
    """The loss in one panel and the errors in another: a line for the mean, the range shaded.

    Args:
      curves: what `curves` gives.
      title: above the panels.
      width: in inches, for both panels side by side; below 5 they stand one above the other.
    """
    rows, columns = (1, 2) if width >= 5 else (2, 1)
    figure = Figure(figsize=(width, 2.7 * rows), layout="constrained", dpi=120)
    if title:
        figure.suptitle(title, fontsize="medium")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    errors = [name for name in curves if name != "loss"]
    names = {"loss": ["loss"] if "loss" in curves else [], "error (fraction)": errors}
    for axes, (label, shown) in zip(panels, names.items(), strict=True):
        for (color, style), name in zip(itertools.cycle(_LINES), shown, strict=False):
            curve = curves[name]
            marker = "o" if len(curve["epoch"]) == 1 else None  # No line goes through one point.
            text = name.replace("_", " ")
            axes.plot(curve["epoch"], curve["mean"], style, color=color, marker=marker, label=text)
            axes.fill_between(curve["epoch"], curve["low"], curve["high"], color=color, alpha=0.2)
        # An error may reach 0, which a logarithm cannot show.
        positive = shown and all(min(curves[name]["low"]) > 0 for name in shown)
        axes.set(xlabel="epoch", ylabel=label, yscale="log" if positive else "linear")
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.grid(alpha=0.3)
        if shown:
            axes.legend(fontsize="small", frameon=False)
    return figure


def _is_curve(name: str) -> bool:
    return name == "loss" or name.endswith("error")


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
