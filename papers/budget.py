"""How much of a table is trained: all of it, a part, or a few minutes' worth."""

import math
import runpy
from collections.abc import Mapping
from typing import Any, NamedTuple

from adv_jax.runner import catalogue
from adv_jax.runner.config import leaves, with_values
from adv_jax.runner.optimizer import IN_EPOCHS
from adv_jax.types import UserError
from papers.target import Run


class Budget(NamedTuple):
    """A share of what the paper trained.

    quick: the config's own quick mode: few epochs on embedded data, where it has such.
    epochs: share of the config's; what counts epochs is shortened alike: patience and schedules.
    most_epochs: of each training, at most; None for any number.
    seeds: at most; None for all.
    points: of each axis of a grid, the first at most; None for all.
    """

    name: str
    quick: bool = False
    epochs: float = 1.0
    most_epochs: int | None = None
    seeds: int | None = None
    points: int | None = None

    def limited(self, *, seeds: int | None, epochs: int | None) -> "Budget":
        """The same with no more seeds and epochs than that; None: as it is.

        Raises:
          UserError: fewer epochs than the paper's under the name of its budget.
        """
        if epochs is not None and self.name == PAPER:
            raise UserError(
                f"epochs is {epochs} with the budget {PAPER}, which has the paper's; allowed are "
                f"the budgets {QUICK} and {SHORT}"
            )
        if seeds is not None and self.seeds is not None:
            seeds = min(seeds, self.seeds)
        return self._replace(seeds=seeds or self.seeds, most_epochs=epochs)


QUICK, SHORT, PAPER = "quick", "short", "paper"
# In order: of two results of a target, the one with the later budget decides.
BUDGETS = {
    budget.name: budget
    for budget in (
        Budget(QUICK, quick=True, seeds=2, points=2),
        Budget(SHORT, epochs=0.2, seeds=3),
        Budget(PAPER),
    )
}


def options(run: Run, budget: Budget) -> str:
    """What stands after the colon of --config."""
    return ",".join(part for part in ("quick" if budget.quick else "", run.options) if part)


def changes(run: Run, budget: Budget, data: Mapping[str, str]) -> dict[str, Any]:
    """Fields {path: value} that differ from the config with its options.

    Args:
      data: of those, what the user says of the data.
    """
    config = _made(run, budget)
    changed = {**run.values, **data}
    if budget.seeds is not None:
        seeds = changed.get("replicas.seeds", config["replicas"]["seeds"])
        changed["replicas.seeds"] = min(seeds, budget.seeds)
    if budget.points is not None and config["replicas"]["grid"]:
        grid = config["replicas"]["grid"].items()
        changed["replicas.grid"] = {path: tuple(v[: budget.points]) for path, v in grid}
    made = with_values(config, changed)
    share = min(budget.epochs, (budget.most_epochs or math.inf) / made["epochs"])
    if share != 1:
        changed |= _shortened(made, share)
    return changed


def config_of(run: Run, budget: Budget, data: Mapping[str, str]) -> dict[str, Any]:
    """The config that is trained.

    Raises:
      UserError: the run's options are not the config's.
    """
    return with_values(_made(run, budget), changes(run, budget, data))


def paper_epochs(run: Run) -> int:
    """How many epochs a training has with the paper's budget, at most."""
    return config_of(run, BUDGETS[PAPER], {})["epochs"]


def _made(run: Run, budget: Budget) -> dict[str, Any]:
    catalogue.import_shared()
    make = runpy.run_path(str(catalogue.path(run.config)))["get_config"]
    mode = options(run, budget)
    try:
        return (make(mode) if mode else make()).to_dict()
    except ValueError as error:  # The workdir of a source may have a comma.
        raise UserError(f"configs/{run.config}.py: {error}") from error


def _shortened(config: Mapping[str, Any], share: float) -> dict[str, Any]:
    """Fewer epochs, and as much less of all that counts epochs."""
    epochs = _part(config["epochs"], share)
    share = epochs / config["epochs"]
    counts = {
        path: value
        for path, value in leaves(config)
        if path == "patience"
        or (path.startswith("optimizer.") and path.rpartition(".")[2] in IN_EPOCHS)
    }
    shortened = {path: _part(count, share) for path, count in counts.items()}
    return {"epochs": epochs} | {p: new for p, new in shortened.items() if new != counts[p]}


def _part(count: Any, share: float) -> Any:
    """Of a number of epochs; whole ones stay whole, and what is not 0 does not become 0."""
    if isinstance(count, tuple):
        return tuple(_part(one, share) for one in count)
    if isinstance(count, float):
        return round(share * count, 6)
    return max(1, round(share * count)) if count else 0
