"""Says which figures are drawn from shorter runs than the paper's.

A figure's document names its runs. The paper's length is that of the trainings of its targets that
are most like a run; a run that stopped early, after the paper's patience, is of full length.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from papers.judging.words import capitalized, shortness, span
from papers.running.budget import BUDGETS, PAPER, config_of
from papers.running.single_runs import runs_of
from papers.running.works import TARGETS

Json = Mapping[str, Any]

_SAME = ("experiment", "model", "objective", "optimizer")  # what a document may tell of a run


def with_length(document: dict[str, Any], target: Json | None = None) -> dict[str, Any]:
    """Returns a figure's document whose caption ends with the length of its short runs, if any.

    Args:
      document: the figure's document.
      target: the result of the target that the figure is of, if there is one.
    """
    words = shortness(target["budget"], target["trainings"].values()) if target else ""
    words = f"{capitalized(words)}." if words else short_runs(document)
    caption = document["caption"]
    if not words or caption.endswith(words):
        return document
    return {**document, "caption": f"{caption} {words}"}


def short_runs(document: Json) -> str:
    """Returns "Short runs: 10 of 50, 24 of 120 epochs." of a figure's document, or "" if none."""
    epochs = _short(document["paper"], runs_of(document))
    parts = [f"{span(trained)} of {allowed}" for allowed, trained in epochs.items()]
    return f"Short runs: {', '.join(parts)} epochs." if parts else ""


def full_epochs(paper: str, runs: Sequence[Json]) -> list[int]:
    """Returns the paper's epochs of those runs that are shorter; [] if none is."""
    return list(_short(paper, runs))


def _short(paper: str, runs: Sequence[Json]) -> dict[int, set[int]]:
    """Returns the epochs of the short ones of these runs by the paper's epochs."""
    epochs: dict[int, set[int]] = {}
    for run in runs:
        full = _full(paper, run)
        trained = [one for one in run["replicas"] if full and "epochs" in one]
        short = {one["epochs"] for one in trained if not _is_full(one, full)}
        if short:
            epochs.setdefault(full["epochs"], set()).update(short)
    return epochs


def _is_full(replica: Json, full: Json) -> bool:
    if replica["epochs"] >= full["epochs"]:
        return True
    best = replica.get("best_epoch")
    return bool(full["patience"] and best and replica["epochs"] - best >= full["patience"])


def _full(paper: str, run: Json) -> dict[str, Any]:
    """Returns the config of the paper's training that is most like a run; {} without one.

    Of several the shortest counts, so that no full run is called short.
    """
    data = run["data"].get("name")
    ranked = [
        (sum(_equal(config, run, name) for name in _SAME), -config["epochs"], config)
        for config in _configs(paper)
        if config["data"]["name"] == data
        and run.get("experiment", config["experiment"]) == config["experiment"]
        and run.get("model", config["model"]).get("name") == config["model"]["name"]
    ]
    return max(ranked, key=lambda one: one[:2], default=(0, 0, {}))[2]


def _equal(config: Json, run: Json, name: str) -> bool:
    return name in run and _plain(config[name]) == _plain(run[name])


def _plain(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=list)


@cache
def _configs(paper: str) -> Sequence[dict[str, Any]]:
    """Returns the configs of the trainings of a paper's targets."""
    runs = {run.key: run for target in TARGETS.values() for run in target.runs}
    own = {
        run.key for name, target in TARGETS.items() if target.paper == paper for run in target.runs
    }
    return [config_of(runs[key], BUDGETS[PAPER], {}) for key in own]
