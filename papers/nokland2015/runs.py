"""Reads finished runs of the nets and methods of [nokland2015]."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adv_jax.runner.store.workdir import read_metrics
from adv_jax.types import UserError
from papers.runs import Finished, finished, require_same_data
from papers.statistics import spread

LABELS = {
    "plain": "back-propagation",
    "dropout": "dropout",
    "adversarial": "adversarial back-propagation",
    "adversarial_dropout": "adversarial back-propagation and dropout",
}
UNITS = {"sigmoid": "logistic", "tanh": "tanh", "relu": "ReLU"}
_OBJECTIVES = {"cross_entropy": False, "adversarial_backprop": True}  # whether it is adversarial


@dataclass(frozen=True)
class BackpropRun(Finished):
    """A finished run; `method` is a key of `LABELS`."""

    method: str

    @property
    def net(self) -> str:
        """The net's name in the paper: "2x400 ReLU"."""
        units = self.config["model"]["features"]
        return f"{len(units)}x{units[0]} {UNITS[self.config['model']['activation']]}"

    def by_epoch(self, metric: str) -> list[np.ndarray]:
        """Returns a metric of metrics.jsonl by epoch, for each replica: f[epochs] each.

        Raises:
          UserError: the metric was not measured after each epoch.
        """
        values: list[list[float]] = [[] for _ in self.result["replicas"]]
        for line in read_metrics(self.path):
            if metric not in line:
                needed = "a run with monitor_every = 1 and monitor_train = True"
                raise UserError(f"workdir must be {needed}, got {self.path} without {metric}")
            values[line["replica"]].append(line[metric])
        return [np.array(of_replica) for of_replica in values]

    def about(self) -> dict[str, Any]:
        """Returns the run's entry for documents."""
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
    """Reads finished runs on the same data.

    Args:
      workdirs: one or more workdirs.
      figure: name of the figure, for messages.
      experiment: experiment of its runs.

    Raises:
      UserError: a run is unfinished, has a grid or another experiment, or the data differ.
    """
    runs = [_read(Path(workdir), figure, experiment) for workdir in workdirs]
    require_same_data(runs)
    return runs


def by_method(
    runs: Sequence[BackpropRun], methods: Collection[str], *, figure: str
) -> dict[str, BackpropRun]:
    """Returns method -> run, in the order of `methods`.

    Raises:
      UserError: there is not exactly one run of each method, or the nets differ.
    """
    found = ", ".join(f"{run.net} by {LABELS[run.method]}" for run in runs)
    if sorted(run.method for run in runs) != sorted(methods) or len({r.net for r in runs}) > 1:
        legal = f"one run each of {', '.join(LABELS[method] for method in methods)} of one net"
        raise UserError(f"workdir must be {legal} for {figure}, got {found}")
    return {method: next(run for run in runs if run.method == method) for method in methods}


def percent(values: Sequence[float]) -> str:
    """Formats the mean of fractions in percent with the spread: "1.15 +- 0.08"."""
    _, mean, sd = spread(values)
    return f"{100 * mean:.2f}" + ("" if sd is None else f" +- {100 * sd:.2f}")


def _read(path: Path, figure: str, experiment: str) -> BackpropRun:
    run = finished(path)
    if run.config["experiment"] != experiment:
        found = f"{path} of {run.config['experiment']}"
        raise UserError(f"workdir must be a run of {experiment} for {figure}, got {found}")
    return BackpropRun(path, run.config, run.result, _method(path, run.config))


def _method(path: Path, config: Mapping[str, Any]) -> str:
    name = config["objective"]["name"]
    if name not in _OBJECTIVES:
        raise UserError(f"objective must be {' or '.join(_OBJECTIVES)}, got {name} in {path}")
    dropped = "dropout" if config["model"]["dropout"] else ""
    parts = ["adversarial", dropped] if _OBJECTIVES[name] else [dropped]
    return "_".join(filter(None, parts)) or "plain"
