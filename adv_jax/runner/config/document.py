"""Configs as documents: their paths, their values, and the error of an invalid one.

A config is a nested dict of strings, numbers, booleans and tuples. `{name, **kwargs}` stands for
the function of that name with those keywords bound.
"""

import copy
from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

import numpy as np

from adv_jax.ranges import Range
from adv_jax.types import UserError

_DOCUMENTS = "a text, a number of 32 bits, True, False, None, or a tuple or dict of them"
_LARGEST = {int: 2**31 - 1, float: float(np.finfo(np.float32).max)}  # on devices


class ConfigError(UserError):
    """The config is invalid."""


def check_document(
    config: Mapping[str, Any], ranges: Mapping[str, Range], prefix: str = ""
) -> None:
    """Raises ConfigError for a key or a value that a config cannot hold.

    Args:
      ranges: {path: range}, for the message.
      prefix: of the paths.
    """
    for key, value in config.items():
        path = f"{prefix}{key}"
        if not is_key(key):
            raise ConfigError(f"a key must be a printable text, got {path!r}")
        if isinstance(value, Mapping):
            check_document(value, ranges, f"{path}.")
        elif not is_document(value):
            allowed = f"{ranges[path]}, of 32 bits" if path in ranges else _DOCUMENTS
            raise ConfigError(f"{path} must be {allowed}, got {value!r}")


def is_document(value: Any) -> bool:
    """Whether a value survives JSON (tuples as lists) and its numbers fit into 32 bits.

    NaN does not, as it differs from itself; infinity, the name of a norm, does.

    >>> is_document({"a": (1, None)}), is_document({1: 2}), is_document(print)
    (True, False, False)
    """
    if isinstance(value, Mapping):
        return all(map(is_key, value)) and all(map(is_document, value.values()))
    if isinstance(value, tuple | list):
        return all(map(is_document, value))
    if type(value) in _LARGEST:
        return abs(value) <= _LARGEST[type(value)] or abs(value) == float("inf")
    return value is None or isinstance(value, str | bool)


def is_key(value: Any) -> bool:
    """Whether a value can be a key of a config: a printable text."""
    return isinstance(value, str) and value.isprintable()


def is_import_path(name: Any) -> TypeGuard[str]:
    """Whether a name of a config is an import path, "package.module:attribute".

    >>> is_import_path("mine:Net"), is_import_path("mlp")
    (True, False)
    """
    return isinstance(name, str) and ":" in name


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


def is_model_field(path: str) -> bool:
    """Whether a field holds the workdir of a run, for the logits of its trained model: `..._fn`."""
    return path.endswith("_fn")


def import_paths(config: Mapping[str, Any]) -> dict[str, str]:
    """Returns {field: name} of all names of a config that are import paths."""
    names = {path: value for path, value in leaves(config) if path.rpartition(".")[2] == "name"}
    return {path: name for path, name in names.items() if is_import_path(name)}
