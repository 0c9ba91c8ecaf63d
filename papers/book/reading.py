"""What a folder of results holds, and what is refused there."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from adv_jax.runner.workdir import read_json
from adv_jax.types import UserError
from papers import numbers
from papers.book import documents
from papers.budget import BUDGETS
from papers.verdicts import judged


class Found(NamedTuple):
    """Documents by the path of their file.

    targets: of `launch.reproduce`.
    runs: result.json of single runs.
    figures: of papers, drawn again.
    root: the folder; files: all documents by their paths in it.
    """

    targets: dict[Path, dict[str, Any]]
    runs: dict[Path, dict[str, Any]]
    figures: dict[Path, dict[str, Any]]
    root: Path = Path()
    files: Mapping[str, dict[str, Any]] = MappingProxyType({})


def read(folder: str | Path) -> Found:
    """All results in a folder and in its folders; JSON of another kind (benchmarks) is left out.

    The verdicts that a target has are made anew of its values.

    Raises:
      UserError: there is no such folder, a file is damaged (the field is named), or a result does
        not fit to the papers' numbers or to the other results.
    """
    root = Path(folder)
    if not root.is_dir():
        raise UserError(f"results is {root}; allowed is a folder of results")
    found = Found({}, {}, {})
    for path in sorted(root.rglob("*.json"), key=_natural):
        document = read_json(path)
        needed = (documents.Target, documents.Run, documents.Figure)
        for of_kind, kind in zip(found[:3], needed, strict=True):
            if documents.is_meant(document, kind):
                documents.check(path, document, kind)
                of_kind[path] = document
                break
    for path, document in found.targets.items():
        _check_target(path, document)
        found.targets[path] = judged(document)
    _check_alike(found.targets)
    files = {
        path.relative_to(root).as_posix(): document
        for of_kind in found[:3]
        for path, document in of_kind.items()
    }
    return found._replace(root=root, files=files)


def _check_target(path: Path, document: Mapping[str, Any]) -> None:
    """Refuses a result of an unknown budget, or compared with other numbers than are packaged."""
    if document["budget"] not in BUDGETS:
        allowed = ", ".join(BUDGETS)
        raise UserError(f"{path} is of the budget {document['budget']!r}; allowed are {allowed}")
    if document["paper"] not in numbers.load():
        allowed = ", ".join(numbers.load())
        raise UserError(f"{path} is of the paper {document['paper']!r}; allowed are {allowed}")
    labels = {row["label"] for row in document["rows"]}
    named = {label for claim in document["claims"] for label in claim["rows"]}
    trained = {row["training"] for row in document["rows"]}
    if lacking := sorted(named - labels) + sorted(trained - document["trainings"].keys()):
        raise UserError(f"{path} is damaged: it has no {lacking[0]}")
    entries = numbers.load()[document["paper"]].entries
    for row in document["rows"]:
        if row["id"] is None:
            continue
        printed = entries.get(row["id"], {}).get("value")
        if printed != row["paper"]:
            raise UserError(
                f"{path} has {row['paper']} as {row['id']}, which is {printed} here: it is of "
                "another version; run python -m launch.reproduce for it again"
            )
    unknown = [c["id"] for c in document["claims"] if c["id"] and c["id"] not in entries]
    if unknown:
        raise UserError(
            f"{path} has the claim {unknown[0]}, which the paper has not here: it is of another "
            "version; run python -m launch.reproduce for it again"
        )


def _check_alike(targets: Mapping[Path, Mapping[str, Any]]) -> None:
    """Refuses two results of one training that differ: one is of another config or version."""
    seen: dict[tuple, tuple[Path, Any]] = {}
    for path, document in targets.items():
        for key, training in document["trainings"].items():
            made = {name: training[name] for name in ("config", "data", "versions")}
            # Where the data lie is no part of a training: their SHA-256 sums are compared.
            made["config"] = {
                **made["config"],
                "data": {k: v for k, v in made["config"]["data"].items() if k != "dir"},
            }
            length = training["config"]["epochs"]
            about = document["budget"], length, len(training["seeds"]), key
            first, other = seen.setdefault(about, (path, made))
            differing = [name for name in made if made[name] != other[name]]
            if differing:
                raise UserError(
                    f"{path} and {first} have the training {key} with different "
                    f"{' and '.join(differing)}; run python -m launch.reproduce for both again"
                )


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sorts table9 before table10."""
    parts = ("".join(group) for _, group in itertools.groupby(str(path), str.isdigit))
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]
