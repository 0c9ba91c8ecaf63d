"""Data types for the targets: the tables and figures of papers to reproduce.

To add a table, add a `Target` to the tuple `TARGETS` of `papers/PAPER/targets.py`:

    Target(
        "huang2015.table1",                               # PAPER.PLACE, what the command line takes
        "MLPs on MNIST under attacks of l2 norm 1.5",
        rows=(
            Row(
                "LWA, clean",                             # unique in the target
                Run("huang_mlp_mnist", "method=lwa"),     # configs/huang_mlp_mnist.py:method=lwa
                id="huang2015.table1.lwa.validation",     # an id of papers/huang2015/numbers.json
                tolerance=0.004,                          # largest difference that counts as equal
            ),
            Row(
                "LWA, Adv_Loss",
                Run("huang_mlp_mnist", "method=lwa"),     # the same run is trained once
                measure=Measure("error", attack="adv_loss", eps=1.5),
                id="huang2015.table1.lwa.loss",
                tolerance=0.03,
            ),
            ...
        ),
        claims=(
            Claim("LWA resists better than Goodfellow's mix", "gain",
                  ("mix, Adv_Loss", "LWA, Adv_Loss"),       # the lower and the higher
                  id="huang2015.table1.claim_loss_gain"),
        ),
    )

If the options of a run contain {source}, `source` is the run whose workdir replaces it.

A row's value is read from result.json at `measure`, for the replicas whose overrides are `at`, and
converted to the metric of the paper's entry. `tests/papers/running/test_targets.py` checks every
target for unknown ids, configs, options, labels, attacks, eps and grid points.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from papers.judging.documents import Form

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Run(NamedTuple):
    """A training.

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

    name: key of "by_seed" in the figure's document.
    """

    name: str


class Row(NamedTuple):
    """One number of the paper, and the run that measures it.

    label: unique in the target.
    run: the training.
    id: of the paper's number; None if the paper prints none.
    tolerance: largest difference that counts as equal, in the paper's unit; None to not compare.
    measure: place of our number in result.json or in the document of a figure.
    at: point of the run's grid, {path: value}.
    metric: metric of our number, if the paper prints none.
    """

    label: str
    run: Run
    id: str | None = None
    tolerance: float | None = None
    measure: Measure | Drawn = Measure()
    at: Mapping[str, float] = _NOTHING
    metric: str = "error_percent"


class Claim(NamedTuple):
    """A claim on the order of rows, or on the difference of two.

    papers/README.md#verdicts has the rules.

    text: the claim in our words.
    form: "gain" (one row is below another), "size" (by this much), "no loss" (a row is not lower
      than another by more than a margin), "lowest" (a row is below all others) or "falling".
    rows: labels: of a gain, a size or no loss the lower and the higher; the lowest first; or
      falling.
    id: of the claim, if the paper states it.
    by: the claimed difference, in the rows' unit; 0 for no loss, None for other forms.
    tolerance: largest deviation from `by` that counts as equal, or the margin.
    """

    text: str
    form: Form
    rows: tuple[str, ...]
    id: str | None = None
    by: float | None = None
    tolerance: float | None = None

    @property
    def document(self) -> dict[str, Any]:
        """The definition of the claim for `judge`."""
        size = {} if self.by is None else {"by": self.by, "tolerance": self.tolerance}
        said = {"text": self.text, "id": self.id}
        return {**said, "form": self.form, "rows": list(self.rows), **size}


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
