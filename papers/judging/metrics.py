"""Converts rates to the metrics of the papers' numbers, and formats these in the unit of print."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Metric(NamedTuple):
    """The metric of the numbers of a paper's entry.

    of: converts what a run measures, such as an error rate as a fraction, to this metric.
    factor: from the unit of the metric to that of print.
    name: what it is, in words.
    unit: of print: "%", or "nats".
    is_error: whether it counts mistakes.
    """

    of: Callable[[float], float]
    factor: int
    name: str
    unit: str = "%"
    is_error: bool = False

    @property
    def axis(self) -> str:
        """The label of an axis in the unit of print."""
        return f"{self.name} ({self.unit})"


METRICS = {
    "error_percent": Metric(lambda error: 100 * error, 1, "test error", is_error=True),
    "error": Metric(lambda error: error, 100, "test error", is_error=True),
    "accuracy_percent": Metric(lambda error: 100 - 100 * error, 1, "test accuracy"),
    "accuracy": Metric(lambda error: 1 - error, 100, "test accuracy"),
    "confidence": Metric(lambda confidence: confidence, 100, "mean confidence"),
    "sparsity_percent (fraction of exact zeros)": Metric(
        lambda zeros: 100 * zeros, 1, "hidden units at 0"
    ),
    "log_likelihood_nats": Metric(lambda nats: nats, 1, "log-likelihood", "nats"),
}

# Fields of a row of a document that are in the unit of its metric.
_IN_METRIC = ("paper", "paper_sd", "mean", "sd", "difference", "tolerance")


def printed_interval(low: float, high: float, metric: str) -> tuple[float, float] | None:
    """Returns an interval of a difference in the unit of print, of rates within 100 points.

    None if it says nothing: half of it is wider than 100 points, as for most pairs of two seeds, or
    its width is 0, as for equal seeds.

    >>> printed_interval(-0.2, 0.1, "error"), printed_interval(9.5, 9.5, "error_percent")
    ((-20.0, 10.0), None)
    """
    is_rate = METRICS[metric].unit == "%"
    if low == high or (is_rate and METRICS[metric].factor * (high - low) / 2 >= 100):
        return None
    ends = [METRICS[metric].factor * end for end in (low, high)]
    most = 100.0 if is_rate else math.inf
    return max(ends[0], -most), min(ends[1], most)


def in_percent(row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a judged row of a document with its fractions in percent, for printing."""
    factor = METRICS[row["metric"]].factor

    def scaled(value: float | None) -> float | None:
        return None if value is None else round(factor * value, 10)

    return {
        **row,
        **{name: scaled(row[name]) for name in _IN_METRIC},
        "interval": row["interval"] and [scaled(end) for end in row["interval"]],
        "values": {seed: scaled(value) for seed, value in row["values"].items()},
    }
