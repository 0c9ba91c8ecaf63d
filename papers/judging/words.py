"""The words of verdicts, and the words of their reasons.

Two axes, never mixed: how far something was run, and, if it was run in full, what was found.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from papers.judging.metrics import METRICS, printed_interval
from papers.judging.statistics import Error

FULL, SHORT, QUICK, NOT_RUN = "full", "short", "quick", "not run"
FINDINGS = ("reproduced", "consistent", "same direction", "not reproduced", "unclear")
REPRODUCED, CONSISTENT, SAME_DIRECTION, NOT_REPRODUCED, UNCLEAR = FINDINGS
RIGHT, WRONG = "right", "wrong"  # of arithmetic, which is counted apart

_BUDGETS = {"paper": FULL, "short": SHORT, "quick": QUICK}


class Length(NamedTuple):
    """The extent of the runs of a row or a claim.

    extent: FULL, SHORT, QUICK or NOT_RUN.
    words: why they are not full; "" for full runs.
    """

    extent: str
    words: str


def length_of(budget: str, trainings: Collection[Mapping[str, Any]]) -> Length:
    """Returns the length of the runs of a document with this budget."""
    return Length(extent_of(budget), shortness(budget, trainings))


def extent_of(budget: str) -> str:
    """Returns how far a budget runs a training, FULL, SHORT or QUICK."""
    return _BUDGETS.get(budget, QUICK)


def shortness(budget: str, trainings: Collection[Mapping[str, Any]]) -> str:
    """Returns "a short run, 4 of 100 epochs", "a quick run of 1 epoch", or "" for full runs.

    A short run that stops early does so after a shorter patience than the paper's, which is named.
    """
    epochs = [n for training in trainings for n in training["epochs"]]
    allowed = [training["paper_epochs"] for training in trainings]
    patience = {training.get("config", {}).get("patience") for training in trainings}
    stops = f", patience {span(found)}" if (found := patience - {None, 0}) else ""
    words = {
        "quick": f"a quick run of {epochs_in_words(epochs)}",
        "short": f"a short run, {epochs_in_words(epochs, allowed)}{stops}",
    }
    return words.get(budget, "")


class Difference(NamedTuple):
    """A difference over seeds, in the unit of its metric.

    mean: its mean.
    error: its error; None if no side has a spread.
    n: number of seeds.
    metric: key of `METRICS`.
    """

    mean: float
    error: Error | None
    n: int
    metric: str

    @property
    def interval(self) -> list[float | None] | None:
        """The 95 % interval for documents."""
        if self.error is None:
            return None
        half = self.error.half(0.95)
        return [four_digits(self.mean - half), four_digits(self.mean + half)]

    def __str__(self) -> str:
        unit = METRICS[self.metric].unit
        points = "points" if unit == "%" else unit
        seeds = f"{self.n} seed{'s' if self.n > 1 else ''}"
        text = f"difference {in_points(self.mean, self.metric)} {points} over {seeds}"
        low, high = self.interval or (0.0, 0.0)
        if ends := printed_interval(low or 0.0, high or 0.0, self.metric):
            text += f", 95 % interval {ends[0]:.3g} to {ends[1]:.3g}"
        return text


def in_points(value: float, metric: str) -> str:
    """Formats a difference of a metric, of rates in percentage points."""
    return f"{METRICS[metric].factor * value:.3g}"


def span(numbers: Collection[int]) -> str:
    """Formats the range of numbers: "30 to 150", or "30" if all are equal."""
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low} to {high}"


def seeds_in_words(seeds: Sequence[int]) -> str:
    """Returns "seed 1", "seeds 1, 3" or, for more than two in a row, "seeds 1 to 5"."""
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"seeds {seeds[0]} to {seeds[-1]}"
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def epochs_in_words(epochs: Collection[int], allowed: Collection[int] = ()) -> str:
    """Returns "1 epoch", a range, "30 to 150 epochs", or of a short run "4 of 100 epochs"."""
    if allowed:
        return f"{span(epochs)} of {epochs_in_words(allowed)}"
    return f"{span(epochs)} epoch{'s' if max(epochs) > 1 else ''}"


def joined(*words: str) -> str:
    """Returns the words that are not empty, with semicolons."""
    return "; ".join(filter(None, words))


def capitalized(text: str) -> str:
    """Returns a text with its first letter in upper case; the others stay."""
    return f"{text[:1].upper()}{text[1:]}"


def four_digits(value: float | None) -> float | None:
    """Rounds to four digits, which all versions of SciPy agree on."""
    return value if value is None or isinstance(value, int) else float(f"{value:.4g}")
