"""Judges the claims of a work: gains, orders, sizes and claims of no loss.

papers/README.md#verdicts has the rules.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from scipy import stats

from papers.judging import numbers
from papers.judging.equivalence import printed_spread, within
from papers.judging.metrics import METRICS
from papers.judging.statistics import (
    LEVEL,
    BySeed,
    Error,
    Paired,
    difference_error,
    paired,
    paired_error,
    spread,
)
from papers.judging.words import (
    FULL,
    NOT_REPRODUCED,
    NOT_RUN,
    QUICK,
    REPRODUCED,
    SAME_DIRECTION,
    UNCLEAR,
    Difference,
    Length,
    extent_of,
    four_digits,
    in_points,
    joined,
    length_of,
)

FEWEST_SEEDS = 3
# The fields of a claim before it is judged.
DEFINITION = ("text", "id", "form", "rows", "by", "tolerance")
ORDERS = ("lowest", "falling")

Json = Mapping[str, Any]


class Step(NamedTuple):
    """A step of a gain or an order.

    tested: the paired differences, higher minus lower; None without a common seed.
    by: the printed gain; 0 if none is printed.
    counts: whether a row is away from the floor and the ceiling.
    significant: whether the gain is, at the false discovery rate of the work.
    """

    tested: Paired | None
    by: float
    counts: bool
    significant: bool = False

    @property
    def is_tested(self) -> bool:
        """Whether it has a p value."""
        return self.counts and self.tested is not None and self.tested.n >= FEWEST_SEEDS

    @property
    def p(self) -> float:
        """The two-sided p of the paired test; 1 for too few seeds."""
        tested = self.tested
        if tested is None or tested.p is None or tested.n < FEWEST_SEEDS:
            return 1.0
        return tested.p

    @property
    def agrees_on_average(self) -> bool:
        """Whether the mean has the claimed direction."""
        return self.tested is not None and self.tested.mean > 0

    @property
    def agrees(self) -> bool:
        """Whether all seeds have the claimed direction."""
        return self.is_tested and self.tested is not None and self.tested.least > 0

    @property
    def is_refuted(self) -> bool:
        """Whether the 95 % interval lies below 0, or below half of the printed gain."""
        if not self.is_tested or self.tested is None:
            return False
        error = paired_error(self.tested)
        most = self.tested.mean + (error.half(0.95) if error else math.inf)
        return most < max(self.by, 0.0) / 2

    @property
    def is_small(self) -> bool:
        """Whether the gain is significant, and below half of the printed one."""
        return self.significant and self.is_refuted and self.agrees_on_average


def with_claims(documents: Sequence[Json]) -> list[dict[str, Any]]:
    """Returns documents with their claims judged; all gains together are one family of tests."""
    found = [
        [(_rows(document, claim), _steps(document, claim)) for claim in document["claims"]]
        for document in documents
    ]
    family = [
        step.p
        for document, of_document in zip(documents, found, strict=True)
        if extent_of(document["budget"]) == FULL
        for _, steps in of_document
        for step in steps
        if step.is_tested
    ]
    limit = limit_of(family)
    # The p that one more gain would need.
    level = LEVEL * min(sum(p <= limit for p in family) + 1, len(family)) / max(len(family), 1)
    return [
        {
            **document,
            "claims": [
                _claim(document, claim, rows, [s._replace(significant=s.p <= limit) for s in steps])
                | ({"level": four_digits(level)} if steps else {})
                for claim, (rows, steps) in zip(document["claims"], of_document, strict=True)
            ],
        }
        for document, of_document in zip(documents, found, strict=True)
    ]


def limit_of(family: Sequence[float]) -> float:
    """Returns the largest p that is significant at the false discovery rate; -1 if none is."""
    adjusted = zip(family, stats.false_discovery_control(family), strict=True)
    return max((p for p, found in adjusted if found < LEVEL), default=-1.0)


def _rows(document: Json, claim: Json) -> list[Json]:
    by_label = {row["label"]: row for row in document["rows"]}
    return [by_label[label] for label in claim["rows"]]


def _steps(document: Json, claim: Json) -> list[Step]:
    rows = _rows(document, claim)
    if claim["form"] in ORDERS:
        return [_step(*pair, by=0.0) for pair in pairs(claim["form"], rows)]
    return [_step(rows[1], rows[0], by=_printed_gain(rows))] if claim["form"] == "gain" else []


def _step(higher: Json, lower: Json, *, by: float) -> Step:
    values = {*higher["values"].values(), *lower["values"].values()}
    metric = METRICS[higher["metric"]]
    ends = ({0.0}, {100.0 / metric.factor}) if metric.unit == "%" else ()
    return Step(paired(by_seed(higher), by_seed(lower)), by, counts=values not in ends)


def _printed_gain(rows: Sequence[Json]) -> float:
    lower, higher = (row["paper"] for row in rows)
    return 0.0 if lower is None or higher is None else round(higher - lower, 10)


def pairs(form: str, rows: Sequence[Any]) -> list[tuple[Any, Any]]:
    """Returns the pairs of a higher and a lower row that an order claims."""
    return list(
        itertools.pairwise(rows) if form == "falling" else ((row, rows[0]) for row in rows[1:])
    )


def _claim(
    document: Json, claim: Json, rows: Sequence[Json], steps: Sequence[Step]
) -> dict[str, Any]:
    definition = {name: claim[name] for name in DEFINITION if name in claim}
    length = length_of(document["budget"], [document["trainings"][r["training"]] for r in rows])
    none = {**definition, "extent": length.extent, "verdict": None}
    missing = sum(not row["values"] for row in rows)
    if missing:
        why = joined(f"{missing} of {len(rows)} rows are not run", length.words)
        return none | {"extent": NOT_RUN, "why": why}
    if claim["form"] in ORDERS:
        return none | _order(rows, steps, length)
    lower, higher = rows
    tested = paired(by_seed(higher), by_seed(lower))
    if tested is None:
        return none | {"verdict": UNCLEAR, "why": "the two share no seed"}
    is_gain = claim["form"] == "gain"
    paper, own_words = _paper(lower, higher) if is_gain else ({}, "")
    measured = Difference(tested.mean, paired_error(tested), tested.n, lower["metric"])
    if is_gain:
        verdict = gain_finding(steps)
        words = _gain_words(steps[0], measured, is_full=length.extent == FULL)
        p = steps[0].p if steps[0].is_tested else None
    else:
        size = claim["form"], claim["by"], claim["tolerance"]
        verdict, p = sized(tested, *size), sized_p(tested, *size)
        words = f"{measured}, {measured_against(claim, lower['metric'])}"
        words += "" if p is None else f", p = {p:.2g}"
    return {
        **none,
        **paper,
        "difference": four_digits(tested.mean),
        "interval": measured.interval,
        "p": four_digits(p),
        "num_tests": int(length.extent == FULL and p is not None),
        "less_than_half": is_gain and length.extent == FULL and steps[0].is_small,
        "verdict": _of_extent(verdict, steps, length),
        "why": joined(words, _too_few(tested.n), length.words, own_words),
    }


def _order(rows: Sequence[Json], steps: Sequence[Step], length: Length) -> dict[str, Any]:
    counted = [step for step in steps if step.counts]
    metric = METRICS[rows[0]["metric"]]
    means = [metric.factor * spread([*row["values"].values()]).mean for row in rows]
    ends = f"{min(means):.4g} to {max(means):.4g} {metric.unit}"
    words, extreme = f"means from {ends}", ""
    if left_out := len(steps) - len(counted):
        extreme = f"{left_out} of {len(steps)} steps not counted, at the floor or the ceiling"
        words += f"; {extreme}"
    if length.extent == FULL:
        held = sum(step.significant and step.agrees_on_average for step in counted)
        words += f"; {held} of {len(counted)} steps are significant"
    fewest = min((step.tested.n if step.tested else 0 for step in steps), default=0)
    return {
        "p": four_digits(max((step.p for step in counted), default=1.0)),
        "num_tests": len([step for step in counted if step.is_tested])
        if length.extent == FULL
        else 0,
        "verdict": _of_extent(gain_finding(steps), steps, length),
        **({"not_counted": extreme} if extreme else {}),
        "why": joined(words, _too_few(fewest), length.words),
    }


def gain_finding(steps: Sequence[Step]) -> str:
    """Returns the finding of a gain or an order that was run in full."""
    counted = [step for step in steps if step.counts]
    if counted and all(step.significant and step.agrees_on_average for step in counted):
        return REPRODUCED
    if any(step.is_refuted for step in counted):
        return NOT_REPRODUCED
    return SAME_DIRECTION if counted and all(step.agrees for step in counted) else UNCLEAR


def _of_extent(verdict: str, steps: Sequence[Step], length: Length) -> str | None:
    """Returns the finding of a full run; of a short one only the direction that it shows."""
    if length.extent == FULL:
        return verdict
    counted = [step for step in steps if step.counts]
    shows = length.extent != QUICK and counted and all(step.agrees for step in counted)
    return SAME_DIRECTION if shows else None


def sized(tested: Paired, form: str, by: float, tolerance: float) -> str:
    """Returns the finding of a size or of no loss that was run in full.

    No loss is not reproduced if the 95 % interval lies beyond the margin.
    """
    off, error = tested.mean - by, paired_error(tested)
    if error is None or tested.n < FEWEST_SEEDS:
        return UNCLEAR
    if form == "no loss":
        if off - error.half(0.9) > -tolerance:
            return REPRODUCED
        return NOT_REPRODUCED if off + error.half(0.95) < -tolerance else UNCLEAR
    one_more = Error(error.size * (1 + tested.n) ** 0.5, error.freedom)
    halves = error.half(0.9), error.half(0.95), one_more.half(0.95)
    return within(abs(off), *halves, tolerance)


def sized_p(tested: Paired, form: str, by: float, tolerance: float) -> float | None:
    """Returns the p of a size or of no loss, one-sided within the limit; None for too few seeds."""
    off, error = tested.mean - by, paired_error(tested)
    if error is None or tested.n < FEWEST_SEEDS:
        return None
    return error.p_within(tolerance + off if form == "no loss" else tolerance - abs(off))


def measured_against(claim: Json, metric: str) -> str:
    """Returns "margin 5" of a claim of no loss, or "17 up to 5" of a size."""
    tolerance = in_points(claim["tolerance"], metric)
    if claim["form"] == "no loss":
        return f"margin {tolerance}"
    return f"to be {in_points(claim['by'], metric)} up to {tolerance}"


def _gain_words(step: Step, measured: Difference, *, is_full: bool) -> str:
    words = f"{measured}"
    if step.is_tested:
        words += ", all are equal" if measured.error and not measured.error.size else ""
        words += f", p = {step.p:.2g}"
        # Only full runs are among the tests of a work.
        if is_full and not step.significant and step.p < LEVEL:
            words += ", not significant among the tests of the work"
    if step.is_small:
        words += ", less than half of the printed gain"
    return words if step.counts else f"{words}, all runs at the floor or the ceiling"


def _too_few(seeds: int) -> str:
    return "" if seeds >= FEWEST_SEEDS else f"fewer than {FEWEST_SEEDS} common seeds"


def _paper(lower: Json, higher: Json) -> tuple[dict[str, Any], str]:
    """Returns the paper's difference as a document and as text; empty if it prints no numbers.

    With every seed's value, or the spread of both numbers, the document also says whether the
    paper's own runs establish the gain.
    """
    if lower["paper"] is None or higher["paper"] is None:
        return {}, ""
    by = _printed_gain([lower, higher])
    found: dict[str, Any] = {"paper_difference": by}
    words = f"the paper has {in_points(by, lower['metric'])}"
    first, second = (numbers.entry(row["id"]).get("per_seed", {}) for row in (higher, lower))
    tested = paired(by_seed({"values": first}), by_seed({"values": second}))
    if tested is not None and tested.p is not None:
        p, seeds = tested.p, f"{tested.n} seeds"
    elif (p := _printed_p(lower, higher)) is not None:
        seeds = f"{higher['paper_n']:g} and {lower['paper_n']:g} runs"
    else:
        return found, words
    found["established"] = by > 0 and p <= LEVEL
    return found, f"{words}, p = {p:.2g} of its {seeds}"


def _printed_p(lower: Json, higher: Json) -> float | None:
    """Returns Welch's p of two printed means with their spread; None without these."""
    a, b = printed_spread(higher), printed_spread(lower)
    error = None if a.sd is None or b.sd is None else difference_error(a, b)
    return None if error is None else min(1.0, 2 * error.p_of(abs(a.mean - b.mean)))


def by_seed(row: Json) -> BySeed:
    """Returns a row's values."""
    return {int(seed): value for seed, value in row["values"].items()}
