"""What the book needs of the documents that it reads: the names of their fields, and the kinds.

A list has an entry at least, a Sequence may have none. Documents may have fields besides.
"""

import reprlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import (
    Any,
    Literal,
    NotRequired,
    TypedDict,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from adv_jax.runner import schema
from adv_jax.types import UserError

Number = int  # Of `kinds`, which takes other finite numbers for it too; a float may be NaN.


class Data(TypedDict):
    """Of a run or a training."""

    name: str
    source: str
    sha256: dict[str, str]
    sizes: dict[str, Number]


class Replica(TypedDict):
    """Of a run."""

    seed: Number
    test_error: Number
    epochs: Number


class Run(TypedDict):
    """result.json."""

    experiment: str
    data: Data
    replicas: list[Replica]
    evaluation: dict[str, Any]
    seconds: Number
    versions: dict[str, str]
    device: NotRequired[str | None]
    git: NotRequired[str | None]


class Row(TypedDict):
    """Of a target."""

    label: str
    id: str | None
    metric: Literal[
        "error_percent",
        "error",
        "accuracy_percent",
        "accuracy",
        "confidence",
        "sparsity_percent (fraction of exact zeros)",
    ]
    paper: Number | None
    paper_sd: Number | None
    paper_n: Number | None
    mean: Number | None
    sd: Number | None
    n: Number
    values: dict[str, Number]
    difference: Number | None
    tolerance: Number | None
    training: str


class Claim(TypedDict):
    """Of a target; its verdict is made of the rows when it is read.

    rows: labels, of a gain or a size the lower and the higher.
    """

    text: str
    id: str | None
    form: Literal["gain", "size", "lowest", "falling"]
    rows: list[str]
    by: NotRequired[Number]
    tolerance: NotRequired[Number]


class Config(TypedDict):
    """Of a training."""

    data: dict[str, Any]
    epochs: Number


class Curve(TypedDict):
    """Of a training over its epochs; a run that diverged has NaN."""

    epoch: list[Number]
    mean: list[float]
    low: list[float]
    high: list[float]


class Training(TypedDict):
    """Of a target."""

    experiment: str
    data: Data
    seconds: Number
    device: str | None
    versions: dict[str, str]
    git: str | None
    file: str
    command: str
    config: Config
    seeds: list[Number]
    replicas: Number
    epochs: list[Number]
    paper_epochs: Number
    learning: dict[str, Curve]


class Target(TypedDict):
    """What `launch.reproduce` writes."""

    target: str
    paper: str
    title: str
    budget: str
    rows: list[Row]
    claims: Sequence[Claim]
    trainings: dict[str, Training]


class StoredRow(TypedDict):
    """What a row is made of again."""

    label: str
    values: dict[str, Number]


class StoredTraining(TypedDict):
    """What a training is judged by."""

    epochs: list[Number]


class Stored(TypedDict):
    """What the verdicts of a target are made of, in documents of earlier versions too."""

    target: str
    budget: str
    rows: list[StoredRow]
    trainings: dict[str, StoredTraining]


class Figure(TypedDict):
    """What `python -m adv_jax.report PAPER.FIGURE` writes."""

    paper: str
    figure: str
    caption: str


def is_meant(document: Any, kind: Any) -> bool:
    """Whether a document is of a kind, of which a field may be missing or misspelt."""
    return isinstance(document, dict) and len(kind.__required_keys__ - document.keys()) <= 1


def check(path: Path, document: Any, kind: Any) -> None:
    """Refuses a document with a field that is missing or of another kind.

    Raises:
      UserError: names the file and the field.
    """
    for flaw in _flaws(document, kind, ""):
        raise UserError(f"{path} is damaged: {flaw}")


def _flaws(value: Any, kind: Any, field: str) -> Iterator[str]:
    if allowed := _allowed_instead(value, kind):
        yield f"{field} is {reprlib.repr(value)}; allowed are {allowed}"
        return
    for name, part in _parts(value, kind).items():
        place = f"{field}.{name}".lstrip(".")
        if isinstance(value, dict) and name not in value:
            yield f"{place} is missing"
        else:
            yield from _flaws(value[name], part, place)


def _allowed_instead(value: Any, kind: Any) -> str:
    """What a value should be, in words; "" if it is that, its parts aside."""
    if is_typeddict(kind) or get_origin(kind) is dict:
        return "" if isinstance(value, dict) else "objects of JSON"
    if get_origin(kind) is list:
        return "" if isinstance(value, list) and value else "lists of at least one entry"
    if get_origin(kind) is Sequence:
        return "" if isinstance(value, list) else "lists"
    return "" if schema.fits(value, kind) else schema.described(kind)


def _parts(value: Any, kind: Any) -> dict[Any, Any]:
    """Name or index -> kind, of all that a value must or does have."""
    if is_typeddict(kind):
        hints = get_type_hints(kind)
        optional = kind.__optional_keys__ - value.keys()
        return {name: part for name, part in hints.items() if name not in optional}
    if get_origin(kind) is dict:
        return dict.fromkeys(value, get_args(kind)[1])
    if get_origin(kind) in (list, Sequence):
        return dict.fromkeys(range(len(value)), get_args(kind)[0])
    return {}
