"""Chooses targets, trains their missing runs, and reads what is stored of them."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from adv_jax import train
from adv_jax.runner.run.log import print_table
from adv_jax.runner.store.formats import read_json
from adv_jax.runner.store.writing import check_file
from adv_jax.types import UserError
from papers.judging import documents, numbers
from papers.running.budget import BUDGETS, QUICK, Budget
from papers.running.comparison import Kept, compare, updated
from papers.running.drawing import Drawing
from papers.running.family import family, rank
from papers.running.figures import drawing_of
from papers.running.records import read_lines
from papers.running.stored import check_target
from papers.running.target import Target
from papers.running.trainings import Training, check_alike, plan, result_of, share_trained
from papers.running.works import TARGETS, full_name

_LISTED = "all, or a target or paper in `launch.reproduce --list`"


def chosen(names: Sequence[str], *, field: str = "target") -> list[Target]:
    """Returns the targets that the names select: targets, papers, or "all"; without duplicates.

    field: what the names are called in messages.

    Raises:
      UserError: a name is unknown, or there are no names.
    """
    papers = dict.fromkeys(target.paper for target in TARGETS.values())
    legal = ["all", *papers, *TARGETS]
    if not names:
        raise UserError(f"{field} must be {_LISTED}, got none")
    wanted = [full_name(name, legal, field=field, allowed=_LISTED) for name in names]
    return list(
        {
            name: target
            for one in wanted
            for name, target in TARGETS.items()
            if one in ("all", target.paper, name)
        }.values()
    )


def replicas_and_shards(
    wanted: Sequence[Target], budget: Budget, **settings: Any
) -> set[tuple[int, int]]:
    """Returns the (replicas, shards) of each training."""
    return {
        (training.num_replicas, training.config["replicas"]["shards"])
        for target in wanted
        for training in plan(target, budget, **settings).values()
    }


def measure(
    target: Target,
    budget: Budget,
    *,
    runs: str | Path,
    results: str | Path,
    data: Mapping,
    kept: Mapping[str, Kept] = MappingProxyType({}),
) -> tuple[dict[str, Any], Drawing | None]:
    """Trains the missing runs of a target and compares its numbers with the paper's.

    Returns the comparison, and the target's figure if its numbers are drawn from several runs.

    Args:
      target: the target.
      budget: the budget.
      runs: folder of the workdirs.
      results: folder for the result, which must be writable and have no larger one.
      data: config fields {path: value} that locate the data.
      kept: what stored results have of runs that are not to be trained, by their keys.

    Raises:
      UserError: `train.run` raises; a finished run is damaged or has another config or version; a
        result of a larger budget exists; or the budget needs all of the data.
      Interrupted: a signal stopped a training, which can be resumed.
    """
    check_data(data, budget)
    others = [one for one in _updated(target.paper, results) if one["target"] != target.name]
    trainings = plan(target, budget, runs=runs, data=data)
    _check_replaceable(target.file(results), target, budget, trainings.values())
    own = {key: training for key, training in trainings.items() if key not in kept}
    done = {key: result_of(training) for key, training in own.items()}
    # What is kept may be of other versions, which the result names.
    stored = {trainings[k].workdir: {**one.training, "versions": {}} for k, one in kept.items()}
    done_already = stored | {own[key].workdir: r for key, r in done.items() if r is not None}
    check_alike(done_already, more_to_come=len(done_already) < len(trainings))
    measured = {key: result or _train(own[key]) for key, result in done.items()}
    check_alike(stored | {own[key].workdir: r for key, r in measured.items()}, more_to_come=False)
    lines = {key: read_lines(t.workdir, t.config, measured[key]) for key, t in own.items()}
    drawing = None
    if target.is_drawn:
        drawing = drawing_of(target.name, [str(t.workdir) for t in trainings.values()])
    by_seed = drawing.document["by_seed"] if drawing else {}
    found = compare(target, budget, trainings, measured, lines, by_seed, kept)
    return _judged(target.paper, [found, *others], results)[0], drawing


def check_data(data: Mapping[str, Any], budget: Budget) -> None:
    """Raises UserError if a budget needs all of the data, and the source has samples only."""
    if data.get("data.source") == "embedded" and budget.name != QUICK:
        raise UserError(
            "data_source must be tfds or files, which have all of the data, with the budget "
            f"{budget.name}, got 'embedded'"
        )


def judged_again(wanted: Sequence[Target], *, results: str | Path) -> Iterator[dict[str, Any]]:
    """Yields existing results, judged again with the others of their work.

    Raises:
      UserError: a file is damaged, or is not a result of its target.
    """
    names = {target.name for target in wanted}
    for paper in dict.fromkeys(target.paper for target in wanted):
        for found in _judged(paper, _updated(paper, results, names), results):
            if found["target"] in names:
                yield found


def _judged(
    paper: str, targets: Sequence[dict[str, Any]], results: str | Path
) -> list[dict[str, Any]]:
    """Judges results of a work together with its single runs."""
    runs = {path: read_json(path) for path in Path(results).glob(f"{paper}/results/runs/*.json")}
    return family(numbers.load()[paper], targets, runs).targets


def _updated(paper: str, results: str | Path, wanted: Collection[str] = ()) -> list[dict[str, Any]]:
    """Reads the results of a work, with the rows and claims that its targets have now.

    Raises:
      UserError: a file of a wanted target is damaged, or is not its result; others are left out.
    """
    found = []
    for target in TARGETS.values():
        path = target.file(results)
        if target.paper == paper and path.exists():
            try:
                found.append(_updated_file(target, path))
            except UserError:
                if target.name in wanted:
                    raise
    return found


def _updated_file(target: Target, path: Path) -> dict[str, Any]:
    document = read_json(path)
    documents.check_schema(path, document, documents.Stored)
    if document["target"] != target.name:
        raise UserError(f"{path}: target must be {target.name}, got {document['target']!r}")
    found = updated(target, document)
    check_target(path, found)
    return found


def print_list(
    wanted: Sequence[Target], budget: Budget, *, results: str | Path, **settings: Any
) -> None:
    """Prints a line for each target: the cost of its trainings, what is done here, and stored."""
    rows = []
    for target in wanted:
        trainings = list(plan(target, budget, **settings).values())
        epochs = [training.num_epochs for training in trainings]
        share = sum(share_trained(t) * e for t, e in zip(trainings, epochs, strict=True)) / sum(
            epochs
        )
        count = sum(training.num_replicas for training in trainings)
        path = target.file(results)
        written = (_written(path) or {"budget": "?"})["budget"] if path.exists() else "-"
        rows.append([target.name, count, sum(epochs), f"{share:.0%}", written, target.title])
    columns = ["target", "trainings", "total epochs", "trained here", f"budget in {results}"]
    columns += ["title"]
    print_table(f"budget {budget.name} (--budget)", columns, rows)


def _train(training: Training) -> dict[str, Any]:
    print(f"training {training.command}", flush=True)
    return train.run(training.config, training.workdir)


def _check_replaceable(
    path: Path, target: Target, budget: Budget, trainings: Collection[Training]
) -> None:
    """Checks before training that the result may be written.

    Raises:
      UserError: the folder cannot be written, or the file holds a result of another target, or one
        with a larger budget, more epochs or more seeds.
    """
    check_file(path)
    if not path.exists():
        return
    there = _written(path)
    if there is None or there["budget"] not in BUDGETS or there["target"] != target.name:
        raise UserError(f"{path} must be a result of {target.name}, got another file; move it away")
    old = _size(there)
    new = Size(
        list(BUDGETS).index(budget.name),
        max(training.config["epochs"] for training in trainings),
        max(training.config["replicas"]["seeds"] for training in trainings),
    )
    if old > new:
        raise UserError(
            f"--results must not have a larger result, got {path} of {old}; the new one is of "
            f"{new}: name another folder by --results"
        )


class Size(NamedTuple):
    """The size of a result, ordered by budget, then epochs, then seeds."""

    budget: int
    epochs: int
    seeds: int

    def __str__(self) -> str:
        name = list(BUDGETS)[self.budget]
        return f"budget {name} with {self.epochs} epochs and {self.seeds} seeds"


def size_of(path: Path) -> Size | None:
    """Returns the size of the result in a file; None if there is none.

    Raises:
      UserError: the result is damaged.
    """
    found = _written(path) if path.exists() else None
    return None if found is None or found["budget"] not in BUDGETS else _size(found)


def _size(document: Mapping[str, Any]) -> Size:
    trained = document["trainings"].values()
    return Size(
        rank(document),
        max((training["config"]["epochs"] for training in trained), default=0),
        max((len(training["seeds"]) for training in trained), default=0),
    )


def _written(path: Path) -> dict[str, Any] | None:
    """Returns the result in a file; None if the file is not a result.

    Raises:
      UserError: the result is damaged.
    """
    found = read_json(path)
    if not documents.is_meant(found, documents.TargetDocument):
        return None
    documents.check_schema(path, found, documents.TargetDocument)
    return found
