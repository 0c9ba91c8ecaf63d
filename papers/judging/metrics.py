"""Converts rates to the metrics of the papers' numbers, and formats these in the unit of print."""

import math
from collections.abc import Mapping
from typing import Any

# metric of a paper's entry -> its conversion from an error rate or a confidence, both fractions
METRICS = {
    "error_percent": lambda error: 100 * error,
    "error": lambda error: error,
    "accuracy_percent": lambda error: 100 - 100 * error,
    "accuracy": lambda error: 1 - error,
    "confidence": lambda confidence: confidence,
    "sparsity_percent (fraction of exact zeros)": lambda zeros: 100 * zeros,
    "log_likelihood_nats": lambda nats: nats,
}

# Fields of a row of a document that are in the unit of its metric.
_IN_METRIC = ("paper", "paper_sd", "mean", "sd", "difference", "tolerance")


def percent_factor(metric: str) -> int:
    """Returns the factor from the unit of a metric to that of print: 100 for fractions, else 1."""
    return 1 if "percent" in metric or "nats" in metric else 100


def unit_of(metric: str) -> str:
    """Returns the unit in which a metric is printed."""
    return "nats" if "nats" in metric else "%"


def printed_interval(low: float, high: float, metric: str) -> tuple[float, float] | None:
    """Returns an interval of a difference in the unit of print, of rates within 100 points.

    None if it says nothing: its half is as wide as rates can differ, as that of two seeds mostly
    is, or its width is 0, as that of seeds that agree.

    >>> printed_interval(-0.2, 0.1, "error"), printed_interval(9.5, 9.5, "error_percent")
    ((-20.0, 10.0), None)
    """
    if low == high or not is_possible((high - low) / 2, metric):
        return None
    ends = [percent_factor(metric) * end for end in (low, high)]
    most = 100.0 if unit_of(metric) == "%" else math.inf
    return max(ends[0], -most), min(ends[1], most)


def is_possible(size: float, metric: str) -> bool:
    """Returns whether two values can differ by so much; of rates it is less than 100 points."""
    return unit_of(metric) != "%" or percent_factor(metric) * size < 100


def in_percent(row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a judged row of a document with its fractions in percent, for printing."""
    factor = percent_factor(row["metric"])

    def scaled(value: float | None) -> float | None:
        return None if value is None else round(factor * value, 10)

    return {
        **row,
        **{name: scaled(row[name]) for name in _IN_METRIC},
        "interval": row["interval"] and [scaled(end) for end in row["interval"]],
        "values": {seed: scaled(value) for seed, value in row["values"].items()},
    }
