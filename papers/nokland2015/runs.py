"""Finished runs of the paper's nets: which of them they are, and what they found."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adv_jax.runner.workdir import read_metrics
from adv_jax.types import UserError
from papers.runs import Finished, check_same_data, finished
from papers.statistics import spread

LABELS = {
    "plain": "back-propagation",
    "dropout": "dropout",
    "adversarial": "adversarial back-propagation",
    "adversarial_dropout": "adversarial back-propagation and dropout",
}
UNITS = {"sigmoid": "logistic", "tanh": "tanh", "relu": "ReLU"}
_OBJECTIVES = {"cross_entropy": False, "adversarial_backprop": True}  # is it adversarial?


@dataclass(frozen=True)
class BackpropRun(Finished):
    """A finished run.

    method: of its training, a key of `LABELS`.
    """

    method: str

    @property
    def net(self) -> str:
        """As the paper names it: "2x400 ReLU"."""
        units = self.config["model"]["features"]
        return f"{len(units)}x{units[0]} {UNITS[self.config['model']['activation']]}"

    def by_epoch(self, metric: str) -> list[np.ndarray]:
        """A metric of metrics.jsonl after each epoch, of each replica: f[epochs] each.

        Raises:
          UserError: it was not measured.
        """
        values: list[list[float]] = [[] for _ in self.result["replicas"]]
        for line in read_metrics(self.path):
            if metric not in line:
                asked = "monitor_every = 1 and monitor_train = True"
                raise UserError(f"workdir {self.path} lacks {metric} of an epoch; it needs {asked}")
            values[line["replica"]].append(line[metric])
        return [np.array(of_replica) for of_replica in values]

    def about(self) -> dict[str, Any]:
        """For documents."""
        return {
            "method": self.method,
            "model": self.config["model"],
            "optimizer": self.config["optimizer"],
            "objective": self.config["objective"],
            "data": self.result["data"],
            "replicas": self.result["replicas"],
        }


def read(
    workdirs: Sequence[str], *, figure: str, experiment: str = "backprop_mnist"
) -> list[BackpropRun]:
    """The runs in directories, all of them finished and on the same data.

    Args:
      workdirs: one or more.
      figure: its name, for messages.
      experiment: whose runs it has.

    Raises:
      UserError: no finished run, one with a grid or of another experiment, or runs on data that
        differ.
    """
    runs = [_read(Path(workdir), figure, experiment) for workdir in workdirs]
    check_same_data(runs)
    return runs


def of_each(
    runs: Sequence[BackpropRun], methods: Collection[str], *, figure: str
) -> dict[str, BackpropRun]:
    """method -> its run, in the order of `methods`; one of each, all of the same net.

    Raises:
      UserError: they are not.
    """
    found = ", ".join(f"{run.net} by {LABELS[run.method]}" for run in runs)
    if sorted(run.method for run in runs) != sorted(methods) or len({r.net for r in runs}) > 1:
        allowed = ", ".join(LABELS[method] for method in methods)
        raise UserError(f"workdirs hold {found}; {figure} has one net by each of {allowed}")
    return {method: next(run for run in runs if run.method == method) for method in methods}


def percent(values: Sequence[float]) -> str:
    """The mean of fractions in percent, with their spread: "1.15 +- .08"."""
    _, mean, sd = spread(values)
    told = "" if sd is None else f" +- {100 * sd:.2f}"
    return f"{100 * mean:.2f}{told}"


def _read(path: Path, figure: str, experiment: str) -> BackpropRun:
    run = finished(path)
    if run.config["experiment"] != experiment:
        found = run.config["experiment"]
        raise UserError(f"workdir {path} is a run of {found}; {figure} has runs of {experiment}")
    return BackpropRun(path, run.config, run.result, _method(path, run.config))


def _method(path: Path, config: Mapping[str, Any]) -> str:
    name = config["objective"]["name"]
    if name not in _OBJECTIVES:
        allowed = " or ".join(_OBJECTIVES)
        raise UserError(f"workdir {path} has the objective {name}; allowed is {allowed}")
    dropped = "dropout" if config["model"]["dropout"] else ""
    parts = ["adversarial", dropped] if _OBJECTIVES[name] else [dropped]
    return "_".join(filter(None, parts)) or "plain"
