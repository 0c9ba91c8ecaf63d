"""The row of a result: a number of the paper and what was measured of it."""

from collections.abc import Mapping
from typing import Any

from papers.judging import numbers
from papers.judging.statistics import difference, spread


def row_document(
    label: str,
    id: str | None,
    metric: str,
    values: Mapping[Any, float],
    *,
    tolerance: float | None,
    training: str,
) -> dict[str, Any]:
    """Returns the row of a document, before it is judged.

    Args:
      label: unique in the document.
      id: of the paper's number; None if the paper prints none.
      metric: key of `METRICS`, of `values` and of the printed number.
      values: ours by seed; {} if nothing was run.
      tolerance: largest difference that counts as equal; None to not compare.
      training: key of the training in the document.
    """
    entry = numbers.entry(id) if id else {}
    # Of two places of one number, one may lack the spread.
    again = numbers.entry(entry["same_as"]) if "same_as" in entry else {}
    printed = entry.get("value")
    n, mean, sd = spread(list(values.values())) if values else (0, None, None)
    if mean is not None:
        mean = round(mean, 10)
    off = None if mean is None or printed is None else difference(mean, printed)
    return {
        "label": label,
        "id": id,
        "metric": metric,
        "paper": printed,
        "paper_sd": entry.get("spread", again.get("spread")),
        "paper_n": entry.get("n_runs", again.get("n_runs")),
        "mean": mean,
        "sd": sd,
        "n": n,
        "values": {str(seed): value for seed, value in values.items()},
        "difference": off,
        "tolerance": tolerance,
        "training": training,
    }
