"""The figure of a sweep."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import optuna

from launch import _space


def parallel_coordinates(
    path: Path, rows: Sequence[Mapping[str, Any]], fields: Sequence[str], metric: str
) -> None:
    """Draws an axis for the metric and for each field, and a line for each row that has the metric.

    Args:
      path: the PNG to write.
      rows: {field: value, metric: value or None}.
      fields: at least one.
      metric: the first axis, and the color.
    """
    measured = [row for row in rows if row[metric] is not None]
    columns = {field: _column([row[field] for row in measured]) for field in fields}
    domains = {field: _domain(values) for field, values in columns.items()}
    study = optuna.create_study()
    for i, row in enumerate(measured):
        params = {field: columns[field][i] for field in fields}
        trial = optuna.create_trial(params=params, distributions=domains, value=row[metric])
        study.add_trial(trial)
    with matplotlib.rc_context({"backend": "agg"}), warnings.catch_warnings():
        # The function is experimental, and the axis of a field with one value has no length.
        warnings.simplefilter("ignore")
        axes = optuna.visualization.matplotlib.plot_parallel_coordinate(
            study, params=list(fields), target_name=metric
        )
        axes.figure.set_size_inches(3 + 2 * len(fields), 5)
        axes.figure.savefig(path, dpi=120, bbox_inches="tight")


def _column(values: Sequence[Any]) -> list[Any]:
    """Returns the values as numbers, or all of them as text."""
    encoded = [_space.encode(value) for value in values]
    return list(map(str, encoded)) if any(isinstance(v, str) for v in encoded) else encoded


def _domain(values: Sequence[Any]) -> optuna.distributions.BaseDistribution:
    if isinstance(values[0], str):
        return optuna.distributions.CategoricalDistribution(sorted(set(values)))
    low, high = min(values), max(values)
    return optuna.distributions.FloatDistribution(low, high, log=low > 0 and high / low >= 100)
