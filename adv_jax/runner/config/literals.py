"""Converts the texts of a command to values of parameters."""

import ast
import inspect
import sys
from typing import Any

from adv_jax.annotations import is_number, members_of


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

    >>> spec_of("pgd(num_steps=40, step_size=1/4, norm=l2)")
    {'name': 'pgd', 'num_steps': 40, 'step_size': 0.25, 'norm': 'l2'}

    Raises:
      ValueError: what follows the name is not such settings, or one is given twice.
    """
    name, opened, rest = text.partition("(")
    spec: dict[str, Any] = {"name": name.strip()}
    if not opened:
        return spec
    try:
        call = ast.parse(f"_({rest.strip()}", mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
            raise ValueError("not a call with keywords alone")
        for setting in call.keywords:
            if setting.arg is None or setting.arg in spec:
                raise ValueError("not a keyword, or one twice")
            spec[setting.arg] = _value(setting.value)
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"must be NAME or NAME(setting=value, ...), got {text!r}") from error
    return spec


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


def typed(value: Any, parameter: inspect.Parameter) -> Any:
    """Returns a whole number as a float if a parameter is one, by its default or annotation.

    Where a parameter takes no text, the text of a fraction, or of a literal with fractions, becomes
    what it writes.

    >>> from adv_jax.annotations import parameters_of
    >>> parameters = parameters_of(lambda rate=0.1, steps=1, name="a": None)
    >>> typed(1, parameters["rate"]), typed(1, parameters["steps"])
    (1.0, 1)
    >>> typed("1/4", parameters["rate"]), typed("1/4", parameters["name"])
    (0.25, '1/4')
    """
    members = members_of(parameter.annotation)
    if isinstance(value, str) and not (str in members or isinstance(parameter.default, str)):
        value = evaluated(value)
    widens = isinstance(parameter.default, float) or (float in members and int not in members)
    return float(value) if widens and type(value) is int else value


def evaluated(text: str) -> Any:
    """Returns the value of a literal with a fraction; any other text as it is."""
    return read(text) if "/" in text else text


def read(text: str) -> Any:
    """Returns the value of a literal; any other text as it is."""
    try:
        return literal(text)
    except ValueError:
        return text
