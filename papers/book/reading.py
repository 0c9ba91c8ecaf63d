"""Reads and checks a folder of results."""

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
    """The documents of a folder by path.

    Attributes:
      targets: results of `launch.reproduce`.
      runs: result.json of single runs.
      figures: documents of figures.
      root: the folder.
      files: all documents by their paths relative to the folder.
    """

    targets: dict[Path, dict[str, Any]]
    runs: dict[Path, dict[str, Any]]
    figures: dict[Path, dict[str, Any]]
    root: Path = Path()
    files: Mapping[str, dict[str, Any]] = MappingProxyType({})


def read(folder: str | Path) -> Found:
    """Reads all results below a folder and recomputes their verdicts; ignores other JSON files.

    Raises:
      UserError: the folder does not exist, a file is damaged, or a result contradicts the papers'
        numbers or another result.
    """
    root = Path(folder)
    if not root.is_dir():
        raise UserError(f"results must be a folder of results, got {root}")
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
    """Raises UserError for an unknown budget or paper, or for other printed numbers than ours."""
    for field, legal in (("budget", BUDGETS), ("paper", numbers.load())):
        if document[field] not in legal:
            found = f"{document[field]!r} in {path}"
            raise UserError(f"{field} must be {', '.join(legal)}, got {found}")
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
                f"{row['id']} must be {printed}, got {row['paper']} in {path}, which is of another "
                "version; run python -m launch.reproduce again"
            )
    unknown = [c["id"] for c in document["claims"] if c["id"] and c["id"] not in entries]
    if unknown:
        raise UserError(
            f"claim must be one of the paper's, got {unknown[0]} in {path}, which is of another "
            "version; run python -m launch.reproduce again"
        )


def _check_alike(targets: Mapping[Path, Mapping[str, Any]]) -> None:
    """Raises UserError if two results have the same training with another config or version."""
    seen: dict[tuple, tuple[Path, Any]] = {}
    for path, document in targets.items():
        for key, training in document["trainings"].items():
            made = {name: training[name] for name in ("config", "data", "versions")}
            # Ignore the data's folder; `data` has their SHA-256.
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
                    f"{' and '.join(differing)} of the training {key} must be the same, got {path} "
                    f"and {first}; run python -m launch.reproduce for both again"
                )


def _natural(path: Path) -> list[tuple[int, str]]:
    """Returns a sort key that puts table9 before table10."""
    parts = ("".join(group) for _, group in itertools.groupby(str(path), str.isdigit))
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]
