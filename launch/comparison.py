"""The paper's numbers and ours, side by side, with a verdict on each claim."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from adv_jax.report import learning, papers
from adv_jax.report.statistics import LEVEL, Paired, in_words, paired, spread
from adv_jax.result import provenance
from adv_jax.workdir import as_json
from launch.budget import PAPER, Budget
from launch.targets import METRICS, Below, Claim, Drawn, Falling, Lowest, Measure, Row, Target
from launch.trainings import Training, same_point

Values = dict[int, float]  # seed -> value
REPRODUCED, NOT_REPRODUCED, NOT_TESTABLE = "reproduced", "not reproduced", "not testable"


def document(
    target: Target,
    budget: Budget,
    trainings: Mapping[str, Training],
    results: Mapping[str, Mapping[str, Any]],
    lines: Mapping[str, Sequence[Mapping[str, Any]]],
    by_seed: Mapping[str, Values] = MappingProxyType({}),
) -> dict[str, Any]:
    """What results/TARGET.json holds.

    Args:
      trainings, results, lines: key of a run -> how it was trained, its result.json, and the lines
        of its metrics.jsonl.
      by_seed: the numbers of the target's figure, if it is drawn.
    """
    values = {
        row.label: _in_metric(row, by_seed[row.measure.name])
        if isinstance(row.measure, Drawn)
        else ours(row, row.measure, results[row.run.key], lines[row.run.key])
        for row in target.rows
    }
    return {
        "target": target.name,
        "paper": target.paper,
        "title": target.title,
        "budget": budget.name,
        "rows": [_row(row, values[row.label]) for row in target.rows],
        "claims": [_claim(claim, target, values, budget) for claim in target.claims],
        "trainings": {
            key: _training(trainings[key], results[key], lines[key]) for key in trainings
        },
        "written_by": provenance(),
    }


def ours(
    row: Row,
    measure: Measure,
    result: Mapping[str, Any],
    lines: Sequence[Mapping[str, Any]],
) -> Values:
    """The row's number of each seed, in its metric; {} where this budget has no such point.

    Args:
      lines: of metrics.jsonl.
    """
    found = {}
    for i, replica in enumerate(result["replicas"]):
        if same_point(row.at, replica["overrides"]):
            own = [line for line in lines if line["replica"] == i]
            found[replica["seed"]] = _measured(measure, result, i, own)
    return _in_metric(row, found)


def _in_metric(row: Row, fractions: Values) -> Values:
    convert = METRICS[metric(row)]
    # 100 * .0107 is not 1.07.
    return {seed: round(convert(value), 10) for seed, value in fractions.items()}


def _measured(
    measure: Measure, result: Mapping[str, Any], i: int, lines: Sequence[Mapping[str, Any]]
) -> float:
    """A measure of replica i, whose lines of metrics.jsonl these are."""
    clean = "test_error" if measure.what == "error" else measure.what
    if measure.last:
        values = [line[clean] for line in lines if clean in line][-measure.last :]
        return sum(values) / len(values)
    if measure.attack is None:
        return result["replicas"][i][clean]
    curve = result["evaluation"][measure.attack]
    return curve[measure.what][i][curve["eps"].index(measure.eps)]


def metric(row: Row) -> str:
    """That of the paper's entry, else the row's own."""
    return papers.entry(row.paper)["metric"] if row.paper else row.metric


def misses(found: Mapping[str, Any]) -> list[str]:
    """A line for each number of a document that lies further off than its tolerance."""
    lines = [
        f"{found['target']}, {row['label']}: ours {row['mean']:.4g}, paper {row['paper']:.4g}, "
        f"tolerance {row['tolerance']:g}"
        for row in found["rows"]
        if row["within"] is False
    ]
    return lines + [
        f"{found['target']}, {claim['text']}: by {claim['difference']:.3g}, paper "
        f"{claim['by']:.3g}, tolerance {claim['tolerance']:.3g}"
        for claim in found["claims"]
        if claim.get("within") is False
    ]


def _row(row: Row, values: Values) -> dict[str, Any]:
    entry = papers.entry(row.paper) if row.paper else {}
    n, mean, sd = spread(list(values.values())) if values else (0, None, None)
    if mean is not None:
        mean = round(mean, 10)
    off = round(mean - entry["value"], 10) if mean is not None and row.paper else None
    compared = off is not None and row.tolerance is not None
    return {
        "label": row.label,
        "id": row.paper,
        "metric": metric(row),
        "paper": entry.get("value"),
        "paper_sd": entry.get("spread"),
        "paper_n": entry.get("n_runs"),
        "confidence": entry.get("confidence"),
        "mean": mean,
        "sd": sd,
        "n": n,
        "values": {str(seed): value for seed, value in values.items()},
        "difference": off,
        "tolerance": row.tolerance,
        "within": bool(abs(off) <= row.tolerance) if compared else None,
        "training": row.run.key,
    }


def _claim(
    claim: Claim, target: Target, values: Mapping[str, Values], budget: Budget
) -> dict[str, Any]:
    said = {"text": claim.text, "id": claim.paper}
    needed = _labels(claim, target)
    missing = [label for label in needed if not values[label]]
    if missing:
        why = f"{len(missing)} of {len(needed)} rows are not run with the budget {budget.name}"
        return {**said, "verdict": NOT_TESTABLE, "why": why}
    if isinstance(claim, Below):
        found = _below(claim, target, values)
    else:
        found = _ordered(claim, needed, values)
    if budget.name != PAPER and found["verdict"] != NOT_TESTABLE:
        found["why"] = f"only a {budget.name} run, which has {found['verdict']} it: {found['why']}"
        found["verdict"] = NOT_TESTABLE
    return {**said, **found}


def _labels(claim: Claim, target: Target) -> tuple[str, ...]:
    if isinstance(claim, Below):
        return claim.lower, claim.higher
    if isinstance(claim, Falling):
        return claim.rows
    return claim.among or tuple(row.label for row in target.rows)


def _below(claim: Below, target: Target, values: Mapping[str, Values]) -> dict[str, Any]:
    tested = paired(values[claim.higher], values[claim.lower])
    if tested is None:
        return {"verdict": NOT_TESTABLE, "why": "the two share no seed"}
    # Equal differences have no t statistic: as sure as seeds can be.
    significant = None if tested.n < 2 else tested.t_p is None or tested.t_p < LEVEL
    direction = {None: "", True: "significant: ", False: "not significant: "}[significant]
    size, told = _size(tested.mean, claim, target)
    if claim.tolerance is not None:
        verdict = REPRODUCED if size["within"] else NOT_REPRODUCED
    elif significant is None:
        verdict = NOT_TESTABLE
    else:
        verdict = REPRODUCED if significant and tested.mean > 0 else NOT_REPRODUCED
    return {
        "verdict": verdict,
        "why": f"difference {tested.mean:.3g}; {direction}{in_words(tested)}{told}",
        "test": tested._asdict(),
        "difference": tested.mean,
        "significant": significant,
        **size,
    }


def _size(found: float, claim: Below, target: Target) -> tuple[dict[str, Any], str]:
    """The difference that the paper has, and whether ours lies within its spread: fields, words.

    The spread is what the claim allows; else the standard deviation of the paper's differences of
    runs, where it prints the runs, or of the difference of two runs, where it prints that of each.
    """
    entries = _entries(claim, target)
    pairs = _paper_pairs(*entries)
    by, tolerance = claim.by, claim.tolerance
    if by is None and pairs is not None:
        by, tolerance = pairs.mean, pairs.sd
    elif by is None:
        by = _of_both("value", lambda higher, lower: round(higher - lower, 10), *entries)
        tolerance = _of_both("spread", math.hypot, *entries)
    if by is None:
        return {}, ""
    within = None if tolerance is None else abs(found - by) <= tolerance
    size: dict[str, Any] = {"by": by, "tolerance": tolerance, "within": within}
    told = f". The paper's difference is {by:.3g}"
    if pairs is not None:
        size["paper_test"] = pairs._asdict()
        told += f"; {in_words(pairs)}"
    if within is not None:
        told += f"; ours is {'within' if within else 'not within'} {tolerance:.3g} of it"
    return size, told


def _ordered(
    claim: Lowest | Falling, labels: Sequence[str], values: Mapping[str, Values]
) -> dict[str, Any]:
    """By the means alone: the papers give no test for an order of many rows."""
    means = {label: spread(list(values[label].values())).mean for label in labels}
    n = min(len(values[label]) for label in labels)
    if n < 2:
        return {"verdict": NOT_TESTABLE, "why": "one seed does not tell an order from chance"}
    seeds = f"means of {n} seed{'s' if n > 1 else ''}"
    if isinstance(claim, Lowest):
        best = min(means, key=lambda label: means[label])
        holds = means[claim.row] <= means[best]
        why = f"lowest is {best} with {means[best]:.4g}, {claim.row} has {means[claim.row]:.4g}"
    else:
        ordered = list(means.values())
        holds = all(a > b for a, b in itertools.pairwise(ordered))
        why = f"from {ordered[0]:.4g} to {ordered[-1]:.4g}" + ("" if holds else ", not in order")
    return {"verdict": REPRODUCED if holds else NOT_REPRODUCED, "why": f"{why} ({seeds})"}


def _entries(claim: Below, target: Target) -> tuple[papers.Entry, papers.Entry]:
    """The paper's of the higher and of the lower row; {} where it has none."""
    rows = {row.label: row for row in target.rows}
    higher, lower = (rows[label].paper for label in (claim.higher, claim.lower))
    return papers.entry(higher) if higher else {}, papers.entry(lower) if lower else {}


def _of_both(
    field: str,
    combine: Callable[[float, float], float],
    higher: papers.Entry,
    lower: papers.Entry,
) -> float | None:
    """What is made of a field of two entries; None: one of them has none."""
    first, second = higher.get(field), lower.get(field)
    return None if first is None or second is None else combine(first, second)


def _paper_pairs(higher: papers.Entry, lower: papers.Entry) -> Paired | None:
    """The same test on the paper's own runs, where it prints them."""
    if "per_seed" not in higher or "per_seed" not in lower:
        return None
    first, second = (
        {int(seed): value for seed, value in entry["per_seed"].items()} for entry in (higher, lower)
    )
    return paired(first, second)


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
        "learning": learning.curves(lines),
    }
