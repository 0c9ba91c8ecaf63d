"""Reads and checks a folder of results."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from adv_jax.runner.store.formats import read_json
from adv_jax.types import UserError, check_choice
from papers.judging import documents, numbers
from papers.running.budget import BUDGETS
from papers.running.family import family
from papers.running.lengths import with_length


class Results(NamedTuple):
    """The documents of a folder by path.

    targets: results of `launch.reproduce`.
    runs: result.json of single runs.
    figures: documents of figures.
    root: the folder.
    of_runs: name of a paper -> the documents that its single runs make.
    """

    targets: dict[Path, dict[str, Any]]
    runs: dict[Path, dict[str, Any]]
    figures: dict[Path, dict[str, Any]]
    root: Path = Path()
    of_runs: Mapping[str, list[dict[str, Any]]] = MappingProxyType({})

    @property
    def files(self) -> dict[str, dict[str, Any]]:
        """All documents by their paths relative to the folder."""
        by_path = self.targets | self.runs | self.figures
        return {path.relative_to(self.root).as_posix(): one for path, one in by_path.items()}

    def runs_of(self, paper: str) -> dict[Path, dict[str, Any]]:
        """Returns the single runs of a paper by path."""
        return {
            path: run
            for path, run in self.runs.items()
            if path.relative_to(self.root).parts[0] == paper
        }


def read(folder: str | Path) -> Results:
    """Reads all results below a folder and judges them again, each work as a whole.

    Other JSON files, as those of benchmarks, are ignored.

    Raises:
      UserError: there is no such folder, a file does not fit its schema, or a result does not match
        the papers' numbers or the other results; the message names the file and the field.
    """
    root = Path(folder)
    if not root.is_dir():
        raise UserError(f"results must be a folder of results, got {root}")
    found = Results({}, {}, {}, root)
    for path in sorted(root.rglob("*.json"), key=_natural):
        document = read_json(path)
        schemas = (documents.TargetDocument, documents.ResultDocument, documents.FigureDocument)
        for by_path, schema in zip(found[:3], schemas, strict=True):
            if documents.is_meant(document, schema):
                documents.check_schema(path, document, schema)
                by_path[path] = document
                break
    for path, document in found.targets.items():
        check_target(path, document)
    of_runs = {}
    for paper in numbers.load().values():
        own = {path: one for path, one in found.targets.items() if one["paper"] == paper.name}
        judged = family(paper, list(own.values()), found.runs_of(paper.name))
        found.targets.update(zip(own, judged.targets, strict=True))
        of_runs[paper.name] = judged.of_runs
    _check_alike(found.targets)
    by_name = {document["target"]: document for document in found.targets.values()}
    for path, document in found.figures.items():
        target = by_name.get(f"{document['paper']}.{document['figure']}")
        found.figures[path] = with_length(document, target)
    return found._replace(of_runs=of_runs)


def deciding(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of a config that decide the numbers of its training.

    They are not the place of the data, whose SHA-256 a result has, nor the trackers, which earlier
    versions had in the field `tensorboard`.
    """
    data = {name: value for name, value in config["data"].items() if name not in ("source", "dir")}
    others = {k: value for k, value in config.items() if k not in ("trackers", "tensorboard")}
    return {**others, "data": data}


def check_target(path: Path, document: Mapping[str, Any]) -> None:
    """Checks the names in a result, and that the paper's numbers are those of this package.

    Raises:
      UserError: names the file and the field.
    """
    papers = numbers.load()
    check_choice(f"{path}: budget", document["budget"], BUDGETS)
    check_choice(f"{path}: paper", document["paper"], papers)
    labels = [row["label"] for row in document["rows"]]
    for i, claim in enumerate(document["claims"]):
        for label in claim["rows"]:
            check_choice(f"{path}: claims.{i}.rows", label, labels)
    entries = papers[document["paper"]].entries
    again = "as in the numbers here (run python -m launch.reproduce for it again)"
    for i, row in enumerate(document["rows"]):
        check_choice(f"{path}: rows.{i}.training", row["training"], document["trainings"])
        printed = entries.get(row["id"], {}).get("value")
        if row["id"] is not None and printed != row["paper"]:
            raise UserError(f"{path}: {row['id']} must be {printed}, {again}, got {row['paper']}")
    for i, claim in enumerate(document["claims"]):
        if claim["id"] and claim["id"] not in entries:
            raise UserError(
                f"{path}: claims.{i}.id must be a claim of {document['paper']}, {again}, got "
                f"{claim['id']!r}"
            )


def _check_alike(targets: Mapping[Path, Mapping[str, Any]]) -> None:
    """Raises UserError if two results have the same training with another config or version."""
    seen: dict[tuple, tuple[Path, Any]] = {}
    for path, document in targets.items():
        for key, training in document["trainings"].items():
            made = {name: training[name] for name in ("data", "versions")}
            made = {"config": deciding(training["config"]), **made}
            length = training["config"]["epochs"]
            about = document["budget"], length, len(training["seeds"]), key
            first, other = seen.setdefault(about, (path, made))
            differing = [name for name in made if made[name] != other[name]]
            if differing:
                raise UserError(
                    f"{path}: {' and '.join(differing)} of trainings.{key} must be as in {first} "
                    "(run python -m launch.reproduce for both again), got others"
                )


def _natural(path: Path) -> list[tuple[int, str]]:
    """Returns a sort key that puts table9 before table10."""
    parts = ("".join(group) for _, group in itertools.groupby(str(path), str.isdigit))
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]
