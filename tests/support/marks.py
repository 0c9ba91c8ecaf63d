"""Marks the later cases of a parametrized test."""

from collections.abc import Iterable
from typing import Any

import pytest


def exhaustive_after(n: int, cases: Iterable[Any]) -> list:
    """Returns the cases for `parametrize`; those after the first n are exhaustive."""
    params = [as_param(case) for case in cases]
    return params[:n] + [
        pytest.param(*param.values, marks=[*param.marks, pytest.mark.exhaustive], id=param.id)
        for param in params[n:]
    ]


def as_param(case: Any):
    if hasattr(case, "marks"):
        return case
    return pytest.param(*case) if type(case) is tuple else pytest.param(case)
