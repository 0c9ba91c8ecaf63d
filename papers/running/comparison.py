"""Compares the paper's numbers with ours and judges each claim."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from adv_jax.runner.run import learning_curves
from adv_jax.runner.store.formats import as_json
from adv_jax.runner.store.provenance import provenance
from papers.judging import numbers
from papers.judging.metrics import METRICS
from papers.judging.rows import row_document
from papers.judging.statistics import BySeed
from papers.judging.verdicts import judge
from papers.judging.words import NOT_REPRODUCED
from papers.running.budget import Budget, paper_epochs, paper_seeds
from papers.running.target import Drawn, Measure, Row, Run, Target
from papers.running.trainings import Training, same_point


class Kept(NamedTuple):
    """The stored values of a training that is not run again.

    training: its entry in "trainings".
    values: label of a row of the target -> its values by seed, in its metric.
    """

    training: Mapping[str, Any]
    values: Mapping[str, BySeed]


def compare(
    target: Target,
    budget: Budget,
    trainings: Mapping[str, Training],
    results: Mapping[str, Mapping[str, Any]],
    lines: Mapping[str, Sequence[Mapping[str, Any]]],
    by_seed: Mapping[str, BySeed] = MappingProxyType({}),
    kept: Mapping[str, Kept] = MappingProxyType({}),
) -> dict[str, Any]:
    """Returns the contents of results/TARGET.json.

    Args:
      target: the target.
      budget: the budget of the trainings.
      trainings, results, lines: key of a run -> its training, its result.json, and the lines of its
        metrics.jsonl.
      by_seed: numbers of the target's figure, if it has one; those of grid points that the budget
        lacks are missing.
      kept: key of a run that has no result.json -> what a stored result has of it.
    """

    def value(row: Row) -> BySeed:
        if isinstance(row.measure, Drawn):
            return _in_metric(row, by_seed.get(row.measure.name, {}))
        key = row.run.key
        if key in kept:
            return kept[key].values[row.label]
        return ours(row, row.measure, results[key], lines[key])

    values = {row.label: value(row) for row in target.rows}
    found = {
        "target": target.name,
        "paper": target.paper,
        "title": target.title,
        "budget": budget.name,
        "rows": [_row(row, values[row.label]) for row in target.rows],
        "claims": [claim.document for claim in target.claims],
        "trainings": {
            key: kept[key].training
            if key in kept
            else _training(training, results[key], lines[key])
            for key, training in trainings.items()
        },
        "written_by": provenance(),
    }
    return judge([found])[0]


def updated(target: Target, found: Mapping[str, Any]) -> dict[str, Any]:
    """Updates the title, tolerances and claims of a document, which is to be judged again.

    Its rows keep the trainings that they were measured with, which the target may have replaced.
    """
    stored = {row["label"]: row for row in found["rows"]}
    runs = {run.key: run for run in target.runs}
    rows = []
    for row in target.rows:
        old = stored.get(row.label, {"training": row.run.key, "values": {}})
        runs.setdefault(old["training"], row.run)
        values = {int(seed): value for seed, value in old["values"].items()}
        rows.append({**_row(row, values), "training": old["training"]})
    return {
        **found,
        "title": target.title,
        "rows": rows,
        "claims": [claim.document for claim in target.claims],
        "trainings": {
            key: {**training, **(_planned(runs[key]) if key in runs else {})}
            for key, training in found["trainings"].items()
        },
    }


def ours(
    row: Row,
    measure: Measure,
    result: Mapping[str, Any],
    lines: Sequence[Mapping[str, Any]],
) -> BySeed:
    """Returns the row's number by seed, in its metric; {} if the budget lacks the grid point.

    Args:
      row: the row.
      measure: its measure.
      result: the run's result.json.
      lines: the lines of its metrics.jsonl.
    """
    found = {}
    for i, replica in enumerate(result["replicas"]):
        if same_point(row.at, replica["overrides"]):
            own = [line for line in lines if line["replica"] == i]
            found[replica["seed"]] = _measured(measure, result, i, own)
    return _in_metric(row, found)


def _in_metric(row: Row, fractions: BySeed) -> BySeed:
    convert = METRICS[metric(row)].of
    # 100 * .0107 != 1.07
    return {seed: round(convert(value), 10) for seed, value in fractions.items()}


def _measured(
    measure: Measure, result: Mapping[str, Any], i: int, lines: Sequence[Mapping[str, Any]]
) -> float:
    """Returns a measure of replica i; `lines` are its lines of metrics.jsonl."""
    clean = "test_error" if measure.what == "error" else measure.what
    if measure.last:
        values = [line[clean] for line in lines if clean in line][-measure.last :]
        return sum(values) / len(values)
    if measure.attack is None:
        return result["replicas"][i][clean]
    curve = result["evaluation"][measure.attack]
    return curve[measure.what][i][curve["eps"].index(measure.eps)]


def metric(row: Row) -> str:
    """Returns the metric of the paper's entry, else the row's own."""
    return numbers.entry(row.id)["metric"] if row.id else row.metric


def misses(found: Mapping[str, Any]) -> list[str]:
    """Returns a line for each number and claim of a document that is not reproduced."""
    judged_parts = [(row["label"], row) for row in found["rows"]]
    judged_parts += [(claim["text"], claim) for claim in found["claims"]]
    return [
        f"{found['target']}, {label}: {one['why']}"
        for label, one in judged_parts
        if one["verdict"] == NOT_REPRODUCED
    ]


def _row(row: Row, values: BySeed) -> dict[str, Any]:
    own = {"tolerance": row.tolerance, "training": row.run.key}
    return row_document(row.label, row.id, metric(row), values, **own)


def _planned(run: Run) -> dict[str, int]:
    """Returns the epochs and seeds of a full run."""
    return {"paper_epochs": paper_epochs(run), "paper_seeds": paper_seeds(run)}


def _training(
    training: Training, result: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    kept = ("experiment", "data", "seconds", "device", "versions", "git")
    return {
        **{name: result.get(name) for name in kept},
        "file": f"configs/{training.run.config}.py",
        "command": training.command,
        "config": as_json(training.config),
        "seeds": sorted({replica["seed"] for replica in result["replicas"]}),
        "replicas": len(result["replicas"]),
        "epochs": [replica["epochs"] for replica in result["replicas"]],
        **_planned(training.run),
        "learning": learning_curves.curves_of_lines(lines),
    }
