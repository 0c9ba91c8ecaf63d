"""Builds documents from single runs in the format of the targets' documents."""

import functools
import operator
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from papers import numbers
from papers.numbers import Paper
from papers.power import planned
from papers.statistics import spread
from papers.verdicts import judge

_UNITS = {"error_percent": lambda error: 100 * error}
_UNITS["accuracy_percent"] = lambda error: 100 - 100 * error


def documents(paper: Paper, runs: Mapping[Path, Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yields the judged documents of a paper's single runs, without rows that lack a run.

    One with `another_way` is listed beside the lines of its numbers and never makes them.

    Args:
      paper: the paper.
      runs: path of a result.json -> its contents; the stem is the name of the run.
    """
    by_stem = {path.stem: run for path, run in runs.items()}
    for spec in paper.single_runs.get("documents", ()):
        rows = [_row(paper.name, row, by_stem) for row in spec["rows"]]
        if not any(row["values"] for row in rows):
            continue
        trainings = {
            row["label"]: {
                "epochs": [r["epochs"] for run in _found(row, by_stem) for r in run["replicas"]],
                "data": _found(row, by_stem)[0]["data"],
                "paper_epochs": spec["paper_epochs"],
            }
            for row in spec["rows"]
            if _found(row, by_stem)
        }
        rows = [row for row in rows if row["training"] in trainings]
        labels = {row["label"] for row in rows}
        judged = judge(
            {
                **spec,
                "paper": paper.name,
                "target": spec["rows"][0]["runs"][0],
                "rows": rows,
                "claims": [
                    {"id": None, **claim}
                    for claim in spec.get("claims", ())
                    if labels.issuperset(claim["rows"])
                ],
                "trainings": trainings,
            }
        )
        yield planned(judged)


class OneSeed(NamedTuple):
    """The figure of one seed that measures a number or a claim.

    file: its path in the folder of results.
    value: a fraction; None for a claim that the caption answers.
    caption: of the figure.
    runs: the runs that it is of, each with its `data` and `replicas`.
    why: why it decides nothing.
    """

    file: str
    value: float | None
    caption: str
    runs: list[Mapping[str, Any]]
    why: str


def one_seed(paper: Paper, name: str, found: Mapping[str, Mapping[str, Any]]) -> OneSeed | None:
    """Returns what one seed measures of a number or claim; None if the results have nothing.

    Args:
      found: JSON by the path of its file in the folder of results.
    """
    place = paper.single_runs.get("one_seed", {}).get(name)
    file = f"{paper.name}/results/{place['file']}" if place else ""
    if file not in found:
        return None
    document: Any = found[file]
    value, trained = None, document
    if "at" in place:
        value = functools.reduce(operator.getitem, place["at"], document)
        key, *row = place["at"]
        # The rows of a table stand in the order of its runs.
        trained = document["runs"][row[0]] if key == "rows" else document
    why = place.get("why", "one seed decides nothing")
    return OneSeed(file, value, document.get("caption", ""), list(_runs(trained)), why)


def _runs(document: Any) -> Iterator[Mapping[str, Any]]:
    """Yields the runs that a document names, at any depth."""
    if isinstance(document, Mapping):
        if {"data", "replicas"} <= document.keys():
            yield document
        elif {"data", "seed", "epochs"} <= document.keys():
            yield {**document, "replicas": [document]}
        else:
            document = list(document.values())
    if isinstance(document, list):
        for part in document:
            yield from _runs(part)


def mark(file: str) -> str:
    """Returns a note if a file's errors under attack are from an earlier loss, else "".

    Args:
      file: path in the folder of results.
    """
    paper, _, path = file.partition("/results/")
    earlier = numbers.load()[paper].single_runs.get("earlier_loss", {}) if path else {}
    return earlier["why"] if path in earlier.get("files", ()) else ""


def _found(row: Mapping[str, Any], by_stem: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [by_stem[name] for name in row["runs"] if name in by_stem]


def _row(paper: str, row: Mapping[str, Any], by_stem: Mapping[str, Any]) -> dict[str, Any]:
    entry = numbers.entry(row["id"]) if "id" in row else {}
    metric = row.get("metric") or entry.get("metric", "error_percent")
    printed = entry.get("value", entry.get("error_percent"))
    values = {
        str(replica["seed"]): round(_UNITS[metric](error), 10)
        for run in _found(row, by_stem)
        for replica, error in zip(run["replicas"], _errors(row, run), strict=True)
    }
    n, mean, sd = spread(list(values.values())) if values else (0, None, None)
    return {
        "label": row["label"],
        "id": row.get("id"),
        "metric": metric,
        "paper": printed,
        "paper_sd": entry.get("spread"),
        "paper_n": entry.get("n_runs"),
        "mean": mean,
        "sd": sd,
        "n": n,
        "values": values,
        "difference": None if mean is None or printed is None else round(mean - printed, 10),
        "tolerance": row.get("tolerance"),
        "training": row["label"],
        "mark": "" if "attack" not in row else mark(f"{paper}/results/runs/{row['runs'][0]}.json"),
    }


def _errors(row: Mapping[str, Any], run: Mapping[str, Any]) -> list[float]:
    """Returns the error of each replica, clean or under the row's attack."""
    if "attack" not in row:
        return [replica["test_error"] for replica in run["replicas"]]
    curve = run["evaluation"][row["attack"]]
    return [errors[curve["eps"].index(row["eps"])] for errors in curve["error"]]
