"""Computes and draws learning curves: losses and errors over the epochs of a run."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

# Distinguishable with color blindness and on light and dark backgrounds.
_COLORS = ("#2a86d1", "#d9700a", "#8f7fd4", "#7d8590")
_DASHES = ("-", "--", "-.", ":")
_MOST_INSIDE = 4  # names of a legend inside a panel


def curves(lines: Sequence[Mapping[str, Any]], *, points: int = 100) -> dict[str, Any]:
    """Returns the mean, lowest and highest losses and errors over all replicas, by epoch.

    Replicas that stopped early do not count in later epochs.

    Args:
      lines: the lines of metrics.jsonl.
      points: approximate number of epochs to keep; the last one is always kept.

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
    """Draws losses and errors in two panels, or losses alone: a line for the mean, a shaded range.

    Args:
      curves: the output of `curves`.
      title: title above the panels.
      width: width of the figure in inches; below 5 the panels are stacked.
    """
    losses = [name for name in curves if name.endswith("loss")]
    errors = [name for name in curves if name not in losses]
    names = {"loss": losses, "error (fraction)": errors}
    if losses and not errors:  # A model without classes.
        del names["error (fraction)"]
    rows, columns = (1, len(names)) if width >= 5 else (len(names), 1)
    most = max(map(len, names.values()))
    height = 2.7 + (0.2 * most if most > _MOST_INSIDE else 0)
    figure = Figure(figsize=(width, height * rows), layout="constrained", dpi=120)
    if title:
        figure.suptitle(title, fontsize="medium")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (label, shown) in zip(panels, names.items(), strict=True):
        for (color, style), name in zip(itertools.cycle(_styles()), shown, strict=False):
            curve = curves[name]
            marker = "o" if len(curve["epoch"]) == 1 else None  # A line needs two points.
            text = name.replace("_", " ")
            axes.plot(curve["epoch"], curve["mean"], style, color=color, marker=marker, label=text)
            axes.fill_between(curve["epoch"], curve["low"], curve["high"], color=color, alpha=0.2)
        # An error may be 0, which a log axis cannot show.
        positive = shown and all(min(curves[name]["low"]) > 0 for name in shown)
        axes.set(xlabel="epoch", ylabel=label, yscale="log" if positive else "linear")
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.grid(alpha=0.3)
        if shown:
            # Inside the panel many names would hide the lines.
            below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.2)}
            place = below if len(shown) > _MOST_INSIDE else {}
            axes.legend(fontsize="small", frameon=False, **place)
    return figure


def _styles() -> Iterator[tuple[str, str]]:
    """Yields 16 pairs of a color and dashes; the first four differ in both."""
    for turn in range(len(_DASHES)):
        yield from zip(_COLORS, _DASHES[turn:] + _DASHES[:turn], strict=True)


def _is_curve(name: str) -> bool:
    return name.endswith(("loss", "error"))


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
