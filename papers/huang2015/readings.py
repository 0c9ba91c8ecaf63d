"""Rows of Table 1 by settings that the paper does not print.  [huang2015, sec. 7.2]

dropout     the layers that dropout follows, and its rate; the authors' program drops half of the
            second hidden layer's units
lwa_rep     the radius r at the representation h; in the authors' program for CIFAR-10 it is
            .25 ||h||
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from adv_jax.types import UserError
from papers.huang2015.targets import ATTACKS, COLUMNS
from papers.judging import numbers
from papers.judging.statistics import BySeed
from papers.running.drawing import Drawing, rounded
from papers.running.readings import Cell, Reading, compared
from papers.running.runs import Finished, finished, require_same_data, run_document, trained_on
from papers.running.trainings import same_point

EPS = 1.5  # l2 norm
CLEAN = "validation"
TOLERANCES = {CLEAN: 0.005} | dict.fromkeys(COLUMNS, 0.05)  # as in the targets
NAMES = {CLEAN: "clean"} | {column: ATTACKS[attack] for column, attack in COLUMNS.items()}
RADIUS = "objective.attack.eps"


def dropout(workdirs: Sequence[str]) -> Drawing:
    """Table 1: accuracies with dropout after the first, the second or both hidden layers.

    Args:
      workdirs: finished runs of huang_mlp_mnist:method=dropout,fixed=DIR with several
        model.dropout.

    Raises:
      UserError: a run is unfinished, has no two hidden layers with dropout or lacks an attack, or
        the data differ.
    """
    runs = [finished(workdir) for workdir in workdirs]
    found = [Reading(_layers(run), _accuracies(run)) for run in runs]
    what = "nets with dropout, clean and perturbed, by the layers that it follows and its rate"
    return _table("dropout", runs, found, what=what, chosen=["layers", "rates"])


def representation(workdirs: Sequence[str]) -> Drawing:
    """Table 1: accuracies of LWA_Rep with radii of the representation, absolute and relative.

    Args:
      workdirs: finished runs of huang_mlp_mnist:fixed=DIR,method=lwa_rep or lwa_rep_relative, each
        with one objective.attack.eps or with a grid of it.

    Raises:
      UserError: a run is unfinished, has another objective or lacks an attack, or the data differ.
    """
    runs = [finished(workdir, over=(RADIUS,)) for workdir in workdirs]
    found = [reading for run in runs for reading in _radii(run)]
    what = "LWA_Rep, clean and perturbed, by the radius r of the representation h"
    return _table("lwa_rep", runs, found, what=what, chosen=["radii"])


def _table(
    row: str, runs: Sequence[Finished], found: Sequence[Reading], *, what: str, chosen: list[str]
) -> Drawing:
    require_same_data(runs)
    cells = {
        cell: Cell(NAMES[cell], numbers.entry(f"huang2015.table1.{row}.{cell}")["value"], tolerance)
        for cell, tolerance in TOLERANCES.items()
    }
    about = trained_on(runs)
    drawing = compared(
        found,
        cells,
        what=f"Accuracy in % of {what}; l2 norm {EPS}; {about}.",
        title=f"Huang 2015, Table 1, {row}, accuracy in %; {about}",
    )
    settings = {
        "settings": {"eps": EPS, "chosen": chosen},
        "runs": [run_document(run, "model", "objective") for run in runs],
    }
    return drawing._replace(document=drawing.document | settings)


def _layers(run: Finished) -> str:
    """Returns "first layer .5, second layer .2" from the rates of a run."""
    rates = run.config["model"]["dropout"]
    if len(rates) != 3 or rates[0] or not any(rates):
        legal = "(0, first, second) with a rate above 0"
        raise UserError(f"model.dropout must be {legal}, got {rates} in {run.path}")
    named = zip(("first", "second"), rates[1:], strict=True)
    return ", ".join(f"{name} layer {rate:g}" for name, rate in named if rate)


def _radii(run: Finished) -> list[Reading]:
    """Returns the reading of each radius of a run."""
    objective = run.config["objective"]
    if objective["name"] != "lwa_rep":
        raise UserError(f"objective must be lwa_rep, got {objective['name']} in {run.path}")
    unit = " times the length of h" if objective.get("relative") else ""
    grid = (run.config["replicas"]["grid"] or {}).get(RADIUS)
    if grid is None:
        return [Reading(f"r of {objective['attack']['eps']:g}{unit}", _accuracies(run))]
    return [Reading(f"r of {eps:g}{unit}", _accuracies(run, {RADIUS: eps})) for eps in grid]


def _accuracies(run: Finished, at: Mapping[str, float] = MappingProxyType({})) -> dict[str, BySeed]:
    """Returns cell of the table -> seed -> accuracy of the replicas at a point of the grid."""
    wanted = {
        i: replica
        for i, replica in enumerate(run.result["replicas"])
        if same_point(at, replica["overrides"])
    }
    errors = {CLEAN: {i: replica["test_error"] for i, replica in wanted.items()}}
    for cell, attack in COLUMNS.items():
        curve = run.result["evaluation"].get(attack)
        if curve is None or EPS not in curve["eps"]:
            raise UserError(f"evaluation.attacks must include {attack} of {EPS}, got none")
        errors[cell] = {i: curve["error"][i][curve["eps"].index(EPS)] for i in wanted}
    return {
        cell: {wanted[i]["seed"]: rounded(1 - error) for i, error in of_cell.items()}
        for cell, of_cell in errors.items()
    }
