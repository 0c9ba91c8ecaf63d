"""Kinds of values: what a document holds, and what of it a parameter takes by its annotation."""

import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin

import numpy as np

_WORDS: dict[Any, str] = {
    bool: "True, False",
    int: "numbers",
    float: "numbers",
    str: "texts",
    types.NoneType: "None",
}
_UNTOLD = (Any, inspect.Parameter.empty)
_LARGEST = {int: 2**31 - 1, float: float(np.finfo(np.float32).max)}  # that devices can hold


def is_document(value: Any) -> bool:
    """Whether JSON gives a value back, tuples as lists, and a device can hold its numbers.

    NaN, which differs from itself, is none; infinity, the name of a norm, is.

    >>> is_document({"a": (1, None)}), is_document({1: 2}), is_document(print)
    (True, False, False)
    """
    if isinstance(value, Mapping):
        names = all(isinstance(key, str) and key.isprintable() for key in value)
        return names and all(map(is_document, value.values()))
    if isinstance(value, tuple | list):
        return all(map(is_document, value))
    if type(value) in _LARGEST:
        return abs(value) <= _LARGEST[type(value)] or abs(value) == float("inf")
    return value is None or isinstance(value, str | bool)


def fits(value: Any, annotation: Any) -> bool:
    """Whether a parameter takes a value of a document; True where its annotation does not tell.

    Where int is annotated, other finite numbers pass: libraries call more whole than they need.
    What only code can build, as functions, no value is.

    >>> fits(3, float), fits("x", int | None), fits((1, "x"), Sequence[int])
    (True, False, False)
    """
    kinds = _members(annotation)
    return any(kind in _UNTOLD or _is_of(value, kind) for kind in kinds)


def described(annotation: Any) -> str:
    """What a parameter takes, in words.

    >>> described(Sequence[int] | None)
    'tuples of numbers, None'
    """
    names = [name for kind in _members(annotation) if (name := _name(kind))]
    return ", ".join(dict.fromkeys(names)) or "a dict with a name"


def _members(annotation: Any) -> tuple[Any, ...]:
    is_union = get_origin(annotation) in (Union, types.UnionType)
    return get_args(annotation) if is_union else (annotation,)


def _is_of(value: Any, kind: Any) -> bool:
    if kind in (int, float):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and (kind is float or abs(value) < float("inf"))
    if kind in _WORDS:
        return isinstance(value, kind)
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    is_tuple = get_origin(kind) in (tuple, Sequence) and isinstance(value, tuple | list)
    return is_tuple and all(fits(entry, get_args(kind)[0]) for entry in value)


def _name(kind: Any) -> str:
    if get_origin(kind) in (tuple, Sequence):
        return f"tuples of {described(get_args(kind)[0])}"
    if get_origin(kind) is Literal:
        return ", ".join(get_args(kind))
    return "a dict with a name" if get_origin(kind) is Callable else _WORDS.get(kind, "")
