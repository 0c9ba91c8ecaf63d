r"""Joins finished runs that differ only in their seeds: `python -m launch.join RUN RUN ...`.

Each seed can be a separate job; the joined run reads as if one program had trained all seeds:

    for seed in 1 2 3; do python -m adv_jax.main --config=configs/ladder_mnist.py:table=24 \
      --config.seed=$seed --config.replicas.seeds=1 --workdir=runs/seed$seed; done
    python -m launch.join runs/seed1 runs/seed2 runs/seed3
    python -m launch.reproduce maronas2016.table24 --seeds=3

The joined run is written to --into, under the name that launch.reproduce looks for. Nothing is
trained.
"""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import app

from adv_jax.runner.config.command_line import define_path, read_flags
from adv_jax.runner.config.document import with_values
from adv_jax.runner.config.replicas import replicas
from adv_jax.runner.host.devices import check_devices
from adv_jax.runner.host.ending import without_traceback
from adv_jax.runner.run import figures, inputs, sources, trained
from adv_jax.runner.run.inputs import Inputs
from adv_jax.runner.store.checkpoint import Checkpoints
from adv_jax.runner.store.verified import digest
from adv_jax.runner.store.workdir import (
    Workdir,
    check_finished,
    check_same_config,
    check_same_data,
    default_path,
    differences,
    is_finished,
    read_fitted,
    read_weights,
)
from adv_jax.types import UserError
from papers.running.records import read_lines, read_training_result
from papers.running.trainings import check_alike

_INTO = define_path("into", "runs/reproduce", "folder of the joined run")


class Part(NamedTuple):
    """A finished run: its workdir, config.json, result.json and the lines of metrics.jsonl."""

    path: Path
    config: dict[str, Any]
    result: dict[str, Any]
    lines: list[dict[str, Any]]


def main(argv: list[str]) -> None:
    """Joins the runs that the arguments name."""
    check_devices()
    print(f"joined in {join(argv[1:], into=_INTO.value)}")


def join(workdirs: Sequence[str | Path], *, into: str | Path) -> Path:
    """Writes the run of all seeds and returns its workdir.

    Args:
      workdirs: finished runs with consecutive seeds.
      into: folder of the joined run, which is named by its config.

    Raises:
      UserError: there are fewer than two runs, or one twice; a run is unfinished or damaged, or
        its config, data, versions or what it starts from differ; the seeds are not consecutive; the
        joined run exists.
    """
    if len(workdirs) < 2:
        raise UserError(f"runs must be two or more, got {list(map(str, workdirs))}")
    if len({Path(workdir).resolve() for workdir in workdirs}) < len(workdirs):
        raise UserError(f"runs must be different, got {list(map(str, workdirs))}")
    parts = sorted(map(_part, map(Path, workdirs)), key=lambda part: part.config["seed"])
    config = _joined_config(parts)
    check_alike({part.path: part.result for part in parts}, more_to_come=True)
    seen = _inputs(config, parts)
    path = Path(into) / default_path(config).name
    check_same_config(path, config)
    taken = UserError(f"--into must not have the joined run already, got {path}")
    if is_finished(path):
        raise taken
    given = [replica for part in parts for replica in replicas(part.config)]
    order = [given.index(replica) for replica in replicas(config)]
    tree = _joined_tree(config, parts, seen, order)
    result = _joined_result(parts, order)
    with Workdir(path, config) as files:
        files.record_data(seen.document, seen.rows, seen.fitted)
        sources.record(path, sources.recorded(parts[0].path))
        if weights := read_weights(parts[0].path):
            files.record_weights(weights)
        with Checkpoints(files.checkpoints, kept=1) as checkpoints:
            # A killed join leaves the same checkpoint; a different one is from a training.
            there = checkpoints.restore(tree).tree
            if there is not None and digest(there) != digest(tree):
                raise taken
            files.rewind_metrics(0)
            files.append_metrics(_joined_lines(parts, order))
            files.sync_metrics()
            if there is None:
                epoch = max(line["epoch"] for part in parts for line in part.lines)
                checkpoints.save(epoch, tree, {"seconds": result["seconds"]})
                checkpoints.finish()
        figures.draw(files, config, result)
        files.write_result(result)
    return path


def _part(path: Path) -> Part:
    """Reads a finished run.

    Raises:
      UserError: there is no finished run, or its files are damaged.
    """
    config = trained.checked_config(path)
    check_finished(path)
    result = read_training_result(path / "result.json", config)
    return Part(path, config, result, read_lines(path, config, result))


def _joined_config(parts: Sequence[Part]) -> dict[str, Any]:
    """Returns the config of all seeds.

    Raises:
      UserError: the configs differ in more than their seeds, or the seeds are not consecutive.
    """
    first = parts[0].config
    for part in parts:
        own = {"seed": part.config["seed"], "replicas.seeds": part.config["replicas"]["seeds"]}
        if found := differences(with_values(first, own), part.config, "but there"):
            raise UserError(
                f"the config of {part.path} must be that of {parts[0].path} but for the seeds, "
                f"got others: {found}"
            )
    for one, other in itertools.pairwise(parts):
        following = one.config["seed"] + one.config["replicas"]["seeds"]
        if other.config["seed"] != following:
            raise UserError(
                f"the seed of {other.path} must be {following}, the next after {one.path}, "
                f"got {other.config['seed']}"
            )
    seeds = sum(part.config["replicas"]["seeds"] for part in parts)
    return with_values(first, {"replicas.seeds": seeds})


def _inputs(config: Mapping[str, Any], parts: Sequence[Part]) -> Inputs:
    """Loads the data of the joined run with the first part's preprocessing.

    Raises:
      UserError: the data are missing, or the parts' data or preprocessing differ.
    """
    seen = inputs.load(config, replicas(config), parts[0].path)
    for part in parts:
        check_same_data(part.path, seen.document)
        fitted = {} if seen.fitted is None else read_fitted(part.path)
        if not all(np.array_equal(fitted[name], own) for name, own in (seen.fitted or {}).items()):
            raise UserError(
                f"preprocess.npz must be the same in all runs, got {part.path} and {parts[0].path}"
            )
    return seen


def _joined_tree(
    config: Mapping[str, Any], parts: Sequence[Part], seen: Inputs, order: Sequence[int]
) -> Any:
    """Concatenates the last checkpoints of all parts: [R, ...].

    Args:
      config: the config of the joined run.
      parts: the runs.
      seen: the data of the joined run.
      order: index in the concatenated parts of each replica of the joined run.

    Raises:
      UserError: a part has no checkpoint.
    """
    experiment = trained.experiment(config, seen.dataset)
    trees = [trained.restored(part.path, experiment, replicas(part.config)).tree for part in parts]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[order], *trees)


def _joined_lines(parts: Sequence[Part], order: Sequence[int]) -> list[dict[str, Any]]:
    """Merges the lines of all parts, with the replica indices of the joined run."""
    lines, before = [], 0
    for part in parts:
        lines += [line | {"replica": order.index(before + line["replica"])} for line in part.lines]
        before += len(part.result["replicas"])
    return sorted(lines, key=lambda line: (line["epoch"], line["replica"]))


def _joined_result(parts: Sequence[Part], order: Sequence[int]) -> dict[str, Any]:
    """Merges the results of all parts, with replicas in the joined run's order."""
    results = [part.result for part in parts]

    def joined(of_parts: Sequence[list[Any]]) -> list[Any]:
        there = list(itertools.chain.from_iterable(of_parts))
        return [there[i] for i in order]

    evaluation = {
        attack: {
            name: value
            if name == "eps"
            else joined([result["evaluation"][attack][name] for result in results])
            for name, value in curve.items()
        }
        for attack, curve in results[0]["evaluation"].items()
    }
    return results[0] | {
        "replicas": joined([result["replicas"] for result in results]),
        "evaluation": evaluation,
        "warnings": [
            f"{line} ({part.path.name})"
            for part in parts
            for line in part.result.get("warnings", ())
        ],
        "seconds": round(sum(result["seconds"] for result in results), 1),
        "device": _in_words(result["device"] for result in results),
        "git": _in_words(result["git"] for result in results),
    }


def _in_words(values: Any) -> Any:
    """Returns the common value, or all different values, separated by commas."""
    different = list(dict.fromkeys(values))
    return different[0] if len(different) == 1 else ", ".join(map(str, different))


if __name__ == "__main__":
    with without_traceback():
        app.run(main, flags_parser=read_flags)
