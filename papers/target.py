"""Data types for the targets: the tables and figures of papers to reproduce.

To add a table, add a `Target` to the tuple `TARGETS` of `papers/PAPER/targets.py`:

    Target(
        "huang2015.table1",                               # PAPER.PLACE, what the command line takes
        "MLPs on MNIST under attacks of l2 norm 1.5",
        rows=(
            Row(
                "LWA, clean",                             # unique in the target
                Run("huang_mlp_mnist", "method=lwa"),     # configs/huang_mlp_mnist.py:method=lwa
                paper="huang2015.table1.lwa.validation",  # an id of papers/huang2015/numbers.json
                tolerance=0.004,                          # largest difference that counts as equal
            ),
            Row(
                "LWA, Adv_Loss",
                Run("huang_mlp_mnist", "method=lwa"),     # the same run is trained once
                measure=Measure("error", attack="adv_loss", eps=1.5),
                paper="huang2015.table1.lwa.loss",
                tolerance=0.03,
            ),
            ...
        ),
        claims=(
            Below("LWA resists better than Goodfellow's mix", lower="mix, Adv_Loss",
                  higher="LWA, Adv_Loss", paper="huang2015.table1.claim_loss_gain"),
        ),
    )

If the options of a run contain {source}, `source` is the run whose workdir replaces it.

A row's value is read from result.json at `measure`, for the replicas whose overrides are `at`, and
converted to the metric of the paper's entry. `tests/papers/test_targets.py` checks every target for
unknown ids, configs, options, labels, attacks, eps and grid points.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

_NOTHING: Mapping[str, Any] = MappingProxyType({})

# metric of a paper's entry -> its conversion from an error rate or a confidence, both fractions
METRICS = {
    "error_percent": lambda error: 100 * error,
    "error": lambda error: error,
    "accuracy_percent": lambda error: 100 - 100 * error,
    "accuracy": lambda error: 1 - error,
    "confidence": lambda confidence: confidence,
    "sparsity_percent (fraction of exact zeros)": lambda zeros: 100 * zeros,
    "log_likelihood_nats": lambda nats: nats,
}

# Fields of a row of a document that are in the unit of its metric.
_IN_METRIC = ("paper", "paper_sd", "mean", "sd", "difference", "tolerance")


def percent_factor(metric: str) -> int:
    """Returns the factor from the unit of a metric to that of print: 100 for fractions, else 1."""
    return 1 if "percent" in metric or "nats" in metric else 100


def unit_of(metric: str) -> str:
    """Returns the unit in which a metric is printed."""
    return "nats" if "nats" in metric else "%"


def printed_interval(low: float, high: float, metric: str) -> tuple[float, float] | None:
    """Returns an interval of a difference in the unit of print, of rates within 100 points.

    None if it says nothing: its half is as wide as rates can differ, as that of two seeds mostly
    is, or its width is 0, as that of seeds that agree.

    >>> printed_interval(-0.2, 0.1, "error"), printed_interval(9.5, 9.5, "error_percent")
    ((-20.0, 10.0), None)
    """
    if low == high or not is_possible((high - low) / 2, metric):
        return None
    ends = [percent_factor(metric) * end for end in (low, high)]
    most = 100.0 if unit_of(metric) == "%" else math.inf
    return max(ends[0], -most), min(ends[1], most)


def is_possible(size: float, metric: str) -> bool:
    """Returns whether two values can differ by so much; of rates it is less than 100 points."""
    return unit_of(metric) != "%" or percent_factor(metric) * size < 100


def in_percent(row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a judged row of a document with its fractions in percent, for printing."""
    factor = percent_factor(row["metric"])

    def scaled(value: float | None) -> float | None:
        return None if value is None else round(factor * value, 10)

    return {
        **row,
        **{name: scaled(row[name]) for name in _IN_METRIC},
        "interval": row["interval"] and [scaled(end) for end in row["interval"]],
        "values": {seed: scaled(value) for seed, value in row["values"].items()},
    }


class Run(NamedTuple):
    """A training.

    Attributes:
      config: configs/CONFIG.py.
      options: its options.
      values: changed fields, {path: value}.
      source: the training whose workdir replaces {source} in `options`.
    """

    config: str
    options: str = ""
    values: Mapping[str, Any] = _NOTHING
    source: "Run | None" = None

    @property
    def key(self) -> str:
        """A key that is equal for equal trainings."""
        values = "".join(f" {path}={value!r}" for path, value in self.values.items())
        source = f" on {self.source.key}" if self.source else ""
        return f"{self.config}:{self.options}{values}{source}"

    def with_sources(self) -> "list[Run]":
        """Returns the source, with its own sources before it, and the run."""
        return [*(self.source.with_sources() if self.source else []), self]


class Measure(NamedTuple):
    """The place of a number in result.json.

    Attributes:
      what: "error", "confidence" or another measure of `evaluation`.
      attack, eps: keys of `evaluation`; None for clean inputs.
      last: number of last epochs to average, for clean inputs; 0 for the final (or best) model.
    """

    what: str = "error"
    attack: str | None = None
    eps: float | None = None
    last: int = 0


class Drawn(NamedTuple):
    """The place of a number in the figure of the target's name, drawn from all its runs.

    Attributes:
      name: key of "by_seed" in the figure's document.
    """

    name: str


class Row(NamedTuple):
    """One number of the paper, and the run that measures it.

    Attributes:
      label: unique in the target.
      run: the training.
      paper: id of the paper's number; None if the paper prints none.
      tolerance: largest difference that counts as equal, in the paper's unit; None to not compare.
      measure: place of our number in result.json or in the document of a figure.
      at: point of the run's grid, {path: value}.
      metric: metric of our number, if the paper prints none.
    """

    label: str
    run: Run
    paper: str | None = None
    tolerance: float | None = None
    measure: Measure | Drawn = Measure()
    at: Mapping[str, float] = _NOTHING
    metric: str = "error_percent"


class Below(NamedTuple):
    """The claim that one row's values are lower than another's, paired by seed.

    See `papers.verdicts` for the rules.

    Attributes:
      text: the claim in our words.
      lower, higher: labels of rows.
      paper: id of the claim, if the paper states it.
      by: the claimed difference, in the rows' unit; None for a difference of any size.
      tolerance: largest deviation from `by` that counts as equal.
    """

    text: str
    lower: str
    higher: str
    paper: str | None = None
    by: float | None = None
    tolerance: float | None = None


class Lowest(NamedTuple):
    """The claim that one row's mean is the lowest of all rows, or of those named."""

    text: str
    row: str
    among: tuple[str, ...] = ()
    paper: str | None = None


class Falling(NamedTuple):
    """The claim that the means of rows fall in this order."""

    text: str
    rows: tuple[str, ...]
    paper: str | None = None


Claim = Below | Lowest | Falling


class Target(NamedTuple):
    """A table or figure of a paper."""

    name: str
    title: str
    rows: tuple[Row, ...]
    claims: tuple[Claim, ...] = ()

    @property
    def paper(self) -> str:
        """The paper's name."""
        return self.name.partition(".")[0]

    def file(self, results: str | Path) -> Path:
        """Returns the path of its JSON in a folder with the layout of papers/."""
        return Path(results) / self.paper / "results" / f"{self.name.partition('.')[2]}.json"

    @property
    def is_drawn(self) -> bool:
        """Whether a row needs the target's figure."""
        return any(isinstance(row.measure, Drawn) for row in self.rows)

    @property
    def runs(self) -> list[Run]:
        """All trainings without duplicates; a source precedes the runs that need it."""
        runs = [run for row in self.rows for run in row.run.with_sources()]
        return list({run.key: run for run in runs}.values())
