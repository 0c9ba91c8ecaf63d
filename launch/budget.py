"""How much of a table is trained: all of it, a part, or a few minutes' worth."""

import runpy
from collections.abc import Mapping
from typing import Any, NamedTuple

from adv_jax import catalogue
from adv_jax.config import with_values
from launch.targets import Run


class Budget(NamedTuple):
    """A share of what the paper trained.

    quick: the config's own quick mode: few epochs on embedded data, where it has such.
    epochs: share of the config's; its learning rate's schedule is shortened alike.
    seeds: at most; None for all.
    points: of each axis of a grid, the first at most; None for all.
    """

    name: str
    quick: bool = False
    epochs: float = 1.0
    seeds: int | None = None
    points: int | None = None


BUDGETS = {
    budget.name: budget
    for budget in (
        Budget("quick", quick=True, seeds=2, points=2),
        Budget("short", epochs=0.2, seeds=3),
        Budget("paper"),
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
    if budget.epochs != 1:
        changed |= _shortened(with_values(config, changed), budget.epochs)
    return changed


def config_of(run: Run, budget: Budget, data: Mapping[str, str]) -> dict[str, Any]:
    """The config that is trained."""
    return with_values(_made(run, budget), changes(run, budget, data))


def _made(run: Run, budget: Budget) -> dict[str, Any]:
    make = runpy.run_path(str(catalogue.path(run.config)))["get_config"]
    mode = options(run, budget)
    return (make(mode) if mode else make()).to_dict()


def _shortened(config: Mapping[str, Any], share: float) -> dict[str, Any]:
    """Fewer epochs, and a learning rate that falls as much earlier, if it does so by epochs."""
    epochs = max(1, round(share * config["epochs"]))
    changed: dict[str, Any] = {"epochs": epochs}
    if config["patience"]:
        changed["patience"] = max(1, round(share * config["patience"]))
    rate = config["optimizer"]["learning_rate"]
    share = epochs / config["epochs"]
    if isinstance(rate, Mapping) and rate["name"] == "linear_schedule":
        for name in ("transition_begin", "transition_steps"):
            changed[f"optimizer.learning_rate.{name}"] = round(rate[name] * share, 6)
    if isinstance(rate, Mapping) and rate["name"] == "piecewise_constant":
        changed["optimizer.learning_rate.boundaries"] = tuple(
            max(1, round(end * share)) for end in rate["boundaries"]
        )
    return changed
