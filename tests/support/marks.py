"""Marks the later cases of a parametrized test as slow or exhaustive."""

from collections.abc import Iterable
from typing import Any

import pytest


def slow_after(n: int, cases: Iterable[Any]) -> list:
    """Returns the cases for `parametrize`; those after the first n are slow, unless marked."""
    return _after(n, cases, pytest.mark.slow)


def exhaustive_after(n: int, cases: Iterable[Any]) -> list:
    """Returns the cases for `parametrize`; the later ones are exhaustive, unless marked."""
    return _after(n, cases, pytest.mark.exhaustive)


def _after(n: int, cases: Iterable[Any], mark: pytest.MarkDecorator) -> list:
    params = [case if hasattr(case, "marks") else as_param(case) for case in cases]
    return [
        pytest.param(*param.values, marks=mark, id=param.id)
        if number >= n and not param.marks
        else param
        for number, param in enumerate(params)
    ]


def as_param(case: Any):
    return pytest.param(*case) if type(case) is tuple else pytest.param(case)
