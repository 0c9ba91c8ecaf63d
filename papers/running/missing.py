"""Plans the trainings that the stored results lack in full, the most verdicts per second first."""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from adv_jax.runner.store.formats import as_json, read_json
from adv_jax.types import UserError
from papers.judging import numbers
from papers.judging.claims import FEWEST_SEEDS
from papers.judging.statistics import BySeed
from papers.judging.words import UNCLEAR
from papers.running import epoch_times, power
from papers.running.budget import BUDGETS, PAPER
from papers.running.comparison import Kept, metric
from papers.running.stored import Results, deciding
from papers.running.target import Drawn, Row, Target
from papers.running.trainings import Training, newest_epoch, plan, share_trained
from papers.running.works import TARGETS

Json = Mapping[str, Any]


class Lack(NamedTuple):
    """A target without a full result.

    target: the target.
    trainings: the runs that it needs trained, by their keys, a source before the runs on it.
    kept: what stored results have of its other runs.
    verdicts: number of its numbers and claims that are not decided yet.
    """

    target: Target
    trainings: dict[str, Training]
    kept: dict[str, Kept]
    verdicts: int


def lacks(
    targets: Iterable[Target],
    results: Results,
    *,
    runs: str | Path,
    data: Mapping[str, str],
) -> list[Lack]:
    """Returns the targets that no result has in full, in the order of the works to prefer.

    Args:
      targets: those to look at.
      results: stored results; of several of one target, a full one counts.
      runs, data: as for `plan`.
    """
    documents = list(results.targets.values())
    found = []
    # The order decides between targets with equal or unknown rates.
    for target in sorted(targets, key=lambda one: numbers.load()[one.paper].order):
        trainings = plan(target, BUDGETS[PAPER], runs=runs, data=data)
        own = [one for one in documents if one["target"] == target.name]
        if any(_is_full(one, trainings) for one in own):
            continue
        kept = _kept(target, trainings, documents)
        needed = {key: one for key, one in trainings.items() if key not in kept}
        of_paper = [one for one in documents if one["paper"] == target.paper]
        of_runs = results.of_runs.get(target.paper, ())
        decided = _decided("rows", [*of_paper, *of_runs]) | _decided("claims", [*own, *of_runs])
        found.append(Lack(target, needed, kept, _open_verdicts(target, trainings, decided)))
    return found


def cost_on(lack: Lack, rate: power.Rate) -> power.Cost | None:
    """Returns the time of all trainings that a target lacks, from their start, one after another.

    None if no run of a config is stored.
    """
    trainings = lack.trainings.values()
    seconds = sum(
        one.num_epochs * epoch_times.estimate(one.config, rate.timed) for one in trainings
    )
    is_guess = any(epoch_times.workload(one.config) not in rate.measured for one in trainings)
    return None if math.isnan(seconds) else power.Cost(seconds, is_guess)


def in_order(lacking: Sequence[Lack], seconds: Callable[[Training], float]) -> list[Lack]:
    """Sorts targets by their verdicts per second, highest first.

    A training that several targets need costs only the first of them. Targets of unknown time come
    last; equal ones keep their order.

    Args:
      seconds: returns what is left of a training; NaN if it is not known.
    """
    left, ordered = list(lacking), []
    trained: set[Path] = set()

    def rate(lack: Lack) -> float:
        rest = [t for t in lack.trainings.values() if t.workdir not in trained]
        total = sum(map(seconds, rest))
        if math.isnan(total):
            return -1.0
        return lack.verdicts / total if total else math.inf

    while left:
        best = max(left, key=rate)  # the first of equals
        left.remove(best)
        ordered.append(best)
        trained |= {t.workdir for t in best.trainings.values()}
    return ordered


def seconds_left(training: Training, timed: Mapping[epoch_times.Workload, float]) -> float:
    """Returns the seconds that the rest of a training takes; NaN if an epoch's time is not known.

    timed: seconds of an epoch of one replica, as of `epoch_times.measured`.
    """
    epochs = (1 - share_trained(training)) * training.num_epochs
    return epochs * epoch_times.estimate(training.config, timed) if epochs else 0.0


def timed_in_workdirs(
    trainings: Iterable[Training], device: str
) -> dict[epoch_times.Workload, float]:
    """Returns the seconds of an epoch of one replica in workdirs, by its workload.

    device: as JAX names its kind; an epoch on another one does not count.
    """
    found = {}
    for training in trainings:
        try:
            newest = training.workdir / "checkpoints" / str(newest_epoch(training.workdir))
            saved = read_json(newest / "notes" / "metadata")
            if saved["environment"]["device"] == device:
                each = saved["epoch_seconds"] / training.num_replicas
                found[epoch_times.workload(training.config)] = each
        except (UserError, KeyError):  # None, of several processes, of older versions, or replaced.
            continue
    return found


def _is_full(document: Json, trainings: Mapping[str, Training]) -> bool:
    stored = document["trainings"]
    return document["budget"] == PAPER and all(
        key in stored and stored[key]["replicas"] >= training.num_replicas
        for key, training in trainings.items()
    )


def _decided(part: str, documents: Iterable[Json]) -> set[str]:
    """Returns the names of the numbers ("rows") or "claims" that full results decide."""
    return {
        one.get("id") or one.get("text")
        for document in documents
        if document["budget"] == PAPER and not document.get("another_way")
        for one in document[part]
        if one["verdict"] not in (None, UNCLEAR)
    }


def _open_verdicts(
    target: Target, trainings: Mapping[str, Training], decided: Collection[str]
) -> int:
    """Returns the number of a target's numbers and claims that are not decided.

    Claims with fewer seeds than they need do not count.
    """
    seeds = {row.label: trainings[row.run.key].config["replicas"]["seeds"] for row in target.rows}
    compared = [row.id for row in target.rows if None not in (row.id, row.tolerance)]
    claims = [
        claim.id or claim.text
        for claim in target.claims
        if min(seeds[label] for label in claim.rows) >= FEWEST_SEEDS
    ]
    return sum(name not in decided for name in (*compared, *claims))


def _kept(
    target: Target, trainings: Mapping[str, Training], documents: Sequence[Json]
) -> dict[str, Kept]:
    """Returns the runs whose values the full results of any target have.

    They must be of this config; each keeps the versions and device that it was trained with. A
    figure is drawn from trained nets, so a target with one keeps nothing.
    """
    if target.is_drawn:
        return {}
    found: dict[str, Kept] = {}
    for document in documents:
        if document["budget"] != PAPER:
            continue
        known = dict(_values(document))
        for key in document["trainings"].keys() & trainings.keys() - found.keys():
            stored = document["trainings"][key]
            rows = [row for row in target.rows if row.run.key == key]
            is_known = rows and all(_place(row) in known for row in rows)
            if is_known and _is_same(stored, trainings[key]):
                found[key] = Kept(stored, {row.label: known[_place(row)] for row in rows})
    return found | _unused_sources(target, trainings, found, documents)


def _unused_sources(
    target: Target,
    trainings: Mapping[str, Training],
    found: Mapping[str, Kept],
    documents: Sequence[Json],
) -> dict[str, Kept]:
    """Returns the stored sources that only kept runs are on, and that no row reads."""
    read = {row.run.key for row in target.rows}
    needed = {
        source.key
        for run in target.runs
        if run.key not in found
        for source in run.with_sources()[:-1]
    }
    stored = {key: one for document in documents for key, one in document["trainings"].items()}
    return {
        key: Kept(stored[key], {})
        for key in trainings.keys() - read - needed - found.keys()
        if key in stored and _is_same(stored[key], trainings[key])
    }


def _is_same(stored: Json, training: Training) -> bool:
    """Returns whether a stored training has the config."""
    return deciding(stored["config"]) == deciding(as_json(training.config))


def _values(document: Json) -> Iterator[tuple[Any, BySeed]]:
    """Yields the place of each row of a document and its values by seed."""
    target = TARGETS.get(document["target"])
    rows = {row.label: row for row in (target.rows if target else ())}
    for stored in document["rows"]:
        row = rows.get(stored["label"])
        if row is None or isinstance(row.measure, Drawn):
            continue
        if row.run.key == stored["training"] and stored["values"]:
            yield _place(row), {int(seed): value for seed, value in stored["values"].items()}


def _place(row: Row) -> Any:
    """Returns what rows with the same number in the same unit share."""
    return row.run.key, row.measure, tuple(sorted(row.at.items())), metric(row)
