"""Marks the later cases of a parametrized test."""

from collections.abc import Iterable
from typing import Any

import pytest


def slow_after(n: int, cases: Iterable[Any]) -> list:
    """Returns the cases for `parametrize`, each of code of its own; the later ones are slow."""
    return _after(n, cases, pytest.mark.slow)


def exhaustive_after(n: int, cases: Iterable[Any]) -> list:
    """Returns the cases for `parametrize`, all of the same code; the later ones are exhaustive."""
    return _after(n, cases, pytest.mark.exhaustive)


def _after(n: int, cases: Iterable[Any], mark: pytest.MarkDecorator) -> list:
    params = [as_param(case) for case in cases]
    return params[:n] + [
        pytest.param(*param.values, marks=[*param.marks, mark], id=param.id) for param in params[n:]
    ]


def as_param(case: Any):
    if hasattr(case, "marks"):
        return case
    return pytest.param(*case) if type(case) is tuple else pytest.param(case)
