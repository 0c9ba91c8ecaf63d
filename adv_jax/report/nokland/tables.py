"""Test errors beside the paper's, and the price of the second pass.  [Nokland 2015, Tables 2, 3]"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from adv_jax.report.drawing import Drawing, Table, rounded
from adv_jax.report.nokland.runs import LABELS, Run, of_each, percent, read, spread

LAST = 10  # epochs, over whose errors the paper takes the mean
# Error and spread of five runs, as fractions.
TABLE2 = {
    "2x400 logistic": (0.0115, 0.0008),
    "2x800 logistic": (0.01, 0.0005),
    "2x1200 logistic": (0.0095, 0.0003),
    "2x400 tanh": (0.0104, 0.0004),
    "2x800 tanh": (0.0101, 0.0002),
    "2x1200 tanh": (0.0107, 0.0005),
    "2x400 ReLU": (0.0083, 0.0004),
    "2x800 ReLU": (0.0078, 0.0003),
    "2x1200 ReLU": (0.0078, 0.0003),
}
TABLE3 = {
    ("fc", "simple", "plain"): (0.4057, 0.0033),
    ("fc", "simple", "dropout"): (0.3951, 0.0031),
    ("fc", "simple", "adversarial"): (0.3887, 0.0018),
    ("fc", "simple", "adversarial_dropout"): (0.39, 0.0035),
    ("conv", "zca", "plain"): (0.145, 0.0011),
    ("conv", "zca", "dropout"): (0.1297, 0.0023),
    ("conv", "zca", "adversarial"): (0.1362, 0.0014),
    ("conv", "zca", "adversarial_dropout"): (0.1255, 0.002),
    ("conv", "simple", "plain"): (0.1565, 0.0015),
    ("conv", "simple", "dropout"): (0.1595, 0.0027),
    ("conv", "simple", "adversarial"): (0.1709, 0.003),
    ("conv", "simple", "adversarial_dropout"): (0.16, 0.0046),
}
OVERHEAD = 0.7  # of an epoch, "roughly"
_NETS = {"convnet": "conv", "mlp": "fc"}

Printed = tuple[float, float]  # the paper's error and spread


def mnist(workdirs: Sequence[str]) -> Drawing:
    """Table 2: test error on MNIST, the mean over the last ten epochs.

    Args:
      workdirs: of runs of backprop_mnist; those that are not adversarial have no number in it.

    Raises:
      UserError: what `runs.read` refuses; the error of an epoch was not measured.
    """
    runs = read(workdirs, figure="table2")
    rows = []
    for run in runs:
        errors = [values[-LAST:].mean() for values in run.by_epoch("test_error")]
        printed = TABLE2.get(run.net) if run.method == "adversarial" else None
        rows.append(_row(run, run.net, errors, printed))
    caption = f"Test error in %, the mean of the last {LAST} epochs; +- is the spread over seeds."
    return _drawing("Table 2", caption, rows, {"epochs_averaged": LAST}, runs)


def cifar10(workdirs: Sequence[str]) -> Drawing:
    """Table 3: test error on CIFAR-10, of two nets, four methods and two ways to preprocess.

    Args:
      workdirs: of runs of backprop_cifar10.

    Raises:
      UserError: what `runs.read` refuses.
    """
    runs = read(workdirs, figure="table3", experiment="backprop_cifar10")
    rows = []
    for run in runs:
        steps = [step["name"] for step in run.config["data"]["preprocess"]]
        cell = _NETS[run.config["model"]["name"]], "zca" if "zca" in steps else "simple"
        errors = [replica["test_error"] for replica in run.result["replicas"]]
        rows.append(_row(run, ", ".join(cell), errors, TABLE3.get((*cell, run.method))))
    caption = "Test error in % when a net stopped; +- is the spread over seeds."
    return _drawing("Table 3", caption, rows, {}, runs)


def overhead(workdirs: Sequence[str]) -> Drawing:
    """Sec. 5: what an adversarial epoch costs beside a plain one.

    Args:
      workdirs: of a plain and of an adversarial run of the same net.

    Raises:
      UserError: what `runs.read` refuses; other runs than these.
    """
    runs = of_each(read(workdirs, figure="overhead"), ("plain", "adversarial"), figure="overhead")
    seconds = {method: _seconds_per_epoch(run) for method, run in runs.items()}
    more = seconds["adversarial"] / seconds["plain"] - 1
    caption = (
        f"An epoch of {runs['plain'].net} takes {seconds['plain']:.3g} s plain and "
        f"{seconds['adversarial']:.3g} s adversarial, {100 * more:.0f} % more; the paper has "
        f"roughly {100 * OVERHEAD:.0f} %. Compilation and the errors after each epoch count."
    )
    document = {
        "caption": caption,
        "seconds_per_epoch": {method: rounded(value) for method, value in seconds.items()},
        "overhead": rounded(more),
        "paper": OVERHEAD,
        "runs": [run.about() for run in runs.values()],
    }
    return Drawing(None, document)


def _seconds_per_epoch(run: Run) -> float:
    """Of all seconds, over the epochs of all replicas."""
    return run.result["seconds"] / sum(replica["epochs"] for replica in run.result["replicas"])


def _row(run: Run, net: str, errors: Sequence[float], printed: Printed | None) -> dict[str, Any]:
    deviation = spread(errors)
    return {
        "net": net,
        "method": run.method,
        "error": rounded(np.mean(errors)),
        "spread": None if deviation is None else rounded(deviation),
        "errors": rounded(errors),
        "paper": None if printed is None else dict(zip(("error", "spread"), printed, strict=True)),
    }


def _drawing(
    what: str, caption: str, rows: Sequence[dict], settings: dict[str, Any], runs: Sequence[Run]
) -> Drawing:
    def told(row: dict[str, Any]) -> list[str]:
        paper = row["paper"]
        printed = f"{100 * paper['error']:.2f} +- {100 * paper['spread']:.2f}" if paper else "-"
        ours = percent(row["errors"])
        return [row["net"], LABELS[row["method"]], ours, str(len(row["errors"])), printed]

    columns = ["net", "method", "error %", "seeds", "paper"]
    table = Table(f"Nokland 2015, {what}; {runs[0].data}", columns, [told(row) for row in rows])
    document = {
        "caption": caption,
        "settings": {**settings, "chosen": ["spread"]},
        "rows": list(rows),
        "runs": [run.about() for run in runs],
    }
    return Drawing(None, document, table)
