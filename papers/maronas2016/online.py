"""Rules for linear units, digit by digit.

Sources: [maronas2016], sec. 3.3.2; the shallow-net thesis, sec. 2.1.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from adv_jax.style import COLORS, band, canvas, name_lines
from adv_jax.types import UserError
from papers.running.drawing import Drawing, Table, rounded
from papers.running.runs import Finished, by_epoch, finished_runs, trained_on

_NAMES = {
    "perceptron": "perceptron (step units)",
    "pa": "passive-aggressive, PA",
    "pa1": "passive-aggressive, PA-I",
    "pa2": "passive-aggressive, PA-II",
    "least_mean_squares": "least mean squares (linear units)",
    "cross_entropy": "softmax, cross-entropy",
}


def curves(workdirs: Sequence[str]) -> Drawing:
    """Sec. 3.3.2: the test errors of rules for linear units, epoch by epoch.

    Args:
      workdirs: finished runs of online_mnist, each of another rule.

    Raises:
      UserError: they are not such runs on one data set.
    """
    runs = finished_runs(workdirs, experiment="online_mnist")
    rules = [_rule(run) for run in runs]
    if len(set(rules)) < len(rules):
        raise UserError(f"workdir must be runs of different rules, got {', '.join(rules)}")
    title = f"Maronas 2016, sec. 3.3.2: ten units, one digit at a time; {trained_on(runs)}"
    figure, ((axes,),) = canvas(1, 1, title=title, width=7, height=4.6)
    errors = {
        rule: np.array(by_epoch(run, "test_error")) for rule, run in zip(rules, runs, strict=True)
    }
    styles = itertools.cycle(zip(COLORS, "o^vsDx", strict=True))
    for (rule, error), (color, marker) in zip(errors.items(), styles, strict=False):
        epochs = np.arange(1, error.shape[1] + 1)
        look = {"color": color, "marker": marker, "markersize": 4, "label": _NAMES[rule]}
        band(axes, epochs, 100 * error, **look)
    axes.set(xlabel="epoch", ylabel="test error in %, mean and range over seeds")
    axes.xaxis.get_major_locator().set_params(integer=True)
    name_lines(axes)
    last = {rule: 100 * error[:, -1] for rule, error in errors.items()}
    rows = [
        [_NAMES[rule], *map("{:.2f}".format, (e.mean(), e.min(), e.max()))]
        for rule, e in last.items()
    ]
    lowest = min(last, key=lambda rule: last[rule].mean())
    document = {
        "caption": f"{_NAMES[lowest]} has the lowest mean test error in the end, "
        f"{last[lowest].mean():.2f} %; {trained_on(runs)}.",
        "settings": {"chosen": ["aggressiveness", "rates", "epochs"]},
        "errors": {rule: rounded(error) for rule, error in errors.items()},
        "objectives": {r: run.config["objective"] for r, run in zip(rules, runs, strict=True)},
        "data": runs[0].result["data"],
        "replicas": {r: run.result["replicas"] for r, run in zip(rules, runs, strict=True)},
    }
    columns = ["rule", "test error in %", "lowest", "highest"]
    return Drawing(figure, document, Table(f"online_mnist; {trained_on(runs)}", columns, rows))


def _rule(run: Finished) -> str:
    objective = run.config["objective"]
    return objective.get("form", objective["name"])
