"""What a sweep varies: fields of a config, their values or ranges, and the config of a point.

A point is {field: value}; a value is written as text where it is no number, so that every
searcher can hold it.
"""

import ast
import itertools
import reprlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from adv_jax.runner.config import ConfigError, leaves, replicas, suggestion, validate, with_values

Point = Mapping[str, Any]

# Kind of range -> whether it holds whole numbers only. The high end of those is not reached.
RANGES = {"uniform": False, "loguniform": False, "randint": True, "lograndint": True}
_GRID = "{'batch_size': (50, 100), 'optimizer.learning_rate': (.1, .2)}"
_SEARCH = "{'optimizer.learning_rate': ('loguniform', 1e-4, 1e-1)}"


def parse_grid(text: str, config: Mapping[str, Any]) -> dict[str, tuple]:
    """{field: values} of --grid.

    Raises:
      ConfigError: no such dict, a field that the config has not, or values that it cannot have.
    """
    grid = _fields(text, "--grid", config, example=_GRID)
    for field, values in grid.items():
        where = f"--grid[{field!r}]"
        if not isinstance(values, tuple | list) or not values:
            raise ConfigError(f"{where} is {values!r}; allowed is a tuple of one or more values")
        _check_values(where, field, values, config)
        repeated = [value for i, value in enumerate(values) if value in values[:i]]
        if repeated:
            raise ConfigError(f"{where} has {repeated[0]!r} twice; allowed is each value once")
    return {field: tuple(values) for field, values in grid.items()}


def parse_search(text: str, config: Mapping[str, Any]) -> dict[str, tuple]:
    """{field: (kind, low, high) or ("choice", *values)} of --search.

    Raises:
      ConfigError: as `parse_grid`, and for an unknown kind or an empty range.
    """
    search = _fields(text, "--search", config, example=_SEARCH)
    for field, domain in search.items():
        where = f"--search[{field!r}]"
        kinds = [*RANGES, "choice"]
        if not isinstance(domain, tuple | list) or not domain or domain[0] not in kinds:
            legal = "('choice', *values) or (kind, low, high) with kind one of " + ", ".join(RANGES)
            raise ConfigError(f"{where} is {domain!r}; allowed are {legal}")
        kind, *values = domain
        if kind == "choice":
            if not values:
                raise ConfigError(f"{where} is {domain!r}; allowed are one or more values")
        else:
            _check_range(where, kind, values)
        _check_values(where, field, values, config)
        if not RANGES.get(kind, True) and isinstance(dict(leaves(config))[field], int):
            kinds = " and ".join(name for name, whole in RANGES.items() if whole)
            raise ConfigError(
                f"{where} is {domain!r}; allowed are {kinds}, for {field} is a whole number"
            )
    return {field: tuple(domain) for field, domain in search.items()}


def ends(domain: tuple) -> tuple:
    """Values of a range, for a trial run: its ends, or the choices."""
    return domain[1:]


def most_epochs(config: Mapping[str, Any], search: Mapping[str, tuple]) -> int:
    """That a trial of a search may have."""
    return max(ends(search.get("epochs", ("choice", config["epochs"]))))


def traceable(
    config: Mapping[str, Any],
    tried: Mapping[str, tuple],
    check: Callable[[dict[str, Any]], Any],
) -> frozenset[str]:
    """The fields that a program can have as traced numbers: one program serves all values.

    Args:
      config: the base.
      tried: field -> values of it.
      check: raises ConfigError for a config that cannot be traced.
    """
    own = dict(leaves(config))
    return frozenset(
        field
        for field, values in tried.items()
        if field.startswith(("objective.", "optimizer."))
        and isinstance(own[field], float)
        and all(map(_is_number, values))
        and _passes(check, _in_grid(config, field, values))
    )


def product(grid: Mapping[str, tuple]) -> list[dict[str, Any]]:
    """The points of a grid, encoded; the first field varies slowest."""
    combinations = itertools.product(*(map(encode, values) for values in grid.values()))
    return [dict(zip(grid, point, strict=True)) for point in combinations]


def at(config: Mapping[str, Any], point: Point, *, traced: Iterable[str]) -> dict[str, Any]:
    """The config of a trial: a point's values, those of the traced fields as `replicas.grid`."""
    values = {field: decode(value) for field, value in point.items()}
    changed = with_values(config, {f: v for f, v in values.items() if f not in traced})
    for field in traced:
        if field in values:
            changed = _in_grid(changed, field, (values[field],))
    return changed


def point_of(config: Mapping[str, Any], fields: Iterable[str], *, traced: Iterable[str]) -> Point:
    """The inverse of `at`."""
    own = dict(leaves(config))
    grid = config["replicas"]["grid"] or {}
    return {f: encode(grid[f][0] if f in traced else own[f]) for f in fields}


def with_grid(config: Mapping[str, Any], grid: Mapping[str, tuple]) -> dict[str, Any]:
    """The config whose replicas go over a grid too.

    Raises:
      ConfigError: a field that `replicas.grid` has already.
    """
    changed = dict(config)
    for field, values in grid.items():
        changed = _in_grid(changed, field, values)
    return changed


def encode(value: Any) -> Any:
    """A value as searchers take it: a number as it is, all else as text."""
    return value if _is_number(value) else repr(value)


def decode(value: Any) -> Any:
    """The inverse of `encode`."""
    return ast.literal_eval(value) if isinstance(value, str) else value


def _fields(text: str, flag: str, config: Mapping[str, Any], *, example: str) -> dict[str, Any]:
    try:
        fields = ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        fields = None
    if not isinstance(fields, dict) or not fields:
        raise ConfigError(f"{flag} is {reprlib.repr(text)}; allowed is a dict such as {example}")
    legal = dict(leaves(config))
    swept = config["replicas"]["grid"] or {}
    for field in fields:
        if field not in legal:
            near = suggestion(field, legal) or f"; allowed are {', '.join(sorted(legal))}"
            raise ConfigError(f"{flag} has no field {field!r}{near}")
        if field in swept:
            raise ConfigError(f"{flag} has {field!r}, which replicas.grid has; allowed is one")
    return fields


def _check_range(where: str, kind: str, ends: list[Any]) -> None:
    whole, log = RANGES[kind], kind.startswith("log")
    number = "whole numbers" if whole else "numbers"
    least = " above 0" if log else ""
    legal = f"{kind}, two {number}{least}, the first smaller than the second"
    good = len(ends) == 2 and all(_is_number(end) for end in ends)
    good = good and (not whole or all(isinstance(end, int) for end in ends))
    if not good or not (0 if log else -float("inf")) < ends[0] < ends[1] < float("inf"):
        # A lower end that may be 0 is told from one that may not by its kind.
        raise ConfigError(f"{where} is {(kind, *ends)!r}; allowed are {legal}")


def _check_values(where: str, field: str, values: Iterable[Any], config: Mapping[str, Any]) -> None:
    """Refuses values of another type than the config's own, and numbers out of range."""
    own = dict(leaves(config))[field]
    kind = type(own)
    for value in values:
        widened = kind is float and _is_number(value)
        if own is not None and type(value) is not kind and not widened:
            raise ConfigError(f"{where} has {value!r}; allowed are {kind.__name__}, as {own!r}")
        try:
            changed = with_values(config, {field: value})
            validate(changed)
            replicas(changed)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None


def _in_grid(config: Mapping[str, Any], field: str, values: tuple) -> dict[str, Any]:
    grid = {**(config["replicas"]["grid"] or {}), field: values}
    return {**config, "replicas": {**config["replicas"], "grid": grid}}


def _passes(check: Callable[[dict[str, Any]], Any], config: dict[str, Any]) -> bool:
    try:
        check(config)
    except ConfigError:
        return False
    return True


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
