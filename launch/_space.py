"""The fields that a sweep varies: --grid, --search, and the config at each point.

A point is {field: value}. Ray and Optuna hold only numbers and text, so a point has any
other value as JSON.
"""

import itertools
import json
import math
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from adv_jax.annotations import is_number
from adv_jax.runner.config.document import ConfigError, leaves, with_values
from adv_jax.runner.config.fields import check
from adv_jax.runner.config.literals import literal
from adv_jax.runner.store.formats import with_tuples
from adv_jax.suggestions import suggestion
from adv_jax.types import UserError

_MOST_POINTS = 100  # with which a value is tried that the config alone refuses
_RANGES = ("uniform", "loguniform", "randint", "lograndint")
_GRID = "{'batch_size': (50, 100), 'optimizer.learning_rate': (.1, .2)}"
_SEARCH = "{'optimizer.learning_rate': ('loguniform', 1e-4, 1e-1)}"


def parse_grid(text: str, config: Mapping[str, Any]) -> dict[str, tuple]:
    """Returns {field: values} of --grid; raises ConfigError if the config cannot have them."""
    grid = _parsed("--grid", text, config, example=_GRID)
    for field, values in grid.items():
        _check_own(f"--grid[{field!r}]", field, values, config)
        _check_once(f"--grid[{field!r}]", values)
    check_values(config, grid, check)
    return grid


def parse_search(text: str, config: Mapping[str, Any]) -> dict[str, tuple]:
    """Returns {field: (kind, low, high) or ("choice", *values)} of --search; as `parse_grid`."""
    search = _parsed("--search", text, config, example=_SEARCH)
    for field, domain in search.items():
        where = f"--search[{field!r}]"
        kinds = _RANGES[2:] if type(_own(config, field)) is int else _RANGES
        if not _is_domain(domain, kinds):
            legal = f"('choice', *values) or (kind, low, high) with kind one of {', '.join(kinds)}"
            legal += " and low < high, whole for randint and above 0 for log"
            raise ConfigError(f"{where} must be {legal}, got {domain!r}")
        _check_own(where, field, domain[1:], config)
        if domain[0] == "choice":
            _check_once(where, domain[1:])
    check_values(config, {field: ends(*domain) for field, domain in search.items()}, check)
    return search


def ends(kind: str, *values: Any) -> tuple:
    """Returns the values of a choice, or the lowest and the highest value of a range.

    >>> ends("choice", 8, 9, 7), ends("randint", 1, 4), ends("uniform", 0.0, 0.5)
    ((8, 9, 7), (1, 3), (0.0, 0.5))
    """
    return (values[0], values[1] - 1) if kind in ("randint", "lograndint") else values


def most_epochs(config: Mapping[str, Any], search: Mapping[str, tuple]) -> int:
    """Returns the largest number of epochs that a trial of a search may have."""
    return max(ends(*search.get("epochs", ("choice", config["epochs"]))))


def check_values(
    config: Mapping[str, Any], tried: Mapping[str, tuple], check: Callable[[dict[str, Any]], Any]
) -> None:
    """Raises the UserError of `check` for a value that no trial can have.

    A value is tried in the config alone, and if it is refused there, together with the values of
    the other fields, of which it may need one. Of more than _MOST_POINTS the trials show it.
    """
    for field, values in tried.items():
        others = {name: others for name, others in tried.items() if name != field}
        for value in values:
            own = {field: value}
            try:
                check(with_values(config, own))
            except UserError:
                points = itertools.product(*others.values())
                for point in itertools.islice(points, _MOST_POINTS):
                    with suppress(UserError):
                        check(with_values(config, dict(zip(others, point, strict=True)) | own))
                        break
                else:
                    if next(points, None) is None:
                        raise


def traced_fields(
    config: Mapping[str, Any], tried: Mapping[str, tuple], check: Callable[[dict[str, Any]], Any]
) -> frozenset[str]:
    """Returns the real-valued fields of `tried` in whose grid `check` raises no ConfigError."""
    found = set()
    for field, values in tried.items():
        if isinstance(_own(config, field), float):
            with suppress(ConfigError):
                check(with_grid(config, {field: values}))
                found.add(field)
    return frozenset(found)


def product(grid: Mapping[str, tuple]) -> list[dict[str, Any]]:
    """Returns the points of a grid; the first field varies slowest."""
    combinations = itertools.product(*(map(encode, values) for values in grid.values()))
    return [dict(zip(grid, values, strict=True)) for values in combinations]


def at(
    config: Mapping[str, Any], point: Mapping[str, Any], *, traced: Iterable[str]
) -> dict[str, Any]:
    """Returns the config at a point, whose traced fields join `replicas.grid`."""
    values = {field: decode(value) for field, value in point.items()}
    changed = with_values(config, {f: v for f, v in values.items() if f not in traced})
    return with_grid(changed, {f: (v,) for f, v in values.items() if f in traced})


def point_of(
    config: Mapping[str, Any], fields: Iterable[str], *, traced: Iterable[str]
) -> dict[str, Any]:
    """Inverts `at`."""
    grid = config["replicas"]["grid"] or {}
    return {f: encode(grid[f][0] if f in traced else _own(config, f)) for f in fields}


def with_grid(config: Mapping[str, Any], grid: Mapping[str, tuple]) -> dict[str, Any]:
    """Returns the config with more fields in `replicas.grid`."""
    joined = {**(config["replicas"]["grid"] or {}), **grid} or None
    return {**config, "replicas": {**config["replicas"], "grid": joined}}


def encode(value: Any) -> Any:
    """Returns a number as it is, and the JSON of any other value."""
    return value if is_number(value) else json.dumps(value)


def decode(value: Any) -> Any:
    """Inverts `encode`."""
    return with_tuples(json.loads(value)) if isinstance(value, str) else value


def _parsed(flag: str, text: str, config: Mapping[str, Any], *, example: str) -> dict[str, tuple]:
    """Parses the dict of a flag, and checks that it has fields and tuples."""
    try:
        fields = literal(text)
    except ValueError:
        fields = None
    if not isinstance(fields, dict) or not fields:
        raise ConfigError(f"{flag} must be a dict such as {example}, got {reprlib.repr(text)}")
    legal = dict(leaves(config))
    for field, values in fields.items():
        if field not in legal:
            near = suggestion(str(field), legal) or f"; the fields are {', '.join(sorted(legal))}"
            raise ConfigError(f"{flag} must have fields of the config, got {field!r}{near}")
        if field in (config["replicas"]["grid"] or {}):
            raise ConfigError(f"{flag} must have no field of replicas.grid, got {field!r}")
        if not isinstance(values, tuple | list) or not values:
            where = f"{flag}[{field!r}]"
            raise ConfigError(f"{where} must be a tuple of one or more values, got {values!r}")
    return {field: tuple(values) for field, values in fields.items()}


def _is_domain(domain: Any, kinds: tuple[str, ...]) -> bool:
    match domain:
        case ["choice", _, *_]:
            return True
        case [kind, int() | float() as low, int() | float() as high] if kind in kinds:
            whole = isinstance(low, int) and isinstance(high, int)
            least = 0 if kind.startswith("log") else -math.inf
            return (whole or kind in _RANGES[:2]) and least < low < high < math.inf
    return False


def _check_own(where: str, field: str, values: Iterable[Any], config: Mapping[str, Any]) -> None:
    """Raises ConfigError for a value of another type than the config's own."""
    own = _own(config, field)
    for value in values:
        widened = isinstance(own, float) and is_number(value)
        if own is not None and type(value) is not type(own) and not widened:
            legal = f"{type(own).__name__}, as {own!r}"
            raise ConfigError(f"{where} must have values of type {legal}, got {value!r}")


def _check_once(where: str, values: Sequence[Any]) -> None:
    """Raises ConfigError for a value that is there twice."""
    repeated = [value for i, value in enumerate(values) if value in values[:i]]
    if repeated:
        raise ConfigError(f"{where} must have each value once, got {repeated[0]!r} twice")


def _own(config: Mapping[str, Any], field: str) -> Any:
    return dict(leaves(config))[field]
