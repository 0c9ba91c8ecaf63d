"""Configs as documents: their paths, their values, and the error of an invalid one.

A config is a nested dict of strings, numbers, booleans and tuples. `{name, **kwargs}` stands for
the function of that name with those keywords bound.
"""

import copy
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from adv_jax.checks import suggestion
from adv_jax.runner.config import schema
from adv_jax.types import UserError


class ConfigError(UserError):
    """The config is invalid."""


def leaves(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (dotted path, value) of a config, except for the grid, whose keys are paths."""
    for key, value in config.items():
        path = f"{prefix}{key}"
        if path == "replicas.grid":
            continue
        if isinstance(value, Mapping):
            yield from leaves(value, f"{path}.")
        else:
            yield path, value


def with_values(config: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a copy of the config with the values at dotted paths replaced; they may be traced."""
    config = copy.deepcopy(dict(config))
    for path, value in values.items():
        *parents, last = path.split(".")
        node = config
        for parent in parents:
            node = node[parent]
        node[last] = value
    return config


def import_paths(config: Mapping[str, Any]) -> dict[str, str]:
    """Returns {field: name} of all names of a config that are import paths."""
    names = {path: value for path, value in leaves(config) if path.rpartition(".")[2] == "name"}
    return {path: name for path, name in names.items() if schema.is_import_path(name)}


def unknown(field: str, found: object, legal: Iterable[str]) -> str:
    """Returns the message for an unknown name, with the nearest legal one.

    >>> unknown("model.name", "mpl", ["mlp", "lenet"])
    "model.name must be one of lenet, mlp, got 'mpl'; did you mean 'mlp'?"
    """
    legal = sorted(legal)
    return f"{field} must be one of {_listed(legal)}, got {found!r}{suggestion(str(found), legal)}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
