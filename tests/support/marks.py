"""Marks the later cases of a parametrized test as slow."""

from collections.abc import Iterable
from typing import Any

import pytest


def slow_after(n: int, cases: Iterable[Any]) -> list:
    """Returns the cases for `parametrize`; those after the first n are slow, unless marked."""
    params = [case if hasattr(case, "marks") else as_param(case) for case in cases]
    return [
        pytest.param(*param.values, marks=pytest.mark.slow, id=param.id)
        if number >= n and not param.marks
        else param
        for number, param in enumerate(params)
    ]


def as_param(case: Any):
    return pytest.param(*case) if type(case) is tuple else pytest.param(case)
