"""What is to be reproduced: each table or figure of a paper as a small piece of data.

To add a table, add a `Target` to the tuple `TARGETS` of `papers/PAPER/targets.py`:

    Target(
        "huang2015.table1",                               # PAPER.PLACE, what the command line takes
        "MLPs on MNIST under attacks of l2 norm 1.5",
        rows=(
            Row(
                "LWA, clean",                             # unique in the target
                Run("huang_mlp_mnist", "method=lwa"),     # configs/huang_mlp_mnist.py:method=lwa
                paper="huang2015.table1.lwa.validation",  # an id of papers/huang2015/numbers.json
                tolerance=0.004,                          # what counts as equal
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

Where a run needs the model of another, as `fixed={source}` does, `source` is that other run.

A row's value is that of result.json at `measure`, for the replicas whose overrides are `at` (of a
grid), in the metric of the paper's entry. `tests/papers/test_targets.py` builds every target: it
finds an unknown id, config, option or label, an attack or eps that the config does not evaluate,
and a point that its grid does not have.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

_NOTHING: Mapping[str, Any] = MappingProxyType({})

# metric of a paper's entry -> the same of an error rate or of a confidence, both fractions
METRICS = {
    "error_percent": lambda error: 100 * error,
    "error": lambda error: error,
    "accuracy_percent": lambda error: 100 - 100 * error,
    "accuracy": lambda error: 1 - error,
    "confidence": lambda confidence: confidence,
    "sparsity_percent (fraction of exact zeros)": lambda zeros: 100 * zeros,
}


class Run(NamedTuple):
    """A training: configs/CONFIG.py with its options, and fields that differ {path: value}.

    source: another training, whose workdir stands where `options` has {source}.
    """

    config: str
    options: str = ""
    values: Mapping[str, Any] = _NOTHING
    source: "Run | None" = None

    @property
    def key(self) -> str:
        """The same for the same training."""
        values = "".join(f" {path}={value!r}" for path, value in self.values.items())
        source = f" on {self.source.key}" if self.source else ""
        return f"{self.config}:{self.options}{values}{source}"


class Measure(NamedTuple):
    """Where in result.json a number stands.

    what: "error", "confidence" or another measure of `evaluation`.
    attack, eps: of `evaluation`; None for clean inputs.
    last: the mean over so many last epochs, of clean inputs; 0: the final (or best) model's.
    """

    what: str = "error"
    attack: str | None = None
    eps: float | None = None
    last: int = 0


class Drawn(NamedTuple):
    """Where a number stands that takes several runs: in the report's figure of the target's name.

    The figure is drawn of all runs of the target.

    name: in "by_seed" of its document.
    """

    name: str


class Row(NamedTuple):
    """One number: the paper's, and which of our runs to read ours from.

    label: unique in the target.
    run: what is trained.
    paper: id of the paper's number; None: it prints none.
    tolerance: what counts as equal to the paper's value, in its unit; None: not compared.
    measure: where in result.json ours stands, or in the document of a figure.
    at: the point of the run's grid {path: value}.
    metric: ours is given in, where the paper prints none.
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

    text: the claim, in our words.
    lower, higher: labels of rows.
    paper: id of the claim, if the paper states it.
    by: where the claim is a size, that size in the rows' unit, and `tolerance` what counts as
      equal; else the claim is a gain of any size. The rules: `papers.verdicts`.
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
        """Where its JSON lies in a folder that is laid out as papers/."""
        return Path(results) / self.paper / "results" / f"{self.name.partition('.')[2]}.json"

    @property
    def is_drawn(self) -> bool:
        """Whether a row needs the report's figure."""
        return any(isinstance(row.measure, Drawn) for row in self.rows)

    @property
    def runs(self) -> list[Run]:
        """What is trained, each once, and a source before what needs it."""
        runs = [run for row in self.rows for run in (row.run.source, row.run) if run is not None]
        return list({run.key: run for run in runs}.values())
