"""The plain values that annotations accept: numbers, texts, booleans, None and sequences of them.

A call of a part is checked by the same rule as a config that names it.
"""

import functools
import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin

import jax
import numpy as np

_MEMBER_NAMES: dict[Any, str] = {
    bool: "True or False",
    int: "a number",
    float: "a number",
    str: "a text",
    types.NoneType: "None",
}
_ARRAYS = (jax.Array, np.ndarray, np.bool_, np.number)
_UNANNOTATED = (Any, inspect.Parameter.empty)
_SEQUENCES = (tuple, list, Sequence)


def unwrapped(function: Any) -> Any:
    """Returns the function inside `functools.partial`."""
    while isinstance(function, functools.partial):
        function = function.func
    return function


def function_name(function: Any) -> str:
    """Returns the name of the function inside `functools.partial`, or of an object's class."""
    function = unwrapped(function)
    return getattr(function, "__name__", type(function).__name__)


def parameters_of(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Returns the parameters of a function, with annotations evaluated if they are text.

    Raises:
      ValueError: the function, a builtin, has no signature.
    """
    try:
        return inspect.signature(function, eval_str=True).parameters
    except Exception:  # An annotation may name what only type checkers import.
        return inspect.signature(function).parameters


def catch_all(parameters: Mapping[str, inspect.Parameter]) -> str | None:
    """Returns the name of the parameter of all other keywords, as `settings` of **settings."""
    return next((name for name, p in parameters.items() if p.kind is p.VAR_KEYWORD), None)


def accepts(
    parameters: Mapping[str, inspect.Parameter], positional: Sequence[str], keywords: Sequence[str]
) -> bool:
    """Returns whether a call may pass these arguments by position and by name, beside others.

    >>> accepts(parameters_of(lambda fn, x, *, key: x), ("logits_fn", "x"), ("key",))
    True
    """
    try:
        signature = inspect.Signature([*parameters.values()])
        signature.bind_partial(*positional, **dict.fromkeys(keywords))
    except TypeError:
        return False
    return True


def is_optional(parameter: inspect.Parameter) -> bool:
    """Whether a parameter accepts None, by its default or annotation."""
    return parameter.default is None or types.NoneType in members_of(parameter.annotation)


def members_of(annotation: Any) -> tuple[Any, ...]:
    """Returns the members of a union; any other annotation alone."""
    if isinstance(annotation, str):  # It names what only type checkers import.
        named = {member.__name__: member for member in _MEMBER_NAMES} | {"None": types.NoneType}
        return tuple(named.get(name.strip(), name) for name in annotation.split("|"))
    is_union = get_origin(annotation) in (Union, types.UnionType)
    return get_args(annotation) if is_union else (annotation,)


def is_number(value: Any) -> bool:
    """Whether a value is a real number, infinite or not: no boolean, no NaN.

    >>> is_number(1), is_number(True), is_number("1"), is_number(float("nan"))
    (True, False, False, False)
    """
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def is_one_number(annotation: Any) -> bool:
    """Whether a parameter takes a number, perhaps a traced one, and neither sequences nor arrays.

    >>> is_one_number(float | jax.Array), is_one_number(float | np.ndarray)
    (True, False)
    """
    members = members_of(annotation)
    several = any(member is np.ndarray or _is_sequence(member) for member in members)
    return not several and (int in members or float in members)


def fits(value: Any, annotation: Any) -> bool:
    """Whether a parameter accepts a value of a config; True if its annotation is unknown.

    An int parameter accepts all finite numbers, as some libraries annotate floats with int. A
    parameter that takes a function accepts no value.

    >>> fits(3, float), fits("x", int | None), fits((1, "x"), Sequence[int])
    (True, False, False)
    """
    members = members_of(annotation)
    return any(_is_unknown(member) or _is_instance(value, member) for member in members)


def refuses(annotation: Any, value: Any) -> bool:
    """Whether an annotation excludes a plain value.

    Arrays, functions and other objects are not judged, nor annotations of other classes than plain
    values, arrays and functions.

    >>> refuses(Sequence[int], 3), refuses(float | jax.Array, [1.0]), refuses(Callable, "relu")
    (True, True, True)
    >>> refuses(Sequence[int], np.ones(3)), refuses(complex | float, "x"), refuses(jax.Array, [1.0])
    (False, False, False)
    """
    members = members_of(annotation)
    only_arrays = all(member in (*_ARRAYS, types.NoneType) for member in members)
    return (
        _is_plain(value)
        and not only_arrays
        and all(map(_is_understood, members))
        and not fits(value, annotation)
    )


def allowed_values(annotation: Any, *, function: str = "a function") -> str:
    """Returns the values that a parameter accepts, in words that complete "must be".

    function: the words for a function.

    >>> allowed_values(Sequence[int] | None), allowed_values(Literal["fresh", "same"])
    ('a tuple with each entry a number or None', 'fresh or same')
    """
    names = [name for member in members_of(annotation) if (name := _name(member, function))]
    return " or ".join(dict.fromkeys(names)) or function


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return isinstance(value, tuple(_MEMBER_NAMES))


def _is_understood(member: Any) -> bool:
    """Whether `fits` knows all plain values that a member of a union accepts."""
    if _is_sequence(member):
        return all(
            _is_understood(kind) for entry in _entries(member, 1) for kind in members_of(entry)
        )
    is_known = member in (*_MEMBER_NAMES, *_ARRAYS, *_UNANNOTATED)
    return is_known or get_origin(member) is Literal or _is_function(member)


def _is_unknown(member: Any) -> bool:
    return member in _UNANNOTATED or isinstance(member, str)


def _is_instance(value: Any, member: Any) -> bool:
    if member in (int, float):
        return is_number(value) and (member is float or abs(value) < float("inf"))
    if member in _MEMBER_NAMES:
        return isinstance(value, member)
    if get_origin(member) is Literal:
        return value in get_args(member)
    if not _is_sequence(member) or not isinstance(value, tuple | list):
        return False
    entries = _entries(member, len(value))
    return len(entries) == len(value) and all(map(fits, value, entries))


def _is_sequence(member: Any) -> bool:
    return member in _SEQUENCES or get_origin(member) in _SEQUENCES


def _is_function(member: Any) -> bool:
    is_protocol = getattr(member, "_is_protocol", False)  # As `Attack` is, by its __call__.
    return is_protocol or member is Callable or get_origin(member) is Callable


def _entries(member: Any, count: int) -> Sequence[Any]:
    """Returns the annotations of the entries of a sequence of that length."""
    return get_args(member) if _is_fixed(member) else [(*get_args(member), Any)[0]] * count


def _is_fixed(member: Any) -> bool:
    """Whether a tuple's annotation states each entry: (), as of a list, states none."""
    entries = get_args(member)
    return get_origin(member) is tuple and bool(entries) and Ellipsis not in entries


def _name(member: Any, function: str) -> str:
    if _is_sequence(member):
        entries = _entries(member, 1)
        names = dict.fromkeys(allowed_values(entry, function=function) for entry in entries)
        if len(names) > 1:
            return f"a tuple of {', '.join(names)}"
        if Any in entries:
            return "a tuple"
        which = f"of {len(entries)} entries, each" if _is_fixed(member) else "with each entry"
        return f"a tuple {which} {next(iter(names))}"
    if get_origin(member) is Literal:
        return " or ".join(map(str, get_args(member)))
    return function if _is_function(member) else _MEMBER_NAMES.get(member, "")
