"""Schemas of the documents that results are kept in, the one check against them, and their data.

Fields besides those named here are allowed. A check leaves the document as it is.
"""

import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from adv_jax.types import UserError
from papers.judging.metrics import METRICS

Entry = TypeVar("Entry")
# SHA-256 of test_batch.bin in the copy of CIFAR-10 whose images went through JPEG.
_JPEG = "04f67814"
_NAMES = {"mnist": "MNIST", "cifar10": "CIFAR-10", "covtype": "Covertype"}
_WHOLE = {"mnist": 60_000, "cifar10": 50_000}  # training images


def _check_line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("one line of printable text")
    return text


def _check_rate(value: float) -> float:
    if not -1e-6 <= value <= 1 + 1e-6:  # The mean of a float32 array can be this far outside.
        raise ValueError("in [0, 1]")
    return value


Form = Literal["gain", "size", "no loss", "lowest", "falling"]  # of a claim
Line = Annotated[str, AfterValidator(_check_line)]
Count = Annotated[int, Field(ge=1)]
Number = Annotated[float, Field(allow_inf_nan=False)]  # A plain float may be NaN.
Rate = Annotated[float, AfterValidator(_check_rate)]
Size = Annotated[Number, Field(ge=0)]
NonEmpty = Annotated[list[Entry], Field(min_length=1)]


class Schema(BaseModel, strict=True):
    """An object of JSON, in which True and "1" are not numbers.

    `__pydantic_extra__` types the fields that a schema does not name.
    """


class Versions(Schema, extra="allow"):
    """The packages that may change a result; others are only recorded."""

    __pydantic_extra__: dict[str, Line]  # pyrefly: ignore
    adv_jax: Line
    jax: Line
    jaxlib: Line
    flax: Line
    optax: Line


VERSIONS = tuple(Versions.model_fields)


class Sizes(Schema, extra="allow"):
    """The numbers of examples by split."""

    __pydantic_extra__: dict[str, Number]  # pyrefly: ignore
    train: Count
    test: Count


class Data(Schema):
    """The data of a run."""

    name: Line
    source: Line
    sha256: dict[str, Line]
    sizes: Sizes


class Provenance(Schema):
    """On which data and with which programs something was trained."""

    experiment: Line
    data: Data
    seconds: Size
    versions: Versions
    git: Line | None


class ReplicaDocument(Schema):
    """One replica of a run."""

    seed: int
    overrides: dict[str, Any]
    test_error: Rate
    confidence: Rate
    epochs: Count


class LossReplicaDocument(Schema):
    """One replica of a run of a model without classes."""

    seed: int
    overrides: dict[str, Any]
    test_loss: Number
    epochs: Count


class Attacked(Schema):
    """One attack of a run, by replica and eps."""

    eps: list[Number]
    error: list[list[Rate]]
    confidence: list[list[Rate]] = []  # Without it is only the worst case over the attacks.


class ResultDocument(Provenance):
    """result.json."""

    device: Line
    replicas: NonEmpty[ReplicaDocument]
    evaluation: dict[str, Attacked]


class LossResultDocument(Provenance):
    """result.json of a model without classes."""

    device: Line
    replicas: NonEmpty[LossReplicaDocument]


class MetricsLine(Schema, extra="allow"):
    """A line of metrics.jsonl; its other fields are numbers too."""

    __pydantic_extra__: dict[str, Number]  # pyrefly: ignore
    epoch: int
    replica: int
    loss: Number
    test_error: Rate = 0.0


class MeasuredMetricsLine(MetricsLine):
    """A line of metrics.jsonl of an epoch that ends with a measurement."""

    test_error: Rate


class MeasuredLossLine(MetricsLine):
    """A line of metrics.jsonl of a model without classes, of an epoch with a measurement."""

    test_loss: Number


class RowDocument(Schema):
    """A row of a target."""

    label: Line
    id: Line | None
    metric: Literal[*METRICS]  # pyrefly: ignore
    paper: Number | None
    paper_sd: Size | None
    paper_n: Number | None
    mean: Number | None
    sd: Size | None
    n: Number
    values: dict[str, Number]
    difference: Number | None
    tolerance: Number | None
    training: Line


class ClaimDocument(Schema):
    """A claim of a target; its verdict is computed from the rows whenever it is read.

    rows: labels; in a gain, a size or a claim of no loss the lower and the higher.
    """

    text: Line
    id: Line | None
    form: Form
    rows: NonEmpty[Line]
    by: Number = 0
    tolerance: Number = 0


class ConfigDocument(Schema):
    """The config of a training."""

    data: dict[str, Any]
    epochs: Number


class CurveDocument(Schema):
    """A measure of a training over its epochs; that of a run that diverged has NaN."""

    epoch: NonEmpty[Number]
    mean: NonEmpty[float]
    low: NonEmpty[float]
    high: NonEmpty[float]


class TrainingDocument(Provenance):
    """A training of a target."""

    device: Line | None
    file: Line
    command: Line
    config: ConfigDocument
    seeds: NonEmpty[Number]
    replicas: Number
    epochs: NonEmpty[Number]
    paper_epochs: Number
    paper_seeds: Number = 0  # Unknown in results of earlier versions.
    learning: dict[str, CurveDocument]


class TargetDocument(Schema):
    """The comparison that `launch.reproduce` writes."""

    target: Line
    paper: Line
    title: Line
    budget: Line
    rows: NonEmpty[RowDocument]
    claims: list[ClaimDocument]
    trainings: dict[str, TrainingDocument]


class StoredRow(Schema):
    """The fields of a row from which the others are computed again."""

    label: Line
    values: dict[str, Number]
    training: Line


class StoredTraining(Schema):
    """The fields of a training that verdicts and headings depend on."""

    data: Data
    epochs: NonEmpty[Number]


class Stored(Schema):
    """The fields of a target that verdicts depend on, which earlier versions have written too."""

    target: Line
    budget: Line
    rows: NonEmpty[StoredRow]
    trainings: dict[str, StoredTraining]


class FigureDocument(Schema):
    """The document that `python -m adv_jax.report PAPER.FIGURE` writes."""

    paper: Line
    figure: Line
    caption: str


def is_meant(document: Any, schema: type[Schema]) -> bool:
    """Returns whether a document has the fields of a schema; one may be missing or misspelled."""
    if not isinstance(document, Mapping):
        return False
    required = {name for name, field in schema.model_fields.items() if field.is_required()}
    return len(required - document.keys()) <= 1


def check_schema(path: Path, document: Any, schema: type[Schema]) -> None:
    """Refuses a document that does not fit a schema.

    Raises:
      UserError: names the file, the field, what is allowed there and the value.
    """
    try:
        schema.model_validate(document)
    except ValidationError as error:
        flaw = error.errors(include_url=False)[0]
        field = ".".join(_printable(part) for part in flaw["loc"]) or "the document"
        allowed = _WORDS.get(flaw["type"]) or flaw["msg"].removeprefix("Input should be ")
        found = "none" if flaw["type"] == "missing" else reprlib.repr(flaw["input"])
        raise UserError(
            f"{path}: {field} must be {allowed.removeprefix('Value error, ')}, got {found}"
        ) from None


# In place of pydantic's words, which are Python's or no predicate of "must be".
_WORDS = {
    "missing": "given",
    "dict_type": "an object",
    "model_type": "an object",
    "list_type": "a list",
    "too_short": "a list of at least one entry",
    "float_type": "a finite number",
    "int_type": "a whole number",
    "string_type": "a text",
}


def _printable(part: str | int) -> str:
    return str(part) if str(part).isprintable() else ascii(part)


def data_in_words(data: Mapping[str, Any]) -> str:
    """Returns the name of a data set, with "sample" or "copy" where it is one."""
    name = _NAMES.get(data["name"], data["name"])
    if data["source"] == "embedded":
        return f"the 5,000-digit sample of {name}"
    if data["sha256"].get("test_batch.bin", "").startswith(_JPEG):
        return "the JPEG copy of CIFAR-10"
    trained, held_out = data["sizes"]["train"], data["sizes"].get("valid", 0)
    is_whole = trained + held_out == _WHOLE.get(data["name"])
    if is_whole and not held_out:
        return f"full {name}"
    return f"{'full ' if is_whole else ''}{name}, {trained:,} to train"
