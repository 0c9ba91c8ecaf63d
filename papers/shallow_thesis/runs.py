"""Reads finished runs of shallow nets as models A, B or C of the shallow-net thesis."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adv_jax.types import UserError
from papers.drawing import COLORS
from papers.runs import Finished, finished, require_same_data

LABELS = {"clean": "A: clean", "adversarial": "B: half adversarial", "noisy": "C: half noisy"}
# A's line is dashed and B's solid, as in the shallow-net thesis.
STYLES = {
    "clean": {"color": COLORS[0], "linestyle": "--", "marker": "o"},
    "adversarial": {"color": COLORS[1], "linestyle": "-", "marker": "s"},
    "noisy": {"color": COLORS[2], "linestyle": "-.", "marker": "^"},
}
_ATTACKS = {"fgsm": "adversarial", "gaussian_noise": "noisy"}


@dataclass(frozen=True)
class ShallowRun(Finished):
    """A finished run of nets with one hidden layer.

    Attributes:
      kind: kind of training, a key of `LABELS`.
      width: number of hidden units.
    """

    kind: str
    width: int

    def measured(self, measure: str) -> list[float]:
        """Returns "accuracy" or "confidence" of each replica on clean test data."""
        replicas = self.result["replicas"]
        if measure == "accuracy":
            return [1 - replica["test_error"] for replica in replicas]
        return [replica[measure] for replica in replicas]

    def about(self) -> dict[str, Any]:
        """Returns the run's entry for documents."""
        return {
            "kind": self.kind,
            "width": self.width,
            "objective": self.config["objective"],
            "data": self.result["data"],
            "replicas": self.result["replicas"],
        }


def read(
    workdirs: Sequence[str],
    *,
    figure: str,
    kinds: Collection[str],
    data: str = "mnist",
    over: Collection[str] = (),
) -> list[ShallowRun]:
    """Reads finished runs on the same data.

    Args:
      workdirs: one or more workdirs.
      figure: name of the figure, for messages.
      kinds: kinds of training that it draws.
      data: name of its data set.
      over: grid fields that it draws.

    Raises:
      UserError: a run is unfinished, or has another net, kind, data set or grid; or the data
        differ.
    """
    runs = [_read(Path(workdir), over) for workdir in workdirs]
    for run in runs:
        if run.kind not in kinds:
            legal = f"{', '.join(LABELS[kind] for kind in kinds)} for {figure}"
            raise UserError(f"workdir must be {legal}, got {run.path}, {LABELS[run.kind]}")
        if run.result["data"]["name"] != data:
            found = f"{run.path} on {run.result['data']['name']}"
            raise UserError(f"workdir must be a run on {data} for {figure}, got {found}")
    require_same_data(runs)
    return runs


def by_kind(
    runs: Sequence[ShallowRun], kinds: Collection[str], *, figure: str
) -> dict[str, ShallowRun]:
    """Returns kind -> run, in the order of `kinds`.

    Raises:
      UserError: there is not exactly one run of each kind, or the widths differ.
    """
    found = ", ".join(f"{LABELS[run.kind]} of {run.width} units" for run in runs)
    if sorted(run.kind for run in runs) != sorted(kinds) or len({run.width for run in runs}) > 1:
        legal = f"{', '.join(LABELS[kind] for kind in kinds)}, all of one width"
        raise UserError(f"workdir must be {legal} for {figure}, got {found}")
    return {kind: next(run for run in runs if run.kind == kind) for kind in kinds}


def _read(path: Path, over: Collection[str]) -> ShallowRun:
    run = finished(path, over=over)
    model = run.config["model"]
    if model["name"] != "mlp" or len(model["features"]) != 1:
        raise UserError(f"model must be an mlp with one hidden layer, got {model} in {path}")
    kind = _kind(path, run.config["objective"])
    return ShallowRun(path, run.config, run.result, kind, model["features"][0])


def _kind(path: Path, objective: Mapping[str, Any]) -> str:
    if objective["name"] == "cross_entropy":
        return "clean"
    attack = objective.get("attack", {}).get("name")
    if objective["name"] == "adversarial_mix" and attack in _ATTACKS:
        return _ATTACKS[attack]
    legal = "cross_entropy, or adversarial_mix with fgsm or gaussian_noise"
    raise UserError(f"objective must be {legal}, got {objective} in {path}")
