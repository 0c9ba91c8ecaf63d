"""Finished runs of shallow nets: which of the thesis' models they are, and what they found."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adv_jax.types import UserError
from papers.drawing import COLORS
from papers.runs import Finished, check_same_data, finished

LABELS = {"clean": "A: clean", "adversarial": "B: half adversarial", "noisy": "C: half noisy"}
# A's line is dashed and B's plain, as in the thesis.
STYLES = {
    "clean": {"color": COLORS[0], "linestyle": "--", "marker": "o"},
    "adversarial": {"color": COLORS[1], "linestyle": "-", "marker": "s"},
    "noisy": {"color": COLORS[2], "linestyle": "-.", "marker": "^"},
}
_ATTACKS = {"fgsm": "adversarial", "gaussian_noise": "noisy"}


@dataclass(frozen=True)
class ShallowRun(Finished):
    """A finished run of nets with one hidden layer.

    kind: of its training, a key of `LABELS`.
    width: hidden units.
    """

    kind: str
    width: int

    def measured(self, measure: str) -> list[float]:
        """A measure of each replica: "accuracy" or "confidence" on clean test data."""
        replicas = self.result["replicas"]
        if measure == "accuracy":
            return [1 - replica["test_error"] for replica in replicas]
        return [replica[measure] for replica in replicas]

    def about(self) -> dict[str, Any]:
        """For documents."""
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
    """The runs in directories, all of them finished and on the same data.

    Args:
      workdirs: one or more.
      figure: its name, for messages.
      kinds: that it draws.
      data: the name of its data set.
      over: fields of a grid that it draws.

    Raises:
      UserError: no finished run of such nets, of another kind or data set, with another grid, or
        runs on data that differ.
    """
    runs = [_read(Path(workdir), over) for workdir in workdirs]
    for run in runs:
        if run.kind not in kinds:
            allowed = ", ".join(LABELS[kind] for kind in kinds)
            raise UserError(f"workdir {run.path} is {LABELS[run.kind]!r}; {figure} draws {allowed}")
        if run.result["data"]["name"] != data:
            found = run.result["data"]["name"]
            raise UserError(f"workdir {run.path} is on {found}; {figure} draws runs on {data}")
    check_same_data(runs)
    return runs


def of_each(
    runs: Sequence[ShallowRun], kinds: Collection[str], *, figure: str
) -> dict[str, ShallowRun]:
    """kind -> its run, in the order of `kinds`; one of each, all of one width.

    Raises:
      UserError: they are not.
    """
    found = ", ".join(f"{LABELS[run.kind]} of {run.width} units" for run in runs)
    if sorted(run.kind for run in runs) != sorted(kinds) or len({run.width for run in runs}) > 1:
        allowed = ", ".join(LABELS[kind] for kind in kinds)
        raise UserError(f"workdirs hold {found}; {figure} draws {allowed}, all of one width")
    return {kind: next(run for run in runs if run.kind == kind) for kind in kinds}


def _read(path: Path, over: Collection[str]) -> ShallowRun:
    run = finished(path, over=over)
    model = run.config["model"]
    if model["name"] != "mlp" or len(model["features"]) != 1:
        raise UserError(f"workdir {path} has the model {model}; allowed is an mlp of one layer")
    kind = _kind(path, run.config["objective"])
    return ShallowRun(path, run.config, run.result, kind, model["features"][0])


def _kind(path: Path, objective: Mapping[str, Any]) -> str:
    if objective["name"] == "cross_entropy":
        return "clean"
    attack = objective.get("attack", {}).get("name")
    if objective["name"] == "adversarial_mix" and attack in _ATTACKS:
        return _ATTACKS[attack]
    allowed = "cross_entropy, or adversarial_mix with fgsm or gaussian_noise"
    raise UserError(f"workdir {path} has the objective {objective}; allowed is {allowed}")
