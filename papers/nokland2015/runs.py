"""Reads finished runs of the nets and methods of [nokland2015]."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adv_jax.types import UserError
from papers.judging.statistics import spread
from papers.running.runs import MethodRun, finished, require_same_data

LABELS = {
    "plain": "back-propagation",
    "dropout": "dropout",
    "adversarial": "adversarial back-propagation",
    "adversarial_dropout": "adversarial back-propagation and dropout",
}
UNITS = {"sigmoid": "logistic", "tanh": "tanh", "relu": "ReLU"}
_OBJECTIVES = {"cross_entropy": False, "adversarial_backprop": True}  # whether it is adversarial


@dataclass(frozen=True)
class BackpropRun(MethodRun):
    """A finished run; `method` is a key of `LABELS`."""

    @property
    def net(self) -> str:
        """The net's name in the paper: "2x400 ReLU"."""
        units = self.config["model"]["features"]
        return f"{len(units)}x{units[0]} {UNITS[self.config['model']['activation']]}"

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


def read(workdirs: Sequence[str], *, experiment: str = "backprop_mnist") -> list[BackpropRun]:
    """Reads finished runs on the same data.

    Args:
      workdirs: one or more workdirs.
      experiment: that of each run.

    Raises:
      UserError: a run is unfinished, has a grid or another experiment, or the data differ.
    """
    runs = [_read(Path(workdir), experiment) for workdir in workdirs]
    require_same_data(runs)
    return runs


def percent(values: Sequence[float]) -> str:
    """Formats the mean of fractions in percent with the spread: "1.15 +- 0.08"."""
    _, mean, sd = spread(values)
    return f"{100 * mean:.2f}" + ("" if sd is None else f" +- {100 * sd:.2f}")


def _read(path: Path, experiment: str) -> BackpropRun:
    run = finished(path, experiment=experiment)
    return BackpropRun(path, run.config, run.result, _method(path, run.config))


def _method(path: Path, config: Mapping[str, Any]) -> str:
    name = config["objective"]["name"]
    if name not in _OBJECTIVES:
        raise UserError(f"objective must be {' or '.join(_OBJECTIVES)}, got {name} in {path}")
    dropped = "dropout" if config["model"]["dropout"] else ""
    parts = ["adversarial", dropped] if _OBJECTIVES[name] else [dropped]
    return "_".join(filter(None, parts)) or "plain"
