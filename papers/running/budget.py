"""Budgets: how much of the paper's training to run."""

import functools
import math
import runpy
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from adv_jax.runner.config import catalog
from adv_jax.runner.config.document import leaves, with_values
from adv_jax.runner.config.optimizer import IN_EPOCHS
from adv_jax.types import UserError
from papers.running.target import Run


class Budget(NamedTuple):
    """A share of the paper's training.

    name: key of `BUDGETS`.
    quick: whether to use the config's quick mode: few epochs, on embedded data if possible.
    epochs: share of the epochs; also scales patience and schedules.
    most_epochs: most epochs per training; None for no limit.
    seeds: most seeds; None for no limit.
    points: number of points to keep per axis of a grid; None for all.
    """

    name: str
    quick: bool = False
    epochs: float = 1.0
    most_epochs: int | None = None
    seeds: int | None = None
    points: int | None = None

    def limited(self, *, seeds: int | None, epochs: int | None) -> "Budget":
        """Limits the seeds and epochs; None for no change.

        Raises:
          UserError: the epochs of the budget `paper` are limited.
        """
        if epochs is not None and self.name == PAPER:
            raise UserError(
                f"epochs must be unset with the budget {PAPER} (use {QUICK} or {SHORT}), "
                f"got {epochs}"
            )
        if seeds is not None and self.seeds is not None:
            seeds = min(seeds, self.seeds)
        return self._replace(seeds=seeds or self.seeds, most_epochs=epochs)


QUICK, SHORT, PAPER = "quick", "short", "paper"
# In ascending order: a target's result with the later budget takes precedence.
BUDGETS = {
    budget.name: budget
    for budget in (
        Budget(QUICK, quick=True, seeds=2, points=2),
        Budget(SHORT, epochs=0.2, seeds=3),
        Budget(PAPER),
    )
}


def options(run: Run, budget: Budget) -> str:
    """Returns the part of --config after the colon."""
    return ",".join(part for part in ("quick" if budget.quick else "", run.options) if part)


def changes(run: Run, budget: Budget, data: Mapping[str, str]) -> dict[str, Any]:
    """Returns the changes {path: value} to the config with its options.

    Args:
      run: the training.
      budget: the budget.
      data: the user's changes to fields of the data.
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
    """Returns the config to train.

    Raises:
      UserError: the config does not accept the run's options.
    """
    return with_values(_made(run, budget), changes(run, budget, data))


def paper_epochs(run: Run) -> int:
    """Returns the largest number of epochs of a training with the budget `paper`."""
    return config_of(run, BUDGETS[PAPER], {})["epochs"]


def paper_seeds(run: Run) -> int:
    """Returns the number of seeds of a training with the budget `paper`."""
    return config_of(run, BUDGETS[PAPER], {})["replicas"]["seeds"]


def _made(run: Run, budget: Budget) -> dict[str, Any]:
    make = _maker(str(catalog.path(run.config)))
    mode = options(run, budget)
    try:
        return (make(mode) if mode else make()).to_dict()
    except ValueError as error:  # The workdir of a source may have a comma.
        raise UserError(f"configs/{run.config}.py: {error}") from error


@functools.cache
def _maker(path: str) -> Callable[..., Any]:
    """Returns a config's `get_config`; pages and plans make hundreds of configs of a few files."""
    return runpy.run_path(path)["get_config"]


def _shortened(config: Mapping[str, Any], share: float) -> dict[str, Any]:
    """Scales the epochs, and all fields that count epochs, by `share`."""
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
    """Scales a number of epochs; integers stay integers, and positive ones at least 1."""
    if isinstance(count, tuple):
        return tuple(_part(one, share) for one in count)
    if isinstance(count, float):
        return round(share * count, 6)
    return max(1, round(share * count)) if count else 0
