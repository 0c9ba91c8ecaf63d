"""The values that a parameter's annotation accepts, and how texts become values."""

import ast
import inspect
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin

from adv_jax.runner.config.document import is_number

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


def number(text: str) -> float:
    """Returns the real number of a text: a decimal, or a fraction of two.

    >>> number(".1"), number("8/255") == 8 / 255
    (0.1, True)

    Raises:
      ValueError: the text is neither.
    """
    above, is_fraction, below = text.partition("/")
    return _quotient(float(above), float(below)) if is_fraction else float(text)


def literal(text: str) -> Any:
    """Returns the value of a Python literal, which may have fractions of numbers.

    >>> literal("{'eps': (0, -1/4)}")
    {'eps': (0, -0.25)}

    Raises:
      ValueError: the text is no literal.
    """
    try:
        return ast.literal_eval(_Quotients().visit(ast.parse(text.strip(), mode="eval")))
    except (TypeError, SyntaxError, MemoryError, RecursionError, OverflowError) as error:
        raise ValueError(f"must be a literal, got {text!r}") from error


def spec_of(text: str) -> dict[str, Any]:
    """Returns {"name": NAME, **settings} of a text NAME or NAME(setting=value, ...).

    A value is a literal, or a word, which is a text.

    >>> spec_of("pgd(steps=40, alpha=1/4, norm=l2)")
    {'name': 'pgd', 'steps': 40, 'alpha': 0.25, 'norm': 'l2'}

    Raises:
      ValueError: what follows the name is no such settings.
    """
    name, opened, rest = text.strip().partition("(")
    if not opened:
        return {"name": name}
    refused = ValueError(f"must be NAME or NAME(setting=value, ...), got {text!r}")
    try:
        call = ast.parse(f"_({rest}", mode="eval").body
    except SyntaxError as error:
        raise refused from error
    match call:
        case ast.Call(func=ast.Name(), args=[], keywords=settings):
            return {"name": name} | {str(its.arg): _value(its.value) for its in settings}
    raise refused


def _value(node: ast.expr) -> Any:
    return node.id if isinstance(node, ast.Name) else literal(ast.unparse(node))


class _Quotients(ast.NodeTransformer):
    """Replaces a / b of two numbers by its value."""

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        if not isinstance(node.op, ast.Div):
            return node
        sides = [ast.literal_eval(side) for side in (node.left, node.right)]
        return ast.Constant(_quotient(*sides)) if all(map(is_number, sides)) else node


def _quotient(above: float, below: float) -> float:
    """Returns above / below; raises ValueError unless they are finite and below is not 0."""
    if not below or not all(abs(side) <= sys.float_info.max for side in (above, below)):
        raise ValueError(f"a fraction must have finite numbers and no 0 below, got {above}/{below}")
    return above / below


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

    Where a parameter takes no text, the text of a fraction, or of a literal with fractions, becomes
    what it writes.

    >>> parameters = parameters_of(lambda rate=0.1, steps=1, name="a": None)
    >>> typed(1, parameters["rate"]), typed(1, parameters["steps"])
    (1.0, 1)
    >>> typed("1/4", parameters["rate"]), typed("1/4", parameters["name"])
    (0.25, '1/4')
    """
    members = _members(parameter.annotation)
    if isinstance(value, str) and not (str in members or isinstance(parameter.default, str)):
        value = evaluated(value)
    widens = isinstance(parameter.default, float) or (float in members and int not in members)
    return float(value) if widens and type(value) is int else value


def evaluated(text: str) -> Any:
    """Returns the value of a literal with a fraction; any other text as it is."""
    if "/" not in text:
        return text
    try:
        return literal(text)
    except ValueError:
        return text


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
