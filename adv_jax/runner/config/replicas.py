"""Lists the replicas of a config: the runs that one program trains."""

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from adv_jax.annotations import is_number
from adv_jax.runner.config.document import ConfigError, leaves
from adv_jax.runner.config.parts import ranges_of_parts
from adv_jax.types import not_one_of

_PARTS = ("objective.", "optimizer.")  # whose numbers do not change the compiled program


class Replica(NamedTuple):
    """One run among the vmapped ones: its seed and its real-valued settings {path: value}."""

    seed: int
    overrides: dict[str, float]


def replicas(config: Mapping[str, Any]) -> list[Replica]:
    """Returns the runs of a config: every point of `replicas.grid` with every seed.

    Seeds count up from `config["seed"]`; the points of the grid vary slowest.

    Raises:
      ConfigError: as `grid_of`; the values of a path are not different numbers.
    """
    grid = grid_of(config)
    for path, values in grid.items():
        numbers = isinstance(values, tuple | list) and all(map(is_number, values))
        if not numbers or not values or len({*map(_traced, values)}) < len(values):
            allowed = "a tuple of numbers that differ in float32"
            raise ConfigError(f"replicas.grid[{path!r}] must be {allowed}, got {values!r}")
    points = [dict(zip(grid, point, strict=True)) for point in itertools.product(*grid.values())]
    seeds = range(config["seed"], config["seed"] + config["replicas"]["seeds"])
    return [Replica(seed, point) for point in points for seed in seeds]


def _traced(value: float) -> Any:
    """Returns the number that a program of float32 gets."""
    with np.errstate(over="ignore"):
        return np.float32(value)


def grid_of(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the grid of a config, {path: values}.

    Raises:
      ConfigError: no such dict, or a path is not a real number of the objective or the optimizer:
        other fields change the compiled program.
    """
    grid = config["replicas"]["grid"] or {}
    if not isinstance(grid, Mapping) or not all(isinstance(path, str) for path in grid):
        example = "{'objective.attack.eps': (.1, .2)}"
        raise ConfigError(f"replicas.grid must be a dict such as {example}, got {grid!r}")
    if not grid:
        return grid
    ranges = ranges_of_parts(config)
    counts = {path for path, found in ranges.items() if found.whole}
    given = {path for path, value in leaves(config) if is_number(value) and path.startswith(_PARTS)}
    for path in grid:
        if path in counts and path.startswith((*_PARTS, "model.")):
            raise ConfigError(
                "a path of replicas.grid must be a real number, as counts change the program, got "
                f"{path!r}: python -m launch.sweep varies them"
            )
        if path in given:
            continue
        if path in ranges and path.startswith(_PARTS) and path not in dict(leaves(config)):
            raise ConfigError(
                "a path of replicas.grid must be a number that the config sets, got "
                f"{path!r}: --config.{path}=NUMBER sets it"
            )
        field = "a path of replicas.grid, a real number of objective or optimizer in the config,"
        raise ConfigError(not_one_of(field, path, sorted(given - counts)))
    return grid
