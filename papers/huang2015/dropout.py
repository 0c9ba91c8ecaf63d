"""Table 1's row of dropout, by the layers that dropout follows and by its rate.  [huang2015]

The paper prints neither; in the authors' program half of the second hidden layer's units drop.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adv_jax.types import UserError
from papers import numbers
from papers.drawing import Drawing, rounded
from papers.huang2015.targets import COLUMNS
from papers.readings import Cell, Reading, compared
from papers.runs import Finished, finished, require_same_data, trained_on
from papers.statistics import BySeed

EPS = 1.5  # l2 norm
CLEAN = "validation"
TOLERANCES = {CLEAN: 0.005} | dict.fromkeys(COLUMNS, 0.05)  # as in the targets


def layers(workdirs: Sequence[str]) -> Drawing:
    """Table 1: accuracies with dropout after the first, the second or both hidden layers.

    Args:
      workdirs: finished runs of huang_mlp_mnist:method=dropout,fixed=DIR with several
        model.dropout.

    Raises:
      UserError: a run is unfinished, has no two hidden layers with dropout or lacks an attack, or
        the data differ.
    """
    runs = [finished(Path(workdir)) for workdir in workdirs]
    require_same_data(runs)
    cells = {
        cell: Cell(cell, numbers.entry(f"huang2015.table1.dropout.{cell}")["value"], tolerance)
        for cell, tolerance in TOLERANCES.items()
    }
    what = (
        f"Accuracy in % of nets with dropout, clean and under perturbations of l2 norm {EPS}, by "
        f"the layers that it follows and its rate; {trained_on(runs)}."
    )
    title = f"Huang 2015, Table 1, dropout, accuracy in %; {trained_on(runs)}"
    found = [Reading(_described(run), _accuracies(run.result)) for run in runs]
    drawing = compared(found, cells, what=what, title=title)
    about = {
        "settings": {"eps": EPS, "chosen": ["layers", "rates"]},
        "runs": [
            {
                "model": run.config["model"],
                "data": run.result["data"],
                "replicas": run.result["replicas"],
            }
            for run in runs
        ],
    }
    return drawing._replace(document=drawing.document | about)


def _described(run: Finished) -> str:
    """Returns "first layer .5, second layer .2" from the rates of a run."""
    rates = run.config["model"]["dropout"]
    if len(rates) != 3 or rates[0] or not any(rates):
        legal = "(0, first, second) with a rate above 0"
        raise UserError(f"model.dropout must be {legal}, got {rates} in {run.path}")
    named = zip(("first", "second"), rates[1:], strict=True)
    return ", ".join(f"{name} layer {rate:g}" for name, rate in named if rate)


def _accuracies(result: Mapping[str, Any]) -> dict[str, BySeed]:
    """Returns cell of the table -> seed -> accuracy."""
    seeds = [replica["seed"] for replica in result["replicas"]]
    errors = {CLEAN: [replica["test_error"] for replica in result["replicas"]]}
    for cell, attack in COLUMNS.items():
        curve = result["evaluation"].get(attack)
        if curve is None or EPS not in curve["eps"]:
            raise UserError(f"evaluation.attacks must include {attack} of {EPS}, got none")
        errors[cell] = [of_seed[curve["eps"].index(EPS)] for of_seed in curve["error"]]
    return {
        cell: {seed: rounded(1 - error) for seed, error in zip(seeds, of_cell, strict=True)}
        for cell, of_cell in errors.items()
    }
