"""The picture of a sweep."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import optuna

from launch import space


def parallel_coordinates(
    path: Path, rows: Sequence[Mapping[str, Any]], fields: Sequence[str], metric: str
) -> None:
    """Draws an axis for each field and the metric, and a line for each point where it is known.

    Args:
      path: the PNG to write.
      rows: {field: value, metric: value or None}.
      fields: at least one.
      metric: the first axis, and the colour.
    """
    study = optuna.create_study()
    measured = [row for row in rows if row[metric] is not None]
    domains = {field: _axis([row[field] for row in measured]) for field in fields}
    for row in measured:
        params = {field: space.encode(row[field]) for field in fields}
        study.add_trial(
            optuna.trial.create_trial(params=params, distributions=domains, value=row[metric])
        )
    with matplotlib.rc_context({"backend": "agg"}), warnings.catch_warnings():
        # That it is experimental, and that a field with one value has an axis without length.
        warnings.simplefilter("ignore")
        axes = optuna.visualization.matplotlib.plot_parallel_coordinate(
            study, params=list(fields), target_name=metric
        )
        axes.figure.set_size_inches(3 + 2 * len(fields), 5)
        axes.figure.savefig(path, dpi=120, bbox_inches="tight")


def _axis(values: Sequence[Any]) -> optuna.distributions.BaseDistribution:
    encoded = [space.encode(value) for value in values]
    if any(isinstance(value, str) for value in encoded):
        return optuna.distributions.CategoricalDistribution(sorted(set(map(str, encoded))))
    low, high = min(encoded), max(encoded)
    log = low > 0 and high / low >= 100
    return optuna.distributions.FloatDistribution(low, high, log=log)
