"""Judges a paper's number or claim: reproduced, not reproduced or undecided.

All verdicts follow from the stored values of the seeds; no training is needed.

Level. All tests of the results together have a level of .05 (Bonferroni). Each interval and each
test has `statistics.LEVEL`.

Number. The interval is Welch's, for the difference between our mean and the paper's. If one side is
a single run, it gets the sd of the other. *Reproduced*: the interval lies within the row's
tolerance. *Not reproduced*: it lies entirely outside. There is no verdict if the paper prints no
number or the row has no tolerance.

Gain. The claim: one row is below another. The differences are paired by seed. *Reproduced*: the
paired t-test is significant in the claimed direction, whatever the size of the gain; the reason
says if it is refuted (next). *Not reproduced*: it is not significant, and the interval lies below
half of the paper's gain, or below 0 if it prints no gain.

Size. The claim: a gain equals `by`, up to `tolerance`. It is judged like a number, with the
interval of the paired differences.

Order of rows. *Reproduced*: each claimed step is a significant gain. *Not reproduced*: the interval
of a step lies below 0.

Budget. A run with the budget `short` has fewer epochs than the paper. It can show that the
direction of a gain or an order is reproduced; everything else is undecided. A run with the budget
`quick` has other data or a smaller net: everything is undecided.

Worked example. *Reproduced*: each printed number is the recomputed one, rounded or cut off to its
decimals. *Not reproduced*: one of them is another number.

Everything else is *undecided*. The reason then states the length of the run and the detectable
difference: half the width of the interval for a number or a size, and for a gain the smallest one
that the test detects with power .8.
"""

import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from papers.judging import numbers
from papers.judging.metrics import is_possible, percent_factor, printed_interval, unit_of
from papers.judging.statistics import (
    LEVEL,
    BySeed,
    Paired,
    Spread,
    detectable,
    epochs_in_words,
    paired,
    paired_interval,
    spread,
    welch,
)

REPRODUCED, NOT_REPRODUCED, UNDECIDED = VERDICTS = "reproduced", "not reproduced", "undecided"
# The fields of a claim before it is judged.
DEFINITION = ("text", "id", "form", "rows", "by", "tolerance")

Json = dict[str, Any]


class Length(NamedTuple):
    """The length of a verdict's runs.

    Attributes:
      full: whether they are as long as the paper's.
      decides: whether they use the paper's data and net.
      words: description for the reason; "" for full runs.
    """

    full: bool
    decides: bool
    words: str


class Difference(NamedTuple):
    """A difference over seeds, in the unit of its metric.

    Attributes:
      mean, half: its mean and half the width of its interval.
      n: number of seeds.
      metric: key of `papers.judging.metrics.METRICS`.
    """

    mean: float
    half: float
    n: int
    metric: str

    @property
    def interval(self) -> list[float | None]:
        """The interval for documents."""
        return [_round(self.mean - self.half), _round(self.mean + self.half)]

    def __str__(self) -> str:
        text = (
            f"{_difference(self.mean, self.metric)} over {self.n} seed{'s' if self.n > 1 else ''}"
        )
        if ends := printed_interval(self.mean - self.half, self.mean + self.half, self.metric):
            low, high = (f"{end:.3g}" for end in ends)
            text += f", {100 * (1 - LEVEL):.4g} % interval {low} to {high}"
        return text

    def in_points(self, value: float) -> str:
        """Formats a difference, of rates in percentage points."""
        return in_points(value, self.metric)

    def seen(self, what: str, size: float) -> str:
        """Describes the smallest difference that the test detects."""
        if not is_possible(size, self.metric):
            return f"too few seeds to detect any {what}"
        if not size:
            return f"any {what} is detectable"
        return f"detectable {what}: {in_points(size, self.metric, digits=2)}"


def judge(document: Mapping[str, Any]) -> Json:
    """Recomputes the verdicts of a target's document.

    A row gets `interval`, `verdict` and `why`; a claim gets `verdict`, `why` and its test. The
    verdict of a row is None if there is nothing to compare.
    """
    by_label = {row["label"]: row for row in document["rows"]}
    rows = [row | number(row, _length(document, [row])) for row in document["rows"]]
    claims = []
    for claim in document["claims"]:
        of_claim = [by_label[label] for label in claim["rows"]]
        definition = {name: claim[name] for name in DEFINITION if name in claim}
        claims.append(definition | _claim(definition, of_claim, _length(document, of_claim)))
    return {**document, "rows": rows, "claims": claims}


def num_tests(document: Mapping[str, Any]) -> int:
    """Counts the tests in a judged document: intervals, gains and the steps of orders.

    A result of the budget quick has none, as it decides nothing.
    """
    if document["budget"] == "quick":
        return 0
    intervals = sum(one.get("interval") is not None for one in document["rows"])
    for claim in document["claims"]:
        is_order = claim["form"] in ("lowest", "falling")
        intervals += len(claim["rows"]) - 1 if is_order else claim.get("interval") is not None
    return intervals


def number(row: Mapping[str, Any], length: Length) -> Json:
    """Returns the interval, verdict and reason of a row."""
    values = list(row["values"].values())
    if not values:
        return {"interval": None, "verdict": None, "why": "not run"}
    if row["paper"] is None or row["tolerance"] is None:
        return {"interval": None, "verdict": None, "why": ""}
    ours = spread(values)
    off = ours.mean - row["paper"]
    half = welch(ours, of_paper(row))
    if half is None:
        words = f"{_difference(off, row['metric'])}; one run here and one in the paper"
        why = _join(words, length.words)
        return {"interval": None, "verdict": UNDECIDED, "why": why}
    found = Difference(off, half, ours.n, row["metric"])
    verdict, why = _within(found, 0.0, row["tolerance"], length)
    return {"interval": found.interval, "verdict": verdict, "why": why}


def of_paper(row: Mapping[str, Any]) -> Spread:
    """Returns the spread of the paper's number."""
    runs = row["paper_n"] or 1
    return Spread(runs, row["paper"], row["paper_sd"] if runs > 1 else None)


def within(mean: float, half: float, tolerance: float) -> str:
    """Returns the verdict of full runs on mean +- half, an interval around a difference."""
    if abs(mean) + half <= tolerance:
        return REPRODUCED
    return NOT_REPRODUCED if abs(mean) - half > tolerance else UNDECIDED


def refuted(mean: float, half: float, by: float) -> bool:
    """Returns whether full runs with a gain of mean +- half refute a gain of `by`, or any for 0."""
    return mean + half < max(by, 0.0) / 2


def worked_example(entry: Mapping[str, Any]) -> Json:
    """Returns the verdict and reason of a worked example's number, recomputed in numbers.json."""
    found = agreement(_digits(entry["value"]), entry["recomputed"])
    verdict = NOT_REPRODUCED if found == "wrong" else REPRODUCED
    why = {
        "right": "all digits are right",
        "truncated": "cut off instead of rounded",
        "wrong": "another number",
    }
    return {"verdict": verdict, "why": why[found]}


def agreement(printed: str, recomputed: ArrayLike) -> str:
    """Compares printed numbers, each to its own number of decimals, with exact ones.

    Args:
      printed: numbers with spaces between them, and "/" between rows of a matrix.
      recomputed: as many exact numbers.

    Returns:
      "right" if all are rounded, "truncated" if some are truncated instead, else "wrong".

    >>> agreement(".986 .007", [.98659, .0067]), agreement("9.042", 4.521)
    ('truncated', 'wrong')
    """
    texts = printed.replace("/", " ").split()
    values = np.asarray(recomputed, float).ravel()
    decimals = np.array([len(text.partition(".")[2]) for text in texts])
    # In units of the last decimal.
    shown, exact = np.array(texts, float) * 10.0**decimals, values * 10.0**decimals
    is_rounded = np.abs(shown - exact) <= 0.5 + 1e-9
    is_cut = np.abs(shown - np.trunc(exact)) <= 1e-6
    if is_rounded.all():
        return "right"
    return "truncated" if (is_rounded | is_cut).all() else "wrong"


def _digits(value: Any) -> str:
    """Returns the numbers of a number, row or matrix as text."""
    return " ".join(map(_digits, value)) if isinstance(value, list) else str(value)


def _claim(claim: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], length: Length) -> Json:
    missing = sum(not row["values"] for row in rows)
    if missing:
        why = _join(f"{missing} of {len(rows)} rows are not run", length.words)
        return {"verdict": UNDECIDED, "why": why}
    if claim["form"] in ("lowest", "falling"):
        return _order(claim["form"], rows, length)
    lower, higher = rows
    tested = paired(by_seed(higher), by_seed(lower))
    if tested is None:
        return {"verdict": UNDECIDED, "why": _join("the two share no seed", length.words)}
    found: Json = {"difference": _round(tested.mean), "test": _as_json(tested)}
    paper, own_text = ({}, "") if claim["form"] == "size" else _paper(lower, higher)
    half = paired_interval(tested)
    if half is None:
        words = f"{_difference(tested.mean, lower['metric'])} of one pair of runs"
        why = _join(words, length.words, own_text)
        return {**found, **paper, "verdict": UNDECIDED, "why": why}
    measured = Difference(tested.mean, half, tested.n, lower["metric"])
    if claim["form"] == "size":
        verdict, why = _within(measured, claim["by"], claim["tolerance"], length)
    else:
        by = paper.get("paper_difference", 0.0)
        verdict, why = _gain(tested, measured, by, length)
    why = _join(why, own_text)
    return {**found, **paper, "interval": measured.interval, "verdict": verdict, "why": why}


def _gain(tested: Paired, measured: Difference, by: float, length: Length) -> tuple[str, str]:
    verdict = _direction(tested, measured.half, by, length)
    p = "all are equal" if tested.t_p is None else f"p = {tested.t_p:.2g}"
    words = [f"{measured}, {p}"]
    if verdict == REPRODUCED and refuted(tested.mean, measured.half, by):
        words.append("the direction only, with less than half of the paper's gain")
    elif verdict == REPRODUCED and not length.full:
        words.append("the direction only")
    if verdict == UNDECIDED:
        words.append(measured.seen("gain", detectable(tested) or 0.0))
    return verdict, _join(*words, length.words)


def _direction(tested: Paired, half: float, by: float, length: Length) -> str:
    # Equal differences have no t statistic and an interval of width 0.
    significant = tested.t_p is None or tested.t_p < LEVEL
    if length.decides and significant and tested.mean > 0:
        return REPRODUCED
    if length.full and refuted(tested.mean, half, by):
        return NOT_REPRODUCED
    return UNDECIDED


def _within(found: Difference, by: float, tolerance: float, length: Length) -> tuple[str, str]:
    """Judges a difference that should be `by` within the tolerance."""
    verdict = within(found.mean - by, found.half, tolerance) if length.full else UNDECIDED
    about = found.in_points(tolerance) + (f" of {found.in_points(by)}" if by else "")
    if verdict == REPRODUCED:
        return verdict, f"{found}, within {about}"
    if verdict == NOT_REPRODUCED:
        return verdict, f"{found}, not within {about}"
    seen = found.seen("difference", found.half)
    return UNDECIDED, _join(f"{found}, to be within {about}", seen, length.words)


def _order(form: str, rows: Sequence[Mapping[str, Any]], length: Length) -> Json:
    """Judges that the first row is the lowest, or that each row is above the next."""
    pairs = steps(form, rows)
    verdicts = []
    for higher, lower in pairs:
        tested = paired(by_seed(higher), by_seed(lower))
        half = None if tested is None else paired_interval(tested)
        if tested is None or half is None:
            reason = "the rows share fewer than two seeds: an order cannot be tested"
            why = _join(reason, length.words)
            return {"verdict": UNDECIDED, "why": why}
        verdicts.append(_direction(tested, half, 0.0, length))
    held, against = verdicts.count(REPRODUCED), verdicts.count(NOT_REPRODUCED)
    verdict = UNDECIDED
    if against or held == len(pairs):
        verdict = NOT_REPRODUCED if against else REPRODUCED
    factor = percent_factor(rows[0]["metric"])
    means = [factor * spread(list(row["values"].values())).mean for row in rows]
    ends = f"{min(means):.4g} to {max(means):.4g} {unit_of(rows[0]['metric'])}"
    words = f"means from {ends}; {held} of {len(pairs)} steps are significant"
    if length.full:
        words += f", {against} against the claim"
    return {"verdict": verdict, "why": _join(words, length.words)}


def steps(form: str, rows: Sequence[Mapping[str, Any]]) -> list[tuple[Any, Any]]:
    """Returns the pairs of a higher and a lower row that an order claims."""
    return list(
        itertools.pairwise(rows) if form == "falling" else ((row, rows[0]) for row in rows[1:])
    )


def _paper(lower: Mapping[str, Any], higher: Mapping[str, Any]) -> tuple[Json, str]:
    """Returns the paper's difference as a document and as text; empty if it prints no numbers.

    If the paper prints every seed's value, the document also has the paired test.
    """
    if lower["paper"] is None or higher["paper"] is None:
        return {}, ""
    by = round(higher["paper"] - lower["paper"], 10)
    found: Json = {"paper_difference": by}
    own_text = f"the paper has {in_points(by, lower['metric'])}"
    first, second = (numbers.entry(row["id"]).get("per_seed", {}) for row in (higher, lower))
    tested = paired(by_seed({"values": first}), by_seed({"values": second}))
    if tested is not None and tested.t_p is not None:
        found["paper_test"] = _as_json(tested)
        own_text += f", p = {tested.t_p:.2g} of its {tested.n} seeds"
    return found, own_text


def _length(document: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Length:
    budget = document["budget"]
    trainings = [document["trainings"][row["training"]] for row in rows]
    return Length(budget == "paper", budget != "quick", shortness(budget, trainings))


def shortness(budget: str, trainings: Collection[Mapping[str, Any]]) -> str:
    """Returns "a short run, 4 of 100 epochs", "a quick run of 1 epoch", or "" for full runs."""
    epochs = [n for training in trainings for n in training["epochs"]]
    allowed = [training["paper_epochs"] for training in trainings]
    words = {
        "quick": f"a quick run of {epochs_in_words(epochs)}",
        "short": f"a short run, {epochs_in_words(epochs, allowed)}",
    }
    return words.get(budget, "")


def _difference(value: float, metric: str) -> str:
    """Returns "difference 1.2 points", or nats."""
    points = "points" if unit_of(metric) == "%" else unit_of(metric)
    return f"difference {in_points(value, metric)} {points}"


def in_points(value: float, metric: str, *, digits: int = 3) -> str:
    """Formats a difference of a metric, of rates in percentage points."""
    return f"{percent_factor(metric) * value:.{digits}g}"


def _join(*words: str) -> str:
    return "; ".join(filter(None, words))


def by_seed(row: Mapping[str, Any]) -> BySeed:
    """Returns a row's values."""
    return {int(seed): value for seed, value in row["values"].items()}


def _as_json(tested: Paired) -> Json:
    return {name: _round(value) for name, value in tested._asdict().items()}


def _round(value: float | None) -> float | None:
    """Rounds to four digits, which all versions of SciPy agree on."""
    return value if value is None or isinstance(value, int) else float(f"{value:.4g}")
