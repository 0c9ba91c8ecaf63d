"""Errors over epochs.  [nokland2015, Fig. 1]"""

from collections.abc import Sequence

import numpy as np

from adv_jax.style import COLORS, band, canvas
from papers.nokland2015.runs import LABELS, read
from papers.running.drawing import Drawing, rounded
from papers.running.runs import by_epoch, trained_on

_STYLES = {"train_error": "--", "test_error": "-"}


def errors(workdirs: Sequence[str]) -> Drawing:
    """Fig. 1: error on the clean training set and on the test set, epoch by epoch.

    Args:
      workdirs: runs of backprop_mnist; the paper has 2x800 with logistic, tanh and ReLU units.

    Raises:
      UserError: `runs.read` raises, or an error was not measured after each epoch.
    """
    runs = read(workdirs)
    figure, [[axes]] = canvas(
        1, 1, title=f"Nokland 2015, Fig. 1: error curves; {trained_on(runs)}", width=7.5, height=4.6
    )
    curves = []
    for i, run in enumerate(runs):
        color, curve = COLORS[i % len(COLORS)], {}
        for metric, style in _STYLES.items():
            values = 100 * _side_by_side(by_epoch(run, metric))
            epochs = np.arange(1, values.shape[1] + 1)
            label = f"{run.net}, {LABELS[run.method]}, {metric.removesuffix('_error')}"
            band(axes, epochs, values, linestyle=style, color=color, label=label)
            curve[metric] = rounded(np.nanmean(values, axis=0) / 100)
            curve["seeds"] = (~np.isnan(values)).sum(0).tolist()
        curves.append({"net": run.net, "method": run.method, **curve})
    # Logarithmic above .1 %, linear below.
    axes.set_yscale("symlog", linthresh=0.1)
    ticks = (0, 0.1, 1, 10, 100)
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set(xlabel="epoch", ylabel="error (%)", ylim=(0, None))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend()
    caption = (
        "Error on the clean training set, dashed, and on the test set: the mean over the seeds "
        "that train for so long, their range shaded. "
        + " ".join(map(_summary, curves))
        + " In the paper the training error of all three nets goes to 0, of ReLU and logistic ones "
        "in about 50 epochs, of tanh later."
    )
    document = {
        "caption": caption,
        "settings": {"chosen": ["axes", "spread"]},
        "curves": curves,
        "runs": [run.about() for run in runs],
    }
    return Drawing(figure, document)


def _side_by_side(values: Sequence[np.ndarray]) -> np.ndarray:
    """Stacks the values of replicas: f[R, epochs], NaN after early stopping."""
    rows = np.full((len(values), max(map(len, values))), np.nan)
    for row, of_replica in zip(rows, values, strict=True):
        row[: len(of_replica)] = of_replica
    return rows


def _summary(curve: dict) -> str:
    train = np.array(curve["train_error"])
    return (
        f"{curve['net']}, {LABELS[curve['method']]}: the training error is lowest after epoch "
        f"{train.argmin() + 1}, {100 * train.min():.3g} %."
    )
