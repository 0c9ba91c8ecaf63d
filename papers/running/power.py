"""Computes the seeds that would settle the unclear numbers and claims of stored results.

Needed is the smallest number of seeds at which a finding is no longer *unclear*, if further seeds
have the mean and the sd of the stored ones. The missing runs are timed on each device that has
stored runs. A gain must be found with a power of .8. A number may stay unclear at any number of
seeds, as the paper's share of the interval does not shrink; that share is then stated.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from scipy import stats

from adv_jax.runner.run.log import print_table
from papers.judging.claims import FEWEST_SEEDS, ORDERS, by_seed, pairs, sized
from papers.judging.equivalence import finding, printed_spread
from papers.judging.statistics import (
    Paired,
    detectable,
    difference_error,
    paired,
    paired_error,
    spread,
)
from papers.judging.words import UNCLEAR, in_points
from papers.running import epoch_times
from papers.running.stored import Results

MOST_SEEDS = 1000
ONE_RUN = "the spread is unknown from one seed"
NEVER = f"more than {MOST_SEEDS:,} seeds would be needed"

Json = Mapping[str, Any]


class Rate(NamedTuple):
    """The seconds of an epoch on a device.

    timed: `epoch_times.measured_or_guessed`.
    measured: the workloads that the device has timed itself.
    """

    timed: Mapping[epoch_times.Workload, float]
    measured: Collection[epoch_times.Workload]


class Cost(NamedTuple):
    """The seconds of runs on a device, and whether they are guessed from other workloads."""

    seconds: float
    is_guess: bool


Rates = Mapping[str, Rate]  # by device


class SeedsNeeded(NamedTuple):
    """The seeds that would settle a number or a claim.

    seeds: full runs that are needed, stored ones included; None if unknown.
    costs: device -> what the missing runs take on it, if such runs were timed.
    obstacle: why the seeds are unknown; "" if they are known.
    """

    seeds: int | None
    costs: Mapping[str, Cost]
    obstacle: str = ""

    def __str__(self) -> str:
        if self.seeds is None:
            return self.obstacle
        costs = [f"{time_on(device, c)} of {name_of(device)}" for device, c in self.costs.items()]
        cost = f" ({' or '.join(costs)})" if costs else ""
        return f"{self.seeds:,} seeds would settle it{cost}"


def rates_of(results: Results) -> dict[str, Rate]:
    """Returns the seconds of an epoch on each device of stored runs, the CPU first."""
    return {device: rate_on(device, results) for device in epoch_times.devices(results)}


def rate_on(device: str, results: Results) -> Rate:
    """Returns the seconds of an epoch on a device, as stored runs show them."""
    timed = epoch_times.measured(results, device)
    return Rate(epoch_times.measured_or_guessed(results, device), timed.keys())


def print_seeds_needed(documents: Sequence[Json], rates: Rates) -> None:
    """Prints what would settle each unclear number and claim, with the time on each device."""
    rows = []
    for document in documents:
        for one, needed in seeds_needed(document, rates):
            costs = [(device, needed.costs.get(device)) for device in rates]
            cells = ["-" if cost is None else time_on(device, cost) for device, cost in costs]
            what = one.get("label") or one["text"]
            rows.append([document["target"], what, needed.seeds or needed.obstacle, *cells])
    if not rows:
        print(f"nothing is unclear in {len(documents)} stored results")
        return
    columns = ["target", "unclear", "seeds", *map(name_of, rates)]
    print_table("what would settle the unclear, and the time of the missing runs", columns, rows)


def seeds_needed(document: Json, rates: Rates) -> Iterator[tuple[Json, SeedsNeeded]]:
    """Yields each unclear row and claim of a judged document, and what would settle it."""
    by_label = {row["label"]: row for row in document["rows"]}
    for row in document["rows"]:
        if row["verdict"] == UNCLEAR:
            yield row, _seeds_needed(document, [row], _number(row), rates)
    for claim in document["claims"]:
        if claim["verdict"] == UNCLEAR:
            rows = [by_label[label] for label in claim["rows"]]
            yield claim, _seeds_needed(document, rows, _claim(claim, rows), rates)


def name_of(device: str) -> str:
    """Returns the name of a device in tables."""
    return "a CPU" if device == epoch_times.CPU else device


def time_on(device: str, cost: Cost) -> str:
    """Formats hours of a CPU, minutes of an accelerator; "~" before a guess."""
    size, unit = (3600, "hours") if device == epoch_times.CPU else (60, "minutes")
    time = cost.seconds / size
    return f"{'~' if cost.is_guess else ''}{time:,.{0 if time >= 10 else 1}f} {unit}"


def _seeds_needed(
    document: Json, rows: Sequence[Json], seeds: int | str, rates: Rates
) -> SeedsNeeded:
    if isinstance(seeds, str):
        return SeedsNeeded(None, {}, seeds)
    missing = max(seeds - min(len(row["values"]) for row in rows), 0)
    each = {device: _cost_of_a_seed(document, rows, rate) for device, rate in rates.items()}
    costs = {d: one._replace(seconds=missing * one.seconds) for d, one in each.items() if one}
    return SeedsNeeded(seeds, costs)


def _number(row: Json) -> int | str:
    """Returns the seeds that settle a number, or the obstacle."""
    ours, theirs = spread(list(row["values"].values())), printed_spread(row)
    tolerance = row["tolerance"]
    if ours.sd is None:
        return ONE_RUN
    # Fewer seeds may settle what more of the same spread leave open.
    found = _fewest(lambda n: finding(ours._replace(n=n), theirs, tolerance) != UNCLEAR, ours.n + 1)
    error = difference_error(ours._replace(n=MOST_SEEDS), theirs)
    half = error.half(0.95) if error else 0.0
    if found == NEVER and half > tolerance:
        runs = f"{theirs.n:g} run{'s' if theirs.n > 1 else ''}"
        left = in_points(half, row["metric"])
        return f"{NEVER}, as the paper's {runs} leave{'' if theirs.n > 1 else 's'} +-{left}"
    return found


def _claim(claim: Json, rows: Sequence[Json]) -> int | str:
    """Returns the seeds that settle a claim, or the obstacle."""
    if claim["form"] in ORDERS:
        steps = pairs(claim["form"], rows)
        found = [_gain(higher, lower, 0.0, claim["level"]) for higher, lower in steps]
        obstacles = [seeds for seeds in found if isinstance(seeds, str)]
        return obstacles[0] if obstacles else max(found)
    lower, higher = rows
    if claim["form"] == "gain":
        return _gain(higher, lower, claim.get("paper_difference", 0.0), claim["level"])
    tested = paired(by_seed(higher), by_seed(lower))
    if tested is None or tested.sd is None:
        return ONE_RUN
    size = claim["form"], claim["by"], claim["tolerance"]
    least = max(FEWEST_SEEDS, tested.n + 1)
    return _fewest(lambda n: sized(_of(tested, n), *size) != UNCLEAR, least)


def _gain(higher: Json, lower: Json, by: float, level: float) -> int | str:
    """Returns the seeds that show a gain at a level, or refute it; or the obstacle."""
    tested = paired(by_seed(higher), by_seed(lower))
    if tested is None or tested.sd is None:
        return ONE_RUN

    def settles(n: int) -> bool:
        more = _of(tested, n)
        error = paired_error(more)
        most = tested.mean + (error.half(0.95) if error else 0.0)
        is_found = tested.mean > 0 and (detectable(more, level) or 0.0) <= tested.mean
        return is_found or most < max(by, 0.0) / 2

    return _fewest(settles, FEWEST_SEEDS)


def _of(tested: Paired, n: int) -> Paired:
    """Returns the test of n pairs with the same mean and sd."""
    if not tested.sd:
        return tested._replace(n=n)
    t = abs(tested.mean) * math.sqrt(n) / tested.sd
    return tested._replace(n=n, p=float(2 * stats.t.sf(t, n - 1)))


def _fewest(settles: Callable[[int], bool], least: int) -> int | str:
    """Returns the smallest number of seeds that settles, or the obstacle."""
    return next((n for n in range(least, MOST_SEEDS + 1) if settles(n)), NEVER)


def _cost_of_a_seed(document: Json, rows: Sequence[Json], rate: Rate) -> Cost | None:
    """Returns the time of the rows' runs with one seed; None if no such run is timed.

    Rows of one training share its replicas. Each seed of a training needs that seed of its sources;
    a source of other seeds is trained once for all.
    """
    cost, trainings = Cost(0.0, is_guess=False), document["trainings"]
    own = {row["training"] for row in rows}
    sources = {
        source
        for source in trainings
        for key in own
        if key.endswith(f" on {source}")
        and trainings[source].get("seeds") == trainings[key].get("seeds")
    }
    for key in own | sources:
        training = trainings[key]
        if not {"config", "seeds", "replicas"} <= training.keys():
            return None
        epochs = sum(training["epochs"]) / len(training["epochs"])
        num_runs = training["replicas"] / len(training["seeds"])
        if key not in sources:
            num_runs = min(num_runs, sum(row["training"] == key for row in rows))
        workload = epoch_times.workload(training["config"])
        if workload not in rate.timed:
            return None
        seconds = cost.seconds + num_runs * epochs * rate.timed[workload]
        cost = Cost(seconds, cost.is_guess or workload not in rate.measured)
    return cost
