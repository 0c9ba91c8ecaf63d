"""Estimates what the trainings take that no result has in full.

An epoch takes as long as one of a stored run of the same model and objective, or else as the median
of all stored runs of its config. Runs that may stop early are counted with all their epochs.
"""

import json
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from adv_jax.runner.config import replicas
from papers.book.reading import Results
from papers.budget import BUDGETS, PAPER
from papers.target import Target
from papers.trainings import Training, plan

Json = Mapping[str, Any]


class Left(NamedTuple):
    """What a target lacks.

    Attributes:
      target: its name.
      stored: the budget of its result; None without a result.
      hours: of the missing runs, one after another; None if no run of a config is stored.
    """

    target: str
    stored: str | None
    hours: float | None


def left(targets: Iterable[Target], results: Results) -> Iterator[Left]:
    """Yields what the targets lack that have not all their runs in full."""
    speeds = _speeds(results)
    by_target = {document["target"]: document for document in results.targets.values()}
    for target in targets:
        document = by_target.get(target.name, {"budget": None, "trainings": {}})
        trainings = plan(target, BUDGETS[PAPER], runs="runs", data={})
        seconds = [
            epochs * _speed(training.config, speeds)
            for key, training in trainings.items()
            if (epochs := _missing(training, document, key))
        ]
        if seconds:
            hours = sum(seconds) / 3600
            yield Left(target.name, document["budget"], None if math.isnan(hours) else hours)


def _missing(training: Training, document: Json, key: str) -> int:
    """Returns the number of epochs, of all replicas, that a result does not have in full."""
    is_full = document["budget"] == PAPER and key in document["trainings"]
    there = document["trainings"][key]["replicas"] if is_full else 0
    return max(len(replicas(training.config)) - there, 0) * training.config["epochs"]


def _speed(config: Json, speeds: Mapping[str, float]) -> float:
    """Returns the seconds of an epoch of one replica; NaN if they are not known."""
    return speeds.get(_alike(config), speeds.get(config["experiment"], math.nan))


def _alike(config: Json) -> str:
    """Returns a name that runs with the same steps share."""
    parts = [config[name] for name in ("experiment", "model", "objective")]
    return json.dumps(parts, sort_keys=True, default=list)


def _speeds(results: Results) -> dict[str, float]:
    """Returns the seconds of an epoch by experiment, and by what `_alike` makes of a config.

    Runs on embedded samples, which have shorter epochs, do not count.
    """
    found: dict[str, list[float]] = {}
    runs = [
        (stored, (_alike(stored["config"]),), sum(stored["epochs"]))
        for document in results.targets.values()
        for stored in document["trainings"].values()
    ] + [
        (run, (), sum(replica["epochs"] for replica in run["replicas"]))
        for run in results.runs.values()
    ]
    for run, names, epochs in runs:
        if epochs and "seconds" in run and run["data"]["source"] != "embedded":
            for name in (run["experiment"], *names):
                found.setdefault(name, []).append(run["seconds"] / epochs)
    return {name: statistics.median(values) for name, values in found.items()}
