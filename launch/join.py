r"""Finished runs that differ in their seeds alone, made one: `python -m launch.join RUN RUN ...`.

Each seed can then be a job of its own, where and when there is room for it, and all of them are
read as if one program had trained them:

    for seed in 1 2 3; do python -m adv_jax.main --config=configs/ladder_mnist.py:table=24 \
      --config.seed=$seed --config.replicas.seeds=1 --workdir=runs/seed$seed; done
    python -m launch.join runs/seed1 runs/seed2 runs/seed3
    python -m launch.reproduce maronas2016.table24 --seeds=3

The joined run lies in --into, under the name by which launch.reproduce looks for it. It is made of
what the runs have left, and trains nothing.
"""

import itertools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import app, flags, logging

from adv_jax.runner import inputs, trained, training
from adv_jax.runner.checkpoint import Checkpoints, digest
from adv_jax.runner.command_line import read_flags
from adv_jax.runner.config import replicas, with_values
from adv_jax.runner.devices import check_devices
from adv_jax.runner.inputs import Inputs
from adv_jax.runner.output import standard_output
from adv_jax.runner.workdir import (
    Workdir,
    default_path,
    has_config,
    has_data,
    is_finished,
    read_fitted,
)
from adv_jax.types import UserError
from papers.records import read_lines, read_result
from papers.trainings import check_alike

_INTO = flags.DEFINE_string("into", "runs/reproduce", "folder of the joined run")


class Part(NamedTuple):
    """A finished run: its workdir, config.json, result.json and the lines of metrics.jsonl."""

    path: Path
    config: dict[str, Any]
    result: dict[str, Any]
    lines: list[dict[str, Any]]


def main(argv: list[str]) -> None:
    """Joins the runs that the arguments name; exits with 1 on a mistake."""
    logging.set_verbosity(logging.FATAL)  # What matters of Orbax' errors is raised too.
    try:
        check_devices()
        print(f"joined in {join(argv[1:], into=_INTO.value)}")
    except UserError as error:
        sys.exit(f"error: {error}")


def join(workdirs: Sequence[str | Path], *, into: str | Path) -> Path:
    """Writes the run of all seeds, and returns its workdir.

    Args:
      workdirs: of finished runs whose seeds follow one another.
      into: the folder of the joined run, which is named by its config.

    Raises:
      UserError: fewer than two runs; one that is not finished or is damaged, or differs from the
        first in more than its seeds, in its data or its versions; seeds that do not follow one
        another; the folder has this run already.
    """
    if len(workdirs) < 2:
        raise UserError(f"runs to join are {list(map(str, workdirs))}; allowed are two or more")
    parts = sorted(map(_part, map(Path, workdirs)), key=lambda part: part.config["seed"])
    config = _joined_config(parts)
    check_alike({part.path: part.result for part in parts}, more_to_come=True)
    seen = _inputs(config, parts)
    path = Path(into) / default_path(config).name
    has_config(path, config)
    taken = UserError(f"workdir {path} has this run already; allowed is another one")
    if is_finished(path):
        raise taken
    given = [replica for part in parts for replica in replicas(part.config)]
    order = [given.index(replica) for replica in replicas(config)]
    tree = _joined_tree(config, parts, seen, order)
    result = _joined_result(parts, order)
    with Workdir(path, config) as files:
        with Checkpoints(files.checkpoints, kept=1) as checkpoints:
            # A join that was killed has left this checkpoint; another is of a run that trains.
            there = checkpoints.restore(tree).tree
            if there is not None and digest(there) != digest(tree):
                raise taken
            files.take_data(seen.document, seen.rows, seen.fitted)
            files.rewind_metrics(0)
            files.append_metrics(_joined_lines(parts, order))
            files.sync_metrics()
            if there is None:
                epoch = max(line["epoch"] for part in parts for line in part.lines)
                checkpoints.save(epoch, tree, {"seconds": result["seconds"]})
                checkpoints.finish()
        training.draw(files, config, result)
        files.write_result(result)
    return path


def _part(path: Path) -> Part:
    """A finished run.

    Raises:
      UserError: there is none, or its files are damaged.
    """
    config = trained.checked_config(path)
    if not is_finished(path):
        raise UserError(f"workdir {path} has no result.json; allowed is a finished run")
    result = read_result(path / "result.json", config)
    return Part(path, config, result, read_lines(path, config, result))


def _joined_config(parts: Sequence[Part]) -> dict[str, Any]:
    """That of the first with the seeds of all.

    Raises:
      UserError: they differ in more than their seeds, or these do not follow one another.
    """
    first = parts[0].config
    for part in parts:
        own = {"seed": part.config["seed"], "replicas.seeds": part.config["replicas"]["seeds"]}
        has_config(part.path, with_values(first, own))
    for one, other in itertools.pairwise(parts):
        following = one.config["seed"] + one.config["replicas"]["seeds"]
        if other.config["seed"] != following:
            raise UserError(
                f"workdir {other.path} begins with seed {other.config['seed']}; allowed is "
                f"{following}, as {one.path} ends before it"
            )
    seeds = sum(part.config["replicas"]["seeds"] for part in parts)
    return with_values(first, {"replicas.seeds": seeds})


def _inputs(config: Mapping[str, Any], parts: Sequence[Part]) -> Inputs:
    """What the joined run sees: as the first does, with what its preprocessing has fitted.

    Raises:
      UserError: the data are not here, or another part has seen others.
    """
    seen = inputs.load(config, replicas(config), parts[0].path)
    for part in parts:
        has_data(part.path, seen.document)
        fitted = {} if seen.fitted is None else read_fitted(part.path)
        if not all(np.array_equal(fitted[name], own) for name, own in (seen.fitted or {}).items()):
            raise UserError(
                f"workdir {part.path} has fitted its preprocessing otherwise than "
                f"{parts[0].path}; allowed are runs with the same preprocess.npz"
            )
    return seen


def _joined_tree(
    config: Mapping[str, Any], parts: Sequence[Part], seen: Inputs, order: Sequence[int]
) -> Any:
    """The last checkpoints of all parts: [R, ...].

    Args:
      order: of each replica of the joined run, its index among those of all parts.

    Raises:
      UserError: a part has none.
    """
    experiment = trained.experiment(config, seen.dataset)
    trees = [trained.restored(part.path, experiment, replicas(part.config)).tree for part in parts]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[order], *trees)


def _joined_lines(parts: Sequence[Part], order: Sequence[int]) -> list[dict[str, Any]]:
    """The lines of all parts, epoch by epoch, with the indices of the joined run's replicas."""
    lines, before = [], 0
    for part in parts:
        lines += [line | {"replica": order.index(before + line["replica"])} for line in part.lines]
        before += len(part.result["replicas"])
    return sorted(lines, key=lambda line: (line["epoch"], line["replica"]))


def _joined_result(parts: Sequence[Part], order: Sequence[int]) -> dict[str, Any]:
    """The results of all parts: what is of a replica in the joined run's order."""
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
        "seconds": round(sum(result["seconds"] for result in results), 1),
        "device": _in_words(result["device"] for result in results),
        "git": _in_words(result["git"] for result in results),
    }


def _in_words(values: Any) -> Any:
    """What all say, or what each of them does."""
    different = list(dict.fromkeys(values))
    return different[0] if len(different) == 1 else ", ".join(map(str, different))


if __name__ == "__main__":
    with standard_output():
        app.run(main, flags_parser=read_flags)
