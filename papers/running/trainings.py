"""Plans the trainings of a target and reads what is trained, and results."""

import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from adv_jax.runner.config.document import leaves
from adv_jax.runner.config.replicas import replicas
from adv_jax.runner.run import sources
from adv_jax.runner.store import checkpoint
from adv_jax.runner.store.provenance import provenance
from adv_jax.runner.store.verified import digest
from adv_jax.runner.store.workdir import (
    check_same_config,
    default_path,
    is_finished,
    read_config,
    read_weights,
)
from adv_jax.types import UserError
from papers.judging.documents import VERSIONS
from papers.running.budget import Budget, changes, config_of, options
from papers.running.records import read_lines, read_training_result
from papers.running.target import Run, Target


class Training(NamedTuple):
    """A run to train; `command` trains it from a shell."""

    run: Run
    config: dict[str, Any]
    workdir: Path
    command: str

    @property
    def num_replicas(self) -> int:
        """The number of models that it trains at once."""
        return len(replicas(self.config))

    @property
    def num_epochs(self) -> int:
        """The total number of epochs of all replicas, without early stopping."""
        return self.num_replicas * self.config["epochs"]


def plan(
    target: Target, budget: Budget, *, runs: str | Path, data: Mapping[str, str]
) -> dict[str, Training]:
    """Returns {key of a run: training}; targets share the workdirs of equal trainings.

    Args:
      target: the target.
      budget: the share of the paper's training.
      runs: folder of the workdirs, which are named by the hash of their configs.
      data: changed fields of the configs, {path: value}.
    """
    trainings: dict[str, Training] = {}
    folder = _one_name(Path(runs))
    for key, run in ((run.key, run) for run in target.runs):
        if run.source is not None:
            workdir = str(trainings[run.source.key].workdir)
            run = run._replace(options=run.options.format(source=workdir))
        config = config_of(run, budget, data)
        workdir = folder / default_path(config).name
        mode = options(run, budget)
        given = [f"--config=configs/{run.config}.py{':' if mode else ''}{mode}"]
        given += [f"--config.{path}={v}" for path, v in changes(run, budget, data).items()]
        command = shlex.join(["python", "-m", "adv_jax.main", *given, f"--workdir={workdir}"])
        trainings[key] = Training(run, config, workdir, command)
    return trainings


def result_of(training: Training) -> dict[str, Any] | None:
    """Returns the training's result.json; None if it is not finished.

    Raises:
      UserError: the workdir holds a run of another config, or its files are damaged, incomplete or
        from another run.
    """
    workdir, config = training.workdir, training.config
    if not check_same_config(workdir, config) or not is_finished(workdir):
        return None
    result = read_training_result(workdir / "result.json", config)
    read_lines(workdir, config, result)
    return result


def check_alike(results: Mapping[Path, Mapping[str, Any]], *, more_to_come: bool) -> None:
    """Checks that all results have the same versions, data, and runs and weights to start from.

    Args:
      results: workdir -> result.json, the output of `result_of`; one without versions may have any.
      more_to_come: whether the installed versions will train more runs, so that they count too.

    Raises:
      UserError: two results differ.
    """
    known: dict[str, tuple[str, Any]] = {}
    if more_to_come:
        known |= {name: ("installed", provenance()["versions"][name]) for name in VERSIONS}
    for workdir, result in results.items():
        path = workdir / "result.json"
        facts = {name: number for name, number in result["versions"].items() if name in VERSIONS}
        facts[f"the data set {result['data']['name']}"] = result["data"]["sha256"]
        if is_finished(workdir):  # The run itself may be gone if its values are stored.
            facts |= _starts(workdir)
        for name, value in facts.items():
            where, other = known.setdefault(name, (str(path), value))
            if value != other:
                raise UserError(
                    f"{name} must be the same in all runs, got {_short(value)} in {path} and "
                    f"{_short(other)} in {where}; move the older run away or use another --runs"
                )


def _starts(workdir: Path) -> dict[str, Any]:
    """Returns the SHA-256 of the runs and the weights that a run has read, or "unknown"."""
    config = read_config(workdir)
    read = {run: "unknown" for path, run in leaves(config) if sources.is_source(path)}
    read |= sources.recorded(workdir)
    found = {f"the run {run} that they read": {run: sha256} for run, sha256 in read.items()}
    if file := config["model"].get("weights"):
        weights = read_weights(workdir)
        found[f"model.weights {file}"] = {file: digest(weights) if weights else "unknown"}
    return found


def share_trained(training: Training) -> float:
    """Returns the share of epochs that the training's checkpoints cover; 1 if it is finished.

    Raises:
      UserError: see `result_of`.
    """
    if result_of(training) is not None:
        return 1.0
    return 0.99 * newest_epoch(training.workdir) / training.config["epochs"]


def newest_epoch(workdir: Path) -> int:
    """Returns the epoch of a workdir's newest checkpoint; 0 without one.

    Raises:
      UserError: its checkpoints cannot be read.
    """
    checkpoints = workdir / "checkpoints"
    return max(checkpoint.saved_epochs(checkpoints), default=0) if checkpoints.is_dir() else 0


def same_point(at: Mapping[str, float], overrides: Mapping[str, float]) -> bool:
    """Returns whether a replica's overrides are the grid point `at`."""
    return at.keys() == overrides.keys() and all(
        math.isclose(value, overrides[path], rel_tol=1e-6, abs_tol=1e-12)
        for path, value in at.items()
    )


def _one_name(folder: Path) -> Path:
    """Normalizes a folder, as a source's workdir is part of the config of a run.

    Folders below the working directory become relative, so that results name no local paths.
    """
    folder, here = folder.resolve(), Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder


def _short(value: Any) -> str:
    """Returns a version, or the first digits of SHA-256 sums."""
    return (
        ", ".join(sha[:8] for sha in value.values()) if isinstance(value, Mapping) else f"{value}"
    )
