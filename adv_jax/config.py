"""Configs as documents: names become functions, paths become values, mistakes become sentences.

A config is a nested dict of strings, numbers, booleans and tuples. `{name, **kwargs}` stands for
the function of that name with those keywords bound.
"""

import copy
import difflib
import inspect
import itertools
import math
import runpy
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from adv_jax.types import UserError

# What the program passes at run time; a config never sets it.
_RUNTIME = {"apply", "variables", "batch", "logits_fn", "x", "y", "key", "parent", "name"}

# Allowed values of a number by the last part of its path: (lowest, highest, integers only).
_RANGES: dict[str, tuple[float, float, bool]] = {
    "seed": (0, 2**31 - 1, True),
    "seeds": (1, 2**31 - 1, True),
    "epochs": (1, math.inf, True),
    "batch_size": (1, math.inf, True),
    "num_valid": (0, math.inf, True),
    "num_labels": (0, math.inf, True),
    "patience": (0, math.inf, True),
    "monitor_every": (1, math.inf, True),
    "checkpoint_every": (1, math.inf, True),
    "checkpoints_kept": (1, math.inf, True),
    "features": (1, math.inf, True),
    "bottom": (0, math.inf, True),
    "weights": (0, math.inf, False),
    "noise_std": (0, math.inf, False),
    "eps": (0, math.inf, False),
    "tau": (0, math.inf, False),
    "std": (0, math.inf, False),
    "alpha": (0, 1, False),
    "learning_rate": (0, math.inf, False),
    "momentum": (0, 1, False),
}


class ConfigError(UserError):
    """A config that cannot be run."""


class Replica(NamedTuple):
    """One run among the vmapped ones: its seed and its real-valued settings {path: value}."""

    seed: int
    overrides: dict[str, float]


def bind(
    spec: Mapping[str, Any],
    registry: Any,
    *,
    field: str,
    free: Iterable[str] = (),
    **parts: Any,
) -> partial:
    """The function that `spec` names, with the spec's other entries bound as keywords.

    Args:
      spec: {"name": ..., **kwargs}.
      registry: a module, or the like of one, whose `__all__` has the legal names.
      field: the spec's path in the config, for messages.
      free: required keywords that the caller will pass later.
      parts: what replaces the entries of the same names: functions bound from nested specs.

    Raises:
      ConfigError: no name, an unknown name or keyword (the nearest legal one is suggested), or a
        required keyword missing.
    """
    if "name" not in spec:
        raise ConfigError(f"{field}.name is missing; allowed are {_listed(registry.__all__)}")
    name = spec["name"]
    if name not in registry.__all__:
        raise ConfigError(_unknown(f"{field}.name is", name, registry.__all__))
    function = getattr(registry, name)
    keywords = {key: value for key, value in spec.items() if key != "name"} | parts
    parameters = inspect.signature(function).parameters
    legal = [key for key in parameters if key not in _RUNTIME]
    for key in keywords:
        if key not in legal:
            raise ConfigError(_unknown(f"{field}.{name} has no setting", key, legal))
    for key in legal:
        required = parameters[key].default is inspect.Parameter.empty
        if required and key not in keywords and key not in free:
            raise ConfigError(f"{field}.{key} is missing; {name} needs it")
    return partial(function, **keywords)


def replicas(config: Mapping[str, Any]) -> list[Replica]:
    """The runs that a config asks for: every point of `replicas.grid` with every seed.

    Seeds count up from `config["seed"]`; the points of the grid vary slowest.

    Raises:
      ConfigError: a path of the grid that is no number of the config, or that has no values.
    """
    grid = config["replicas"]["grid"] or {}
    numbers = {path for path, value in leaves(config) if _is_number(value)}
    for path, values in grid.items():
        if path not in numbers:
            raise ConfigError(
                _unknown("replicas.grid has a path that is no number,", path, numbers)
            )
        if not isinstance(values, tuple | list) or not values:
            raise ConfigError(
                f"replicas.grid[{path!r}] is {values!r}; allowed is a tuple of numbers"
            )
    points = [dict(zip(grid, point, strict=True)) for point in itertools.product(*grid.values())]
    seeds = range(config["seed"], config["seed"] + config["replicas"]["seeds"])
    return [Replica(seed, point) for point in points for seed in seeds]


def with_values(config: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the config with the value at each dotted path replaced; values may be traced."""
    config = copy.deepcopy(dict(config))
    for path, value in values.items():
        *parents, last = path.split(".")
        node = config
        for parent in parents:
            node = node[parent]
        node[last] = value
    return config


def validate(config: Mapping[str, Any]) -> None:
    """Refuses numbers out of range, wherever they stand, the grid's included.

    Raises:
      ConfigError: names the field, the value and what is allowed.
    """
    grid = config["replicas"]["grid"] or {}
    for path, value in itertools.chain(leaves(config), grid.items()):
        rule = _RANGES.get(path.rpartition(".")[2])
        if rule is None or isinstance(value, str | None):
            continue
        low, high, whole = rule
        for number in value if isinstance(value, tuple | list) else (value,):
            if not _is_number(number) or not low <= number <= high or (whole and number % 1):
                kind = "whole numbers" if whole else "numbers"
                limit = f"from {low:g} to {high:g}" if high < math.inf else f"of at least {low:g}"
                raise ConfigError(f"{path} is {number!r}; allowed are {kind} {limit}")


def leaves(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted path, value) of everything in a config but the grid, whose keys are paths."""
    for key, value in config.items():
        path = f"{prefix}{key}"
        if path == "replicas.grid":
            continue
        if isinstance(value, Mapping):
            yield from leaves(value, f"{path}.")
        else:
            yield path, value


def explain_flags(argv: list[str], error: Exception) -> str:
    """One line on why a command line with --config=FILE[:mode] could not be read.

    Args:
      argv: the command line.
      error: what reading it raised.
    """
    named = [arg.partition("=")[2] for arg in argv if arg.startswith("--config=")]
    path, _, mode = named[-1].partition(":") if named else ("", "", "")
    if not named:
        return str(error)
    if not Path(path).is_file():
        legal = [str(p) for p in sorted(Path("configs").glob("*.py"))]
        return _unknown("--config is", path, legal)
    if isinstance(error, AttributeError | KeyError):
        make = runpy.run_path(path)["get_config"]
        fields = [name for name, _ in leaves((make(mode) if mode else make()).to_dict())]
        for arg in argv:
            field = arg.removeprefix("--config.").partition("=")[0]
            if arg.startswith("--config.") and field not in [*fields, "replicas.grid"]:
                return _unknown("--config has no field", field, fields)
    return str(error).partition("\n")[0]


def suggestion(found: str, legal: Iterable[str]) -> str:
    """A question, "; did you mean 'x'?", if something legal is near what was found, else ""."""
    near = difflib.get_close_matches(str(found), list(legal), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _unknown(what: str, found: object, legal: Iterable[str]) -> str:
    legal = sorted(legal)
    return f"{what} {found!r}; allowed are {_listed(legal)}{suggestion(str(found), legal)}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
