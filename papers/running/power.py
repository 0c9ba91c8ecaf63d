"""Plans what would decide the undecided numbers and claims of stored results.

A plan is the smallest number of seeds at which `papers.judging.verdicts` decides, and the hours
that the missing runs take on a CPU. It assumes that runs of full length have the mean and the sd of
the stored ones. A gain must be found with a power of .8. A number may stay undecided at any number
of seeds, as the paper's share of the interval does not shrink; the plan then states that share.
"""

import bisect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from scipy import stats

from adv_jax.runner.run.log import print_table
from papers.judging.statistics import Paired, detectable, paired, paired_interval, spread, welch
from papers.judging.verdicts import UNDECIDED, by_seed, in_points, of_paper, refuted, steps, within
from papers.running.budget import PAPER, QUICK

MOST_SEEDS = 1000
ONE_RUN = "a second seed must show the spread"
NEVER = f"{MOST_SEEDS:,} seeds would not decide it"

Json = Mapping[str, Any]


class Plan(NamedTuple):
    """What would decide a number or a claim.

    Attributes:
      seeds: runs of full length that are needed, stored ones included; None if unknown.
      hours: what the missing runs take on the CPU of the stored ones; None if unknown.
      obstacle: why the seeds are unknown; "" if they are known.
    """

    seeds: int | None
    hours: float | None
    obstacle: str = ""

    def __str__(self) -> str:
        if self.seeds is None:
            return self.obstacle
        cost = "" if self.hours is None else f" ({_in_words(self.hours)})"
        return f"{self.seeds:,} full seeds would decide it{cost}"


def planned(document: Json) -> dict[str, Any]:
    """Adds the plan in words to each undecided row and claim of a judged document, as `plan`."""
    words = {id(one): str(plan) for one, plan in plans(document)}

    def added(ones: Sequence[Json]) -> list[Json]:
        return [{**one, "plan": words[id(one)]} if id(one) in words else one for one in ones]

    return {**document, "rows": added(document["rows"]), "claims": added(document["claims"])}


def print_plans(documents: Iterable[Json]) -> None:
    """Prints what would decide each undecided number and claim."""
    rows = []
    for document in documents:
        for one, plan in plans(document):
            hours = "-" if plan.hours is None else f"{plan.hours:.2g}"
            what = one.get("label") or one["text"]
            rows.append([document["target"], what, plan.seeds or plan.obstacle, hours])
    print_table("what would decide them", ["target", "undecided", "full seeds", "hours"], rows)


def plans(document: Json) -> Iterator[tuple[Json, Plan]]:
    """Yields each undecided row and claim of a judged document, and its plan."""
    by_label = {row["label"]: row for row in document["rows"]}
    for row in document["rows"]:
        if row["verdict"] == UNDECIDED:
            yield row, _plan(document, [row], _number)
    for claim in document["claims"]:
        if claim["verdict"] == UNDECIDED:
            rows = [by_label[label] for label in claim["rows"]]
            yield claim, _plan(document, rows, lambda *rows, claim=claim: _claim(claim, rows))


def _plan(document: Json, rows: Sequence[Json], needed: Callable[..., int | str]) -> Plan:
    if document["budget"] == QUICK or not all(row["values"] for row in rows):
        return Plan(None, None, "full runs must come first")
    seeds = needed(*rows)
    if isinstance(seeds, str):
        return Plan(None, None, seeds)
    stored = min(len(row["values"]) for row in rows) if document["budget"] == PAPER else 0
    hours = _hours_of_a_seed(document, rows)
    return Plan(seeds, None if hours is None else hours * max(seeds - stored, 0))


def _number(row: Json) -> int | str:
    """Returns the seeds that decide a number, or the obstacle."""
    ours, theirs = spread(list(row["values"].values())), of_paper(row)
    if ours.sd is None:
        return ONE_RUN

    def half(n: int) -> float:
        return welch(ours._replace(n=n), theirs) or 0.0

    def decides(n: int) -> bool:
        return within(ours.mean - row["paper"], half(n), row["tolerance"]) != UNDECIDED

    found = _fewest(decides)
    if found == NEVER and half(MOST_SEEDS) > row["tolerance"]:
        runs = f"{theirs.n:g} run{'s' if theirs.n > 1 else ''}"
        left = in_points(half(MOST_SEEDS), row["metric"])
        return f"{NEVER}, as the paper's {runs} leave{'' if theirs.n > 1 else 's'} +-{left}"
    return found


def _claim(claim: Json, rows: Sequence[Json]) -> int | str:
    """Returns the seeds that decide a claim, or the obstacle."""
    if claim["form"] in ("lowest", "falling"):
        found = [_gain(higher, lower, 0.0) for higher, lower in steps(claim["form"], rows)]
        obstacles = [seeds for seeds in found if isinstance(seeds, str)]
        return obstacles[0] if obstacles else max(found)
    lower, higher = rows
    if claim["form"] == "gain":
        return _gain(higher, lower, claim.get("paper_difference", 0.0))
    tested = paired(by_seed(higher), by_seed(lower))
    if tested is None or tested.sd is None:
        return ONE_RUN
    off = tested.mean - claim["by"]
    return _fewest(lambda n: within(off, _half(tested, n), claim["tolerance"]) != UNDECIDED)


def _gain(higher: Json, lower: Json, by: float) -> int | str:
    tested = paired(by_seed(higher), by_seed(lower))
    if tested is None or tested.sd is None:
        return ONE_RUN

    def decides(n: int) -> bool:
        is_found = tested.mean > 0 and (detectable(_of(tested, n)) or 0.0) <= tested.mean
        return is_found or refuted(tested.mean, _half(tested, n), by)

    return _fewest(decides)


def _of(tested: Paired, n: int) -> Paired:
    """Returns the test of n pairs with the same mean and sd."""
    if tested.t_p is None or tested.sd is None:
        return tested._replace(n=n)
    t = abs(tested.mean) * math.sqrt(n) / tested.sd
    return tested._replace(n=n, t_p=float(2 * stats.t.sf(t, n - 1)))


def _half(tested: Paired, n: int) -> float:
    return paired_interval(_of(tested, n)) or 0.0


def _fewest(decides: Callable[[int], bool]) -> int | str:
    """Returns the smallest number of seeds from 2 that decides, or the obstacle."""
    found = 2 + bisect.bisect_left(range(2, MOST_SEEDS + 1), True, key=decides)
    return found if found <= MOST_SEEDS else NEVER


def _in_words(hours: float) -> str:
    if hours < 0.95:
        minutes = max(round(60 * hours), 1)
        return f"{minutes} more minute{'s' if minutes > 1 else ''}"
    return f"{hours:.2g} more hours"


def _hours_of_a_seed(document: Json, rows: Sequence[Json]) -> float | None:
    """Returns the hours of the rows' full runs with one seed on a CPU; None if none ran on one.

    Rows of one training share its replicas. Each seed of a training needs that seed of its sources;
    a source of other seeds is trained once for all.
    """
    hours, trainings = 0.0, document["trainings"]
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
        if not {"seconds", "seeds", "replicas"} <= training.keys() or training["device"] != "cpu":
            return None
        trained = training["epochs"]
        is_full = document["budget"] == PAPER
        full = sum(trained) / len(trained) if is_full else training["paper_epochs"]
        num_runs = training["replicas"] / len(training["seeds"])
        if key not in sources:
            num_runs = min(num_runs, sum(row["training"] == key for row in rows))
        hours += num_runs * full * training["seconds"] / sum(trained) / 3600
    return hours
