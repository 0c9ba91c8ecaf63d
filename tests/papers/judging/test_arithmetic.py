"""Worked examples are compared to the printed decimals."""

import pytest

from papers.judging import arithmetic


@pytest.mark.parametrize(
    ("printed", "exact", "expected"),
    [
        (".5 -2", [0.549, -2.4], "right"),
        (".5 -2", [0.551, -2.4], "truncated"),
        ("-.5", -0.599, "truncated"),
        (".5", 0.499, "right"),
        (".5", 0.449, "wrong"),
        (".5", 0.601, "wrong"),
        (".5 .5", [0.58, 0.61], "wrong"),
        ("1 / 2.0", [[1], [2.04]], "right"),
        ("-0.0", 0.0, "right"),
    ],
)
def test_a_printed_number_is_compared_to_its_own_decimals(printed, exact, expected):
    assert arithmetic.agreement(printed, exact) == expected


@pytest.mark.parametrize(
    ("value", "recomputed", "verdict", "why"),
    [
        ([[0.5, -2], [0.25, 3]], [[0.51, -2], [0.25, 3]], "right", "all digits are right"),
        (0.01, 0.019, "right", "cut off instead of rounded"),
        ([0.5, 9.04], [0.5, 4.52], "wrong", "another number"),
    ],
)
def test_a_worked_example_is_judged_by_its_digits(value, recomputed, verdict, why):
    found = arithmetic.worked_example({"value": value, "recomputed": recomputed})
    assert found == {"verdict": verdict, "why": why}
