"""Configs as documents: names become functions, paths become values, mistakes become sentences.

A config is a nested dict of strings, numbers, booleans and tuples. `{name, **kwargs}` stands for
the function of that name with those keywords bound.
"""

import copy
import difflib
import inspect
import itertools
import math
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

from adv_jax.runner import schema
from adv_jax.types import UserError

# What the program passes at run time; a config never sets it.
_RUNTIME = {"apply", "variables", "batch", "logits_fn", "x", "y", "key", "parent", "name"}


class _Range(NamedTuple):
    """Allowed values of a number; a bound that is infinite is none, and `above` excludes low."""

    low: float
    high: float = math.inf
    whole: bool = False
    above: bool = False

    def allows(self, value: object) -> bool:
        kind = int if self.whole else int | float
        number = isinstance(value, kind) and not isinstance(value, bool)
        finite = number and abs(value) <= sys.float_info.max  # Of 10**400 isfinite overflows.
        inside = finite and self.low <= value <= self.high
        return inside and not (self.above and value == self.low)

    def __str__(self) -> str:
        kind = "whole numbers" if self.whole else "numbers"
        if self.high < math.inf:
            return f"{kind} from {self.low:.10g} to {self.high:.10g}"
        if self.above:
            return f"{kind} above {self.low:g}"
        return f"{kind} of at least {self.low:g}"


_COUNT, _COUNT_OR_NONE, _SIZE = _Range(1, whole=True), _Range(0, whole=True), _Range(0)

# By the last part of a field's path.
_RANGES = {
    # Seeds count up from the first, and the last must fit an int32 too.
    "seed": _Range(0, 2**30, whole=True),
    "seeds": _Range(1, 10_000, whole=True),
    "shards": _COUNT,
    "epochs": _COUNT,
    "batch_size": _COUNT,
    "num_valid": _COUNT_OR_NONE,
    "num_labels": _COUNT_OR_NONE,
    "patience": _COUNT_OR_NONE,
    "monitor_every": _COUNT,
    "checkpoint_every": _COUNT,
    "checkpoints_kept": _COUNT,
    "features": _COUNT,
    "connections": _COUNT,
    "num_classes": _COUNT,
    "weights": _SIZE,
    "noise_std": _SIZE,
    "eps": _SIZE,
    "tau": _SIZE,
    "std": _SIZE,
    "alpha": _Range(0, 1),
    "smoothing": _Range(0, 1),
    "weight": _SIZE,
    "temperature": _Range(0, above=True),
    "maps": _COUNT,
    "kernel_sizes": _COUNT,
    "pieces": _COUNT,
    "units": _COUNT,
    "unit_pieces": _COUNT,
    "pools": _Range(2, whole=True),  # in steps of 2
    "pads": _COUNT_OR_NONE,
    "learning_rate": _SIZE,
    "momentum": _Range(0, 1),
    "weight_decay": _SIZE,
    "max_norm": _SIZE,
    "convolution_scale": _SIZE,
    "dropout": _Range(0, 1),
    "crop": _COUNT_OR_NONE,
    "train_error": _Range(0, 1),
    "rate_scale": _Range(0, 1),
}
# What every run reads, and what of it some configs leave out.
_FIELDS: dict[str, Any] = {
    "experiment": str,
    "seed": int,
    "replicas": Mapping,
    "replicas.seeds": int,
    "replicas.grid": Mapping | None,
    "replicas.shards": int,
    "data": Mapping,
    "data.name": str,
    "data.source": str,
    "data.dir": str,
    "data.num_valid": int,
    "data.num_labels": int,
    "model": Mapping,
    "objective": Mapping,
    "optimizer": Mapping,
    "epochs": int,
    "batch_size": int,
    "patience": int,
    "monitor_every": int,
    "checkpoint_every": int,
    "checkpoints_kept": int,
    "tensorboard": bool,
    "evaluation": Mapping,
    "evaluation.attacks": Mapping,
    "evaluation.eps": tuple | list,
}
_OPTIONAL: dict[str, Any] = {
    "data.crop": int,
    "data.mirror": bool,
    "data.stratified": bool,
    "monitor_train": bool,
    "stop": Mapping | None,
}
WORDS: dict[Any, str] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    tuple: "a tuple",
    tuple | list: "a tuple",
}
_STOPS = ("train_error", "rate_scale")


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
        raise ConfigError(unknown(f"{field}.name is", name, registry.__all__))
    function = getattr(registry, name)
    keywords = {key: value for key, value in spec.items() if key != "name"} | parts
    parameters = inspect.signature(function).parameters
    legal = [key for key in parameters if key not in _RUNTIME]
    for key in keywords:
        if key not in legal:
            raise ConfigError(unknown(f"{field}.{name} has no setting", key, legal))
    for key in legal:
        required = parameters[key].default is inspect.Parameter.empty
        if required and key not in keywords and key not in free:
            raise ConfigError(f"{field}.{key} is missing; {name} needs it")
    for key, value in keywords.items():
        annotation = parameters[key].annotation
        if key not in parts and schema.is_document(value) and not schema.fits(value, annotation):
            legal = schema.described(annotation)
            raise ConfigError(f"{field}.{key} is {value!r}; allowed are {legal}")
    return partial(function, **keywords)


def replicas(config: Mapping[str, Any]) -> list[Replica]:
    """The runs that a config asks for: every point of `replicas.grid` with every seed.

    Seeds count up from `config["seed"]`; the points of the grid vary slowest.

    Raises:
      ConfigError: a path of the grid that is no number of the objective or the optimizer (what
        else differs needs a program of its own), or whose values are no numbers.
    """
    grid = _grid(config)
    legal = {
        path
        for path, value in leaves(config)
        if _is_number(value) and path.startswith(("objective.", "optimizer."))
    }
    for path, values in grid.items():
        if path not in legal:
            raise ConfigError(unknown("replicas.grid has the path", path, legal))
        numbers = isinstance(values, tuple | list) and all(map(_is_number, values))
        if not numbers or not values:
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


def check(config: Mapping[str, Any]) -> None:
    """Refuses a config that no run can have: `check_fields`, then `validate`.

    Raises:
      ConfigError: names the field, the value and what is allowed.
    """
    check_fields(config)
    validate(config)


def check_fields(config: Mapping[str, Any]) -> None:
    """Refuses a config without a field that every run reads, or with one of another kind.

    Raises:
      ConfigError: names the field, the value and what is allowed.
    """
    if not isinstance(config, Mapping):
        raise ConfigError(f"config is {config!r}; allowed is a dict")
    if not schema.is_document(config):
        raise ConfigError(_odd(config))
    for path, kind in (_FIELDS | _OPTIONAL).items():
        *parents, last = path.split(".")
        node: Any = config
        for parent in parents:
            node = node[parent]
        if last in node:
            _check_kind(path, node[last], kind)
        elif path in _FIELDS:
            raise ConfigError(f"{path} is missing; allowed is {WORDS.get(kind, 'a dict')}")
    if not re.fullmatch(r"[\w-]+", config["experiment"]):  # It is part of a path.
        found = f"experiment is {config['experiment']!r}"
        raise ConfigError(f"{found}; allowed are letters, digits, _ and -")
    for name, spec in config["evaluation"]["attacks"].items():
        _check_kind(f"evaluation.attacks.{name}", spec, Mapping)


def _odd(config: Mapping[str, Any]) -> str:
    """What is wrong with a config that is no document."""
    legal = "texts, numbers of 32 bits, True, False, None, tuples and dicts of them by name"
    for path, value in leaves(config):
        if not schema.is_document(value):
            rule = _RANGES.get(path.rpartition(".")[2])
            return f"{path} is {value!r}; allowed are {f'{rule}, of 32 bits' if rule else legal}"
    return f"a key is no printable text; allowed are {legal}"


def _check_kind(path: str, value: Any, kind: Any) -> None:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ConfigError(f"{path} is {value!r}; allowed is {WORDS.get(kind, 'a dict')}")


def validate(config: Mapping[str, Any]) -> None:
    """Refuses numbers out of range, wherever they stand, the grid's included.

    Raises:
      ConfigError: names the field, the value and what is allowed.
    """
    for path, value in itertools.chain(leaves(config), _grid(config).items()):
        rule = _RANGES.get(path.rpartition(".")[2])
        if rule is None or value is None:
            continue
        for number in value if isinstance(value, tuple | list) else (value,):
            if not rule.allows(number):
                raise ConfigError(f"{path} is {number!r}; allowed are {rule}")
    _check_stop(config.get("stop"), config["optimizer"])
    if config["patience"] and not config["data"]["num_valid"]:
        raise ConfigError(f"patience is {config['patience']}; without data.num_valid, allowed is 0")


def _check_stop(stop: Mapping[str, Any] | None, optimizer: Mapping[str, Any]) -> None:
    """`stop`, where there is one, has a train_error, and a rate_scale of a plateau if it wants.

    Raises:
      ConfigError: else.
    """
    if stop and ("train_error" not in stop or set(stop) - set(_STOPS)):
        example = "{'train_error': .0001, 'rate_scale': .004} or without rate_scale"
        raise ConfigError(f"stop is {dict(stop)!r}; allowed is {example}")
    if stop and "rate_scale" in stop and optimizer.get("plateau") is None:
        found = f"stop.rate_scale is {stop['rate_scale']!r}"
        raise ConfigError(f"{found}; allowed is none without optimizer.plateau")


def _grid(config: Mapping[str, Any]) -> Mapping[str, Any]:
    grid = config["replicas"]["grid"] or {}
    if not isinstance(grid, Mapping) or not all(isinstance(path, str) for path in grid):
        example = "{'objective.attack.eps': (.1, .2)}"
        raise ConfigError(f"replicas.grid is {grid!r}; allowed is a dict such as {example}")
    return grid


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


def suggestion(found: str, legal: Iterable[str]) -> str:
    """A question, "; did you mean 'x'?", if something legal is near what was found, else ""."""
    near = difflib.get_close_matches(str(found), list(legal), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def unknown(field: str, found: object, legal: Iterable[str]) -> str:
    """The message for a name that is not legal, with the nearest legal name.

    >>> unknown("model.name", "mpl", ["mlp", "lenet"])
    "model.name must be one of lenet, mlp, got 'mpl'; did you mean 'mlp'?"
    """
    legal = sorted(legal)
    return f"{field} must be one of {_listed(legal)}, got {found!r}{suggestion(str(found), legal)}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value
