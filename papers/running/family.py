"""Judges what a work's results have measured together, as its gains share one test level."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from papers.judging.numbers import Paper
from papers.judging.verdicts import judge
from papers.running import single_runs
from papers.running.budget import BUDGETS

Json = Mapping[str, Any]


class Family(NamedTuple):
    """The judged documents of a work.

    targets: results of targets, in the order in which they were given.
    of_runs: documents of single runs.
    """

    targets: list[dict[str, Any]]
    of_runs: list[dict[str, Any]]


def family(paper: Paper, targets: Sequence[Json], runs: Mapping[Path, Json]) -> Family:
    """Returns the judged documents of a work; those of smaller budgets are judged alone.

    Args:
      paper: the work.
      targets: its results.
      runs: path of the result.json of a single run -> its contents.
    """
    best = largest(targets)
    of_runs = list(single_runs.documents(paper, runs, best))
    judged = judge([*best.values(), *of_runs])
    by_name = dict(zip(best, judged, strict=False))
    found = [by_name[t["target"]] if best[t["target"]] is t else judge([t])[0] for t in targets]
    return Family(found, judged[len(best) :])


def largest(targets: Iterable[Json]) -> dict[str, Json]:
    """Returns the result of each target that decides, that of the largest budget, by its name."""
    return {target["target"]: target for target in sorted(targets, key=rank)}


def rank(document: Json) -> int:
    """Returns the rank of a document's budget."""
    return list(BUDGETS).index(document["budget"])
