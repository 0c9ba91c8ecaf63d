"""Reads finished runs of shallow nets as models A, B or C of the shallow-net thesis."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adv_jax.style import COLORS
from adv_jax.types import UserError
from papers.running.runs import MethodRun, finished, require_same_data

LABELS = {"clean": "A: clean", "adversarial": "B: half adversarial", "noisy": "C: half noisy"}
# A's line is dashed and B's solid, as in the shallow-net thesis.
STYLES = {
    "clean": {"color": COLORS[0], "linestyle": "--", "marker": "o"},
    "adversarial": {"color": COLORS[1], "linestyle": "-", "marker": "s"},
    "noisy": {"color": COLORS[2], "linestyle": "-.", "marker": "^"},
}
_ATTACKS = {"fgsm": "adversarial", "gaussian_noise": "noisy"}


@dataclass(frozen=True)
class ShallowRun(MethodRun):
    """A finished run of nets with one hidden layer; `method` is a key of `LABELS`.

    width: number of hidden units.
    """

    width: int

    @property
    def net(self) -> str:
        """The net's width: "800 units"."""
        return f"{self.width} units"

    def measured(self, measure: str) -> list[float]:
        """Returns "accuracy" or "confidence" of each replica on clean test data."""
        replicas = self.result["replicas"]
        if measure == "accuracy":
            return [1 - replica["test_error"] for replica in replicas]
        return [replica[measure] for replica in replicas]

    def about(self) -> dict[str, Any]:
        """Returns the run's entry for documents."""
        return {
            "kind": self.method,
            "width": self.width,
            "objective": self.config["objective"],
            "data": self.result["data"],
            "replicas": self.result["replicas"],
        }


def read(
    workdirs: Sequence[str],
    *,
    figure: str,
    methods: Collection[str],
    data: str = "mnist",
    over: Collection[str] = (),
) -> list[ShallowRun]:
    """Reads finished runs on the same data.

    Args:
      workdirs: one or more workdirs.
      figure: name of the figure, for messages.
      methods: the trainings that it draws.
      data: name of its data set.
      over: grid fields that it draws.

    Raises:
      UserError: a run is unfinished, or has another net, method, data set or grid; or the data
        differ.
    """
    runs = [_read(Path(workdir), over) for workdir in workdirs]
    for run in runs:
        if run.method not in methods:
            legal = f"{', '.join(LABELS[method] for method in methods)} for {figure}"
            raise UserError(f"workdir must be {legal}, got {run.path}, {LABELS[run.method]}")
        if run.result["data"]["name"] != data:
            found = f"{run.path} on {run.result['data']['name']}"
            raise UserError(f"workdir must be a run on {data} for {figure}, got {found}")
    require_same_data(runs)
    return runs


def _read(path: Path, over: Collection[str]) -> ShallowRun:
    run = finished(path, over=over)
    model = run.config["model"]
    if model["name"] != "mlp" or len(model["features"]) != 1:
        raise UserError(f"model must be an mlp with one hidden layer, got {model} in {path}")
    method = _method(path, run.config["objective"])
    return ShallowRun(path, run.config, run.result, method, model["features"][0])


def _method(path: Path, objective: Mapping[str, Any]) -> str:
    if objective["name"] == "cross_entropy":
        return "clean"
    attack = objective.get("attack", {}).get("name")
    if objective["name"] == "adversarial_mix" and attack in _ATTACKS:
        return _ATTACKS[attack]
    legal = "cross_entropy, or adversarial_mix with fgsm or gaussian_noise"
    raise UserError(f"objective must be {legal}, got {objective} in {path}")
