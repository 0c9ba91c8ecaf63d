"""The values that a config may hold, and those that a parameter's annotation accepts."""

import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin

import numpy as np

_MEMBER_NAMES: dict[Any, str] = {
    bool: "True or False",
    int: "a number",
    float: "a number",
    str: "a text",
    types.NoneType: "None",
}
_UNANNOTATED = (Any, inspect.Parameter.empty)
_LARGEST = {int: 2**31 - 1, float: float(np.finfo(np.float32).max)}  # on devices


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


def is_number(value: Any) -> bool:
    """Whether a value is a real number, infinite or not: no boolean, no NaN.

    >>> is_number(1), is_number(True), is_number("1"), is_number(float("nan"))
    (True, False, False, False)
    """
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def fits(value: Any, annotation: Any) -> bool:
    """Whether a parameter accepts a value of a config; True if its annotation is unknown.

    An int parameter accepts all finite numbers, as some libraries annotate floats with int. A
    parameter that takes a function accepts no value.

    >>> fits(3, float), fits("x", int | None), fits((1, "x"), Sequence[int])
    (True, False, False)
    """
    members = _members(annotation)
    return any(member in _UNANNOTATED or _is_instance(value, member) for member in members)


def allowed_values(annotation: Any) -> str:
    """Returns the values that a parameter accepts, in words that complete "must be".

    >>> allowed_values(Sequence[int] | None), allowed_values(Literal["fresh", "same"])
    ('a tuple with each entry a number or None', 'fresh or same')
    """
    names = [name for member in _members(annotation) if (name := _name(member))]
    return " or ".join(dict.fromkeys(names)) or "a dict with a name"


def _members(annotation: Any) -> tuple[Any, ...]:
    is_union = get_origin(annotation) in (Union, types.UnionType)
    return get_args(annotation) if is_union else (annotation,)


def _is_instance(value: Any, member: Any) -> bool:
    if member in (int, float):
        return is_number(value) and (member is float or abs(value) < float("inf"))
    if member in _MEMBER_NAMES:
        return isinstance(value, member)
    if get_origin(member) is Literal:
        return value in get_args(member)
    is_tuple = get_origin(member) in (tuple, Sequence) and isinstance(value, tuple | list)
    return is_tuple and all(fits(entry, get_args(member)[0]) for entry in value)


def _name(member: Any) -> str:
    if get_origin(member) in (tuple, Sequence):
        return f"a tuple with each entry {allowed_values(get_args(member)[0])}"
    if get_origin(member) is Literal:
        return " or ".join(map(str, get_args(member)))
    return "a dict with a name" if get_origin(member) is Callable else _MEMBER_NAMES.get(member, "")
