"""Judges a number that a paper prints, by the rules in papers/README.md#verdicts."""

from collections.abc import Mapping
from typing import Any

from papers.judging.statistics import (
    Spread,
    difference,
    difference_error,
    prediction_error,
    spread,
)
from papers.judging.words import (
    CONSISTENT,
    FULL,
    NOT_REPRODUCED,
    NOT_RUN,
    REPRODUCED,
    UNCLEAR,
    Difference,
    Length,
    four_digits,
    in_points,
    joined,
)


def judged(row: Mapping[str, Any], length: Length) -> dict[str, Any]:
    """Returns the extent, interval, p, finding and reason of a row.

    A row without a tolerance has no finding.
    """
    values = list(row["values"].values())
    none = {"extent": length.extent, "interval": None, "p": None, "verdict": None, "why": ""}
    if not values:
        return none | {"extent": NOT_RUN, "why": "not run"}
    if row["paper"] is None or row["tolerance"] is None:
        return none | {"why": length.words}
    ours, theirs, tolerance = spread(values), printed_spread(row), row["tolerance"]
    is_full = length.extent == FULL
    error = difference_error(ours, theirs) if is_full else None
    found = Difference(difference(ours.mean, theirs.mean), error, ours.n, row["metric"])
    words = [f"{found}, tolerance {in_points(tolerance, row['metric'])}", length.words]
    if not is_full:
        return none | {"why": joined(*words)}
    if error is None:
        words.append("one run here and one in the paper")
    return {
        "extent": length.extent,
        "interval": found.interval,
        "p": four_digits(p_value(ours, theirs, tolerance)),
        "verdict": finding(ours, theirs, tolerance),
        "why": joined(*words),
    }


def finding(ours: Spread, theirs: Spread, tolerance: float) -> str:
    """Returns the finding of a number that was run in full."""
    off = abs(difference(ours.mean, theirs.mean))
    error = difference_error(ours, theirs)
    if error is None:
        return CONSISTENT if off <= tolerance else NOT_REPRODUCED
    prediction = prediction_error(ours, theirs.n) or error
    return within(off, error.half(0.9), error.half(0.95), prediction.half(0.95), tolerance)


def within(off: float, half_90: float, half_95: float, predicted: float, tolerance: float) -> str:
    """Returns the finding of a difference `off`, from half the widths of its intervals."""
    if off + half_90 <= tolerance:
        return REPRODUCED
    if off - half_95 > tolerance:
        return NOT_REPRODUCED
    return CONSISTENT if off <= min(tolerance, predicted) else UNCLEAR


def p_value(ours: Spread, theirs: Spread, tolerance: float) -> float | None:
    """Returns the p of the two one-sided tests, or twice that of lying outside if ours does."""
    error = difference_error(ours, theirs)
    off = abs(difference(ours.mean, theirs.mean))
    return None if error is None else error.p_within(tolerance - off)


def printed_spread(row: Mapping[str, Any]) -> Spread:
    """Returns the spread of the paper's number."""
    runs = row["paper_n"] or 1
    return Spread(runs, row["paper"], row["paper_sd"] if runs > 1 else None)
