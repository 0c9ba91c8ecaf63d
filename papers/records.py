"""What a finished training has left, checked field by field before a comparison reads it."""

import reprlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from adv_jax.runner.config import replicas
from adv_jax.runner.workdir import read_json, read_metrics
from adv_jax.types import UserError

# What may change a result; the others are recorded only.
VERSIONS = ("adv_jax", "jax", "jaxlib", "flax", "optax")
Config = Mapping[str, Any]


class Kind(NamedTuple):
    """Values of a field: which are allowed, and the same in words."""

    allows: Callable[[Any], bool]
    words: str


def _is_number(value: Any) -> bool:
    """A finite one, also as a float: JSON has NaN, and whole numbers of any length."""
    return isinstance(value, int | float) and abs(value) <= sys.float_info.max


def _is_rate(value: Any) -> bool:
    return _is_number(value) and -1e-6 <= value <= 1 + 1e-6  # A float32 mean may be off so far.


def _is_text(value: Any) -> bool:
    """Of one line, in letters that a file can hold."""
    return isinstance(value, str) and value.isprintable()


_TEXT = Kind(_is_text, "a line of text")
_COUNT = Kind(lambda value: type(value) is int and value > 0, "a whole number of at least 1")
_NUMBER = Kind(_is_number, "a finite number")
_RATE = Kind(_is_rate, "a number in [0, 1]")
_OBJECT = Kind(lambda value: isinstance(value, dict), "an object")
_SUMS = Kind(
    lambda value: isinstance(value, dict) and all(map(_is_text, value.values())),
    "an object of SHA-256 sums",
)
_RESULT = {
    "experiment": _TEXT,
    "data.name": _TEXT,
    "data.source": _TEXT,
    "data.sha256": _SUMS,
    "data.sizes.train": _COUNT,
    "data.sizes.test": _COUNT,
    "evaluation": _OBJECT,
    "seconds": _NUMBER,
    "device": _TEXT,
    **{f"versions.{name}": _TEXT for name in VERSIONS},
    "git": Kind(lambda value: value is None or _is_text(value), "a commit or null"),
    "replicas": Kind(lambda value: isinstance(value, list), "a list"),
}
_REPLICA = {
    "seed": Kind(lambda value: type(value) is int, "a whole number"),
    "overrides": _OBJECT,
    "test_error": _RATE,
    "confidence": _RATE,
    "epochs": _COUNT,
}


def read_result(path: Path, config: Config) -> dict[str, Any]:
    """A result.json, with all that a row of a target may read of the run of a config.

    Raises:
      UserError: it is damaged, or of another run.
    """
    result = read_json(path)
    for name, kind in _RESULT.items():
        _check(path, result, name, kind)
    for replica in result["replicas"]:
        for name, kind in _REPLICA.items():
            _check(path, replica, name, kind)
    expected = [(replica.seed, replica.overrides) for replica in replicas(config)]
    found = [(replica["seed"], replica["overrides"]) for replica in result["replicas"]]
    named = result["experiment"]
    if named != config["experiment"] or found != expected:
        raise UserError(
            f"{path} is of {named} with {len(found)} replicas, not of the config beside it, "
            f"{config['experiment']} with {len(expected)}; allowed is the run's own result"
        )
    eps = list(config["evaluation"]["eps"])
    curves = Kind(
        lambda value: _is_table(value, len(expected), len(eps)),
        f"{len(expected)} lists of {len(eps)} numbers in [0, 1]",
    )
    for attack in config["evaluation"]["attacks"]:
        at = f"evaluation.{attack}"
        _check(path, result, f"{at}.eps", Kind(lambda value: value == eps, f"{eps}, as configured"))
        for measure in ("error", "confidence"):
            _check(path, result, f"{at}.{measure}", curves)
    return result


def read_lines(workdir: Path, config: Config, result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, all epochs that the result says each replica has trained.

    Raises:
      UserError: it is missing or damaged, or lines are.
    """
    path, lines = workdir / "metrics.jsonl", read_metrics(workdir)
    for line in lines:
        last = line["epoch"] == config["epochs"]
        measured = last or line["epoch"] % config["monitor_every"] == 0
        for name in {*line, "loss", *(("test_error",) if measured else ())}:
            _check(path, line, name, _RATE if name == "test_error" else _NUMBER)
    for i, replica in enumerate(result["replicas"]):
        own = [line["epoch"] for line in lines if line["replica"] == i]
        if len(own) != replica["epochs"] or own != list(range(1, len(own) + 1)):
            raise UserError(
                f"{path} has {len(own)} lines of replica {i}; allowed are those of epochs 1 to "
                f"{replica['epochs']}, which result.json says it has trained"
            )
    return lines


def _is_table(value: Any, rows: int, columns: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) == rows
        and all(isinstance(row, list) and len(row) == columns for row in value)
        and all(_is_rate(entry) for row in value for entry in row)
    )


def _check(path: Path, document: Any, name: str, kind: Kind) -> None:
    """Refuses what is not of a kind at a.b of a part of a file.

    Raises:
      UserError: it is not, or there is none.
    """
    for key in name.split("."):
        if not isinstance(document, Mapping) or key not in document:
            raise UserError(f"{path} is not the result of a run: {name} is missing")
        document = document[key]
    if not kind.allows(document):
        found = reprlib.repr(document)
        raise UserError(f"{path} is damaged: {name} is {found}; allowed is {kind.words}")
