"""The plain values that annotations accept: numbers, texts, booleans, None and sequences of them.

A call of a part is checked by the same rule as a config that names it.
"""

import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin

from jax.typing import ArrayLike

_MEMBER_NAMES: dict[Any, str] = {
    bool: "True or False",
    int: "a number",
    float: "a number",
    str: "a text",
    types.NoneType: "None",
}
_UNANNOTATED = (Any, inspect.Parameter.empty)
_SEQUENCES = (tuple, list, Sequence)


def parameters_of(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Returns the parameters of a function, with annotations evaluated if they are text.

    Raises:
      ValueError: the function, a builtin, has no signature.
    """
    try:
        return inspect.signature(function, eval_str=True).parameters
    except Exception:  # An annotation may name what only type checkers import.
        return inspect.signature(function).parameters


def members_of(annotation: Any) -> tuple[Any, ...]:
    """Returns the members of a union; any other annotation alone."""
    if isinstance(annotation, str):  # One that could not be evaluated, as those of Flax modules.
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
    """Whether a plain value is none of those that an annotation accepts.

    Arrays, functions and other objects are not judged, nor annotations that accept no plain value,
    nor `jax.typing.ArrayLike`, which the code of the part converts.

    >>> refuses(Sequence[int], 3), refuses(float, [1]), refuses(Callable, "relu")
    (True, True, False)
    """
    if annotation == ArrayLike or not _is_plain(value):
        return False
    return any(map(_is_plain_kind, members_of(annotation))) and not fits(value, annotation)


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


def _is_plain_kind(member: Any) -> bool:
    is_scalar = member in _MEMBER_NAMES and member is not types.NoneType
    return is_scalar or get_origin(member) is Literal or _is_sequence(member)


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
    return all(fits(entry, _entry(member)) for entry in value)


def _is_sequence(member: Any) -> bool:
    return member in _SEQUENCES or get_origin(member) in _SEQUENCES


def _entry(member: Any) -> Any:
    """Returns the annotation of the entries of a sequence."""
    return (*get_args(member), Any)[0]


def _name(member: Any, function: str) -> str:
    if _is_sequence(member):
        entry = _entry(member)
        each = "" if entry is Any else allowed_values(entry, function=function)
        return f"a tuple with each entry {each}" if each else "a tuple"
    if get_origin(member) is Literal:
        return " or ".join(map(str, get_args(member)))
    return function if get_origin(member) is Callable else _MEMBER_NAMES.get(member, "")
