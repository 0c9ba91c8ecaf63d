"""Builds documents from single runs in the format of the targets' documents.

A row of a document is of single runs (`runs`), of a row that a target has stored (`target` and
`row`), or of further seeds of such a training (all three), so that what the results answer together
needs no training of its own. `seeds` keeps some; `at` keeps one point of a run's grid, {path of a
field: value}, and all of a run without a grid.
"""

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from papers.judging import numbers
from papers.judging.metrics import METRICS, in_percent
from papers.judging.numbers import Paper
from papers.judging.rows import row_document
from papers.running.budget import PAPER
from papers.running.drawing import FIRST_SEED
from papers.running.trainings import same_point
from papers.running.works import TARGETS

Json = Mapping[str, Any]


def documents(
    paper: Paper, runs: Mapping[Path, Json], targets: Mapping[str, Json] = MappingProxyType({})
) -> Iterator[dict[str, Any]]:
    """Yields documents of a paper's single runs, to be judged, without rows that lack a run.

    One with `another_way` is listed beside the lines of its numbers and never makes them.

    Args:
      paper: the paper.
      runs: path of a result.json -> its contents; the stem is the name of the run.
      targets: name of a target -> its document of the largest budget.
    """
    by_stem = {path.stem: run for path, run in runs.items()}
    for spec in paper.single_runs.get("documents", ()):
        measured = {row["label"]: _measured(spec, row, by_stem, targets) for row in spec["rows"]}
        rows = [
            _row(row, measured[row["label"]].values)
            for row in spec["rows"]
            if measured[row["label"]].values
        ]
        if not rows:
            continue
        labels = {row["label"] for row in rows}
        yield {
            **spec,
            "paper": paper.name,
            "target": _name(spec["rows"][0]),
            "rows": rows,
            "claims": [
                {"id": None, **claim}
                for claim in spec.get("claims", ())
                if labels.issuperset(claim["rows"])
            ],
            "trainings": {label: measured[label].training for label in labels},
        }


class OneSeed(NamedTuple):
    """A measured number or claim that has no test, mostly because it is of one seed.

    file: its path in the folder of results.
    value: in the unit that its metric is printed in; None for a claim that the caption answers.
    caption: of the figure.
    runs: the runs that it is of, each with its `data` and `replicas`.
    why: why it has no test.
    ends: for `curve`, where it ends in each of several rows of a target, in percent by label.
    """

    file: str
    value: float | None
    caption: str
    runs: list[Mapping[str, Any]]
    why: str
    ends: dict[str, float]


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
    if document.get("budget", PAPER) != PAPER:
        return None
    try:
        value, ends, trained = _at(document, place, paper.entries[name])
    except (LookupError, ValueError):  # The user's own result of that name may lack the place.
        return None
    runs = [_drawn(run, document) for run in _runs(trained)]
    seeds = {replica["seed"] for run in runs for replica in run["replicas"]}
    default = "without a test" if len(seeds) > 1 else "one seed"
    why = place.get("why", default)
    return OneSeed(file, value, document.get("caption", ""), runs, why, ends)


def _at(document: Any, place: Json, entry: Json) -> tuple[float | None, dict[str, float], Any]:
    """Returns the value at a place, the ends of its curves, and the runs that they are of.

    place: of `one_seed` in single_runs.toml: a target's `row`, or the `end` of its curve of that
      name; a `curve` of `rows`; or what lies `at` keys of the file, of which a table is the only
      entry of a list with these values.
    """
    if "row" in place or "curve" in place:
        rows = {row["label"]: in_percent(row) for row in document["rows"]}
        labels = place.get("rows", [place.get("row")])
        trained = {label: document["trainings"][rows[label]["training"]] for label in labels}
        if "row" in place:
            (run,) = trained.values()
            if "end" in place:
                return _printed(run["learning"][place["end"]]["mean"][-1], entry), {}, [run]
            return rows[place["row"]]["mean"], {}, [run]
        curves = {label: run["learning"][place["curve"]] for label, run in trained.items()}
        ends = {label: 100 * curve["mean"][-1] for label, curve in curves.items()}
        return None, ends, [*trained.values()]
    if "at" not in place:
        return None, {}, document
    fraction, path = document, []
    for key in place["at"]:
        if isinstance(key, Mapping):  # of the only entry of a list with these values
            (key,) = [i for i, one in enumerate(fraction) if key.items() <= one.items()]
        path.append(key)
        fraction = fraction[key]
    # The rows of a table stand in the order of its runs.
    trained = document["runs"][path[1]] if path[0] == "rows" else document
    return _printed(fraction, entry), {}, trained


def _printed(error: float, entry: Json) -> float:
    """Returns an error, a fraction, in the unit that the number of the paper has."""
    metric = METRICS[entry.get("metric", "error_percent")]
    return metric.factor * metric.of(error)


def runs_of(document: Json) -> list[Json]:
    """Returns the runs that a figure draws, each with its `data` and the `replicas` drawn."""
    return [_drawn(run, document) for run in _runs(document)]


def _drawn(run: Json, document: Json) -> Json:
    """Returns a run of a figure with the replicas that are drawn."""
    if document.get("settings", {}).get("seed") == FIRST_SEED:
        return {**run, "replicas": run["replicas"][:1]}
    return run


def _runs(document: Any) -> Iterator[Json]:
    """Yields the runs that a document names, at any depth."""
    if isinstance(document, Mapping):
        if {"data", "seeds", "epochs"} <= document.keys():  # a training of a target
            trained = zip(document["seeds"], document["epochs"], strict=True)
            yield {**document, "replicas": [{"seed": s, "epochs": n} for s, n in trained]}
        elif "data" in document and isinstance(document.get("replicas"), list):
            yield document
        elif {"data", "seed", "epochs"} <= document.keys():
            yield {**document, "replicas": [document]}
        else:
            document = list(document.values())
    if isinstance(document, list):
        for part in document:
            yield from _runs(part)


class _Measured(NamedTuple):
    """The values of a row by seed, in its metric, and the training that they are of."""

    values: dict[str, float]
    training: dict[str, Any]


def _measured(
    spec: Json, row: Json, by_stem: Mapping[str, Json], targets: Mapping[str, Json]
) -> _Measured:
    """Returns what was measured of a row; without values if nothing was."""
    values, trained = _of_target(spec, row, targets) if "target" in row else ({}, {})
    if runs := [by_stem[name] for name in row.get("runs", ()) if name in by_stem]:
        replicas = [
            (replica, error)
            for run in runs
            for replica, error in zip(run["replicas"], _errors(row, run), strict=True)
            if not ("at" in row and replica["overrides"])
            or same_point(row["at"], replica["overrides"])
        ]
        metric = METRICS[_metric(row)].of
        more = {str(replica["seed"]): round(metric(error), 10) for replica, error in replicas}
        epochs = [*trained.get("epochs", ()), *(replica["epochs"] for replica, _ in replicas)]
        values = more | values  # A seed that was run again is no further seed.
        trained = {"epochs": epochs, "data": runs[0]["data"], "paper_epochs": spec["paper_epochs"]}
    kept = row.get("seeds", [int(seed) for seed in values])
    return _Measured({seed: v for seed, v in values.items() if int(seed) in kept}, trained)


def _of_target(spec: Json, row: Json, targets: Mapping[str, Json]) -> tuple[dict, dict]:
    """Returns the values and the training of a row that a target has stored in full."""
    target = targets.get(row["target"])
    if target is None or target["budget"] != spec["budget"]:
        return {}, {}
    (stored,) = (one for one in target["rows"] if one["label"] == row["row"])
    training = target["trainings"][stored["training"]]
    return stored["values"], {name: training[name] for name in ("epochs", "data", "paper_epochs")}


def _name(row: Json) -> str:
    return row["target"] if "target" in row else row["runs"][0]


def _metric(row: Json) -> str:
    entry = numbers.entry(row["id"]) if "id" in row else {}
    return row.get("metric") or entry.get("metric", "error_percent")


def _row(row: Json, values: Mapping[str, float]) -> dict[str, Any]:
    own = {"tolerance": _tolerances().get(row.get("id", "")), "training": row["label"]}
    return row_document(row["label"], row.get("id"), _metric(row), values, **own)


@functools.cache
def _tolerances() -> dict[str, float]:
    """Returns the tolerance of each number, by its id, as the row of its target states it."""
    rows = (row for target in TARGETS.values() for row in target.rows)
    return {row.id: row.tolerance for row in rows if row.id and row.tolerance is not None}


def _errors(row: Mapping[str, Any], run: Mapping[str, Any]) -> list[float]:
    """Returns the error of each replica, clean or under the row's attack."""
    if "attack" not in row:
        return [replica["test_error"] for replica in run["replicas"]]
    curve = run["evaluation"][row["attack"]]
    return [errors[curve["eps"].index(row["eps"])] for errors in curve["error"]]
