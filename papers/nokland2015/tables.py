"""Test errors and the cost of the second pass.  [nokland2015, Tables 2, 3, sec. 5]"""

from collections.abc import Callable, Sequence
from typing import Any

from adv_jax.types import UserError
from papers.judging import numbers
from papers.judging.statistics import spread
from papers.judging.words import span
from papers.nokland2015.runs import LABELS, BackpropRun, percent, read
from papers.running.drawing import Drawing, Table, rounded
from papers.running.runs import by_epoch, one_of_each

LAST = 10  # the number of last epochs that the paper averages
_NETS = {"convnet": "conv", "mlp": "fc"}
_CELLS = {  # method -> the last part of a cell's id
    "plain": "backprop",
    "dropout": "backprop_dropout",
    "adversarial": "adversarial",
    "adversarial_dropout": "adversarial_dropout",
}

# Settings other than the method that change the seconds of an epoch.
_OTHER_CAUSES: dict[str, Callable[[BackpropRun], Any]] = {
    "the device": lambda run: run.result["device"],
    "replicas": lambda run: len(run.result["replicas"]),
    "batch_size": lambda run: run.config["batch_size"],
    "monitor_every": lambda run: run.config["monitor_every"],
    "monitor_train": lambda run: run.config.get("monitor_train", False),
}


def mnist(workdirs: Sequence[str]) -> Drawing:
    """Table 2: test error on MNIST, the mean over the last ten epochs.

    Args:
      workdirs: runs of backprop_mnist; the table has numbers only for adversarial ones.

    Raises:
      UserError: `runs.read` raises, or there are fewer than ten measured epochs.
    """
    runs = read(workdirs)
    rows = []
    for run in runs:
        curves = by_epoch(run, "test_error")
        if (epochs := min(map(len, curves))) < LAST:
            raise UserError(f"epochs must be {LAST} or more for table2, got {epochs} in {run.path}")
        errors = [values[-LAST:].mean() for values in curves]
        size, activation = run.net.lower().split()
        cell = f"nokland2015.table2.{activation}.{size}"
        rows.append(_row(run, run.net, errors, cell if run.method == "adversarial" else ""))
    caption = f"Test error in %, the mean of the last {LAST} epochs; +- is the spread over seeds."
    return _drawing("Table 2", caption, rows, {"epochs_averaged": LAST}, runs)


def cifar10(workdirs: Sequence[str]) -> Drawing:
    """Table 3: test error on CIFAR-10 of two nets, four methods and two preprocessings.

    Args:
      workdirs: runs of backprop_cifar10.

    Raises:
      UserError: see `runs.read`.
    """
    runs = read(workdirs, experiment="backprop_cifar10")
    rows = []
    for run in runs:
        steps = [step["name"] for step in run.config["data"]["preprocess"]]
        net = _NETS[run.config["model"]["name"]], "zca" if "zca" in steps else "simple"
        errors = [replica["test_error"] for replica in run.result["replicas"]]
        cell = ".".join(["nokland2015.table3", *net, _CELLS[run.method]])
        rows.append(_row(run, ", ".join(net), errors, cell))
    caption = "Test error in % when a net stopped; +- is the spread over seeds."
    return _drawing("Table 3", caption, rows, {}, runs)


def overhead(workdirs: Sequence[str]) -> Drawing:
    """Sec. 5: the time of an adversarial epoch relative to a plain one.

    Args:
      workdirs: a plain and an adversarial run of the same net.

    Raises:
      UserError: `runs.read` raises, there are other runs than these, or other settings than the
        method change their time.
    """
    runs = one_of_each(
        read(workdirs),
        ("plain", "adversarial"),
        labels=LABELS,
        figure="overhead",
    )
    for cause, cause_of in _OTHER_CAUSES.items():
        found = [cause_of(run) for run in runs.values()]
        if found[0] != found[1]:
            raise UserError(f"{cause} must be equal in both runs, got {found[0]!r}, {found[1]!r}")
    seconds = {method: _seconds_per_epoch(run) for method, run in runs.items()}
    more = seconds["adversarial"] / seconds["plain"] - 1
    printed = numbers.fraction("nokland2015.disc.overhead")
    caption = (
        f"An epoch of {runs['plain'].net} takes {seconds['plain']:.3g} s plain and "
        f"{seconds['adversarial']:.3g} s adversarial, {100 * more:.0f} % more; the paper has "
        f"roughly {100 * printed:.0f} %. Compilation and the errors after each epoch count."
    )
    document = {
        "caption": caption,
        "seconds_per_epoch": {method: rounded(value) for method, value in seconds.items()},
        "overhead": rounded(more),
        "overhead_in_paper": printed,
        "runs": [run.about() for run in runs.values()],
    }
    return Drawing(None, document)


def _seconds_per_epoch(run: BackpropRun) -> float:
    """Returns the total seconds divided by the epochs of all replicas."""
    return run.result["seconds"] / sum(replica["epochs"] for replica in run.result["replicas"])


def _row(run: BackpropRun, net: str, errors: Sequence[float], cell: str) -> dict[str, Any]:
    """Returns a row; `cell` is the id of the paper's number, which may not exist."""
    _, mean, sd = spread(errors)
    return {
        "net": net,
        "method": run.method,
        "error": rounded(mean),
        "spread": None if sd is None else rounded(sd),
        "errors": rounded(errors),
        "epochs": [replica["epochs"] for replica in run.result["replicas"]],
        "batch_size": run.config["batch_size"],
        "paper": _printed(cell),
    }


def _printed(cell: str) -> dict[str, float] | None:
    """Returns the paper's error and spread as fractions; None if the cell is missing or lost."""
    entry = numbers.load()["nokland2015"].entries.get(cell, {})
    if entry.get("value") is None:
        return None
    return {"error": rounded(entry["value"] / 100), "spread": rounded(entry["spread"] / 100)}


def _drawing(
    what: str,
    caption: str,
    rows: Sequence[dict],
    settings: dict[str, Any],
    runs: Sequence[BackpropRun],
) -> Drawing:
    def cells(row: dict[str, Any]) -> list[str]:
        paper = row["paper"]
        printed = f"{100 * paper['error']:.2f} +- {100 * paper['spread']:.2f}" if paper else "-"
        trained = [str(len(row["errors"])), span(row["epochs"]), str(row["batch_size"])]
        return [row["net"], LABELS[row["method"]], percent(row["errors"]), *trained, printed]

    columns = ["net", "method", "error %", "seeds", "epochs", "batch", "paper"]
    table = Table(f"Nokland 2015, {what}; {runs[0].data}", columns, [cells(row) for row in rows])
    document = {
        "caption": caption,
        "settings": {**settings, "chosen": ["spread"]},
        "rows": list(rows),
        "runs": [run.about() for run in runs],
    }
    return Drawing(None, document, table)
