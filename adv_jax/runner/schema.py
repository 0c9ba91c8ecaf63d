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
_SEQUENCES = (tuple, list, Sequence)
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


def is_import_path(name: Any) -> bool:
    """Whether a name of a config is an import path, "package.module:attribute".

    >>> is_import_path("mine:Net"), is_import_path("mlp")
    (True, False)
    """
    return isinstance(name, str) and ":" in name


def parameters_of(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Returns the parameters of a function, with annotations evaluated if they are text.

    Raises:
      ValueError: the function, a builtin, has no signature.
    """
    try:
        return inspect.signature(function, eval_str=True).parameters
    except Exception:  # An annotation may name what only type checkers import.
        return inspect.signature(function).parameters


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
    return any(_is_unknown(member) or _is_instance(value, member) for member in members)


def typed(value: Any, parameter: inspect.Parameter) -> Any:
    """Returns a whole number as a float if a parameter is one, by its default or annotation.

    >>> parameters = parameters_of(lambda rate=0.1, steps=1: None)
    >>> typed(1, parameters["rate"]), typed(1, parameters["steps"])
    (1.0, 1)
    """
    members = _members(parameter.annotation)
    widens = isinstance(parameter.default, float) or (float in members and int not in members)
    return float(value) if widens and type(value) is int else value


def allowed_values(annotation: Any) -> str:
    """Returns the values that a parameter accepts, in words that complete "must be".

    >>> allowed_values(Sequence[int] | None), allowed_values(Literal["fresh", "same"])
    ('a tuple with each entry a number or None', 'fresh or same')
    """
    names = [name for member in _members(annotation) if (name := _name(member))]
    return " or ".join(dict.fromkeys(names)) or "a dict with a name"


def _is_unknown(member: Any) -> bool:
    return member in _UNANNOTATED or isinstance(member, str)


def _members(annotation: Any) -> tuple[Any, ...]:
    if isinstance(annotation, str):  # One that could not be evaluated, as those of Flax modules.
        named = {member.__name__: member for member in _MEMBER_NAMES} | {"None": types.NoneType}
        return tuple(named.get(name.strip(), name) for name in annotation.split("|"))
    is_union = get_origin(annotation) in (Union, types.UnionType)
    return get_args(annotation) if is_union else (annotation,)


def _is_instance(value: Any, member: Any) -> bool:
    if member in (int, float):
        return is_number(value) and (member is float or abs(value) < float("inf"))
    if member in _MEMBER_NAMES:
        return isinstance(value, member)
    if get_origin(member) is Literal:
        return value in get_args(member)
    if not _is_sequence(member) or not isinstance(value, tuple | list):
        return False
    return all(fits(entry, _entry(member)) for entry in value)


def _is_sequence(member: Any) -> bool:
    return member in _SEQUENCES or get_origin(member) in _SEQUENCES


def _entry(member: Any) -> Any:
    """Returns the annotation of the entries of a sequence."""
    return (*get_args(member), Any)[0]


def _name(member: Any) -> str:
    if _is_sequence(member):
        entry = _entry(member)
        return "a tuple" if entry is Any else f"a tuple with each entry {allowed_values(entry)}"
    if get_origin(member) is Literal:
        return " or ".join(map(str, get_args(member)))
    return "a dict with a name" if get_origin(member) is Callable else _MEMBER_NAMES.get(member, "")
