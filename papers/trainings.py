"""The trainings that a target needs: where they live, which are done, and which fit together."""

import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from adv_jax.runner.config import replicas
from adv_jax.runner.result import provenance
from adv_jax.runner.workdir import default_path, has_config, is_finished
from adv_jax.types import UserError
from papers.budget import Budget, changes, config_of, options
from papers.documents import VERSIONS
from papers.records import read_lines, read_result
from papers.target import Run, Target


class Training(NamedTuple):
    """An ordinary run.

    command: what trains it by hand.
    """

    run: Run
    config: dict[str, Any]
    workdir: Path
    command: str


def plan(
    target: Target, budget: Budget, *, runs: str | Path, data: Mapping[str, str]
) -> dict[str, Training]:
    """Key of a run -> how it is trained; targets that need the same training share its workdir.

    Args:
      runs: the folder of the workdirs, each named by the hash of its config.
      data: fields of the configs {path: value}.
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


def finished(training: Training) -> dict[str, Any] | None:
    """What the training's result.json holds; None: it is not finished.

    Raises:
      UserError: the workdir holds a run of another config, or files of its run that are damaged,
        incomplete or of another one.
    """
    workdir, config = training.workdir, training.config
    if not has_config(workdir, config) or not is_finished(workdir):
        return None
    result = read_result(workdir / "result.json", config)
    read_lines(workdir, config, result)
    return result


def check_alike(results: Mapping[Path, Mapping[str, Any]], *, more_to_come: bool) -> None:
    """Refuses to compare what was made by different versions or from different data.

    Args:
      results: workdir -> result.json, as `finished` has checked it.
      more_to_come: the installed versions will train others, and count too.

    Raises:
      UserError: names the two files and what differs.
    """
    known: dict[str, tuple[str, Any]] = {}
    if more_to_come:
        known |= {name: ("installed", provenance()["versions"][name]) for name in VERSIONS}
    for workdir, result in results.items():
        path = workdir / "result.json"
        facts = {name: result["versions"][name] for name in VERSIONS}
        facts[f"the data set {result['data']['name']}"] = result["data"]["sha256"]
        for name, value in facts.items():
            where, other = known.setdefault(name, (str(path), value))
            if value != other:
                raise UserError(
                    f"{path} was made with {name} {_short(value)}, but {where} has "
                    f"{_short(other)}; allowed is one version and one copy of the data: move the "
                    "older run away or give --runs another folder"
                )


def state(training: Training) -> float:
    """The share of its epochs that is done, by its checkpoints; 1 when it is finished.

    Raises:
      UserError: as `finished`.
    """
    if finished(training) is not None:
        return 1.0
    saved = [int(p.name) for p in training.workdir.glob("checkpoints/*") if p.name.isdigit()]
    return 0.99 * max(saved, default=0) / training.config["epochs"]


def cost(training: Training) -> int:
    """Epochs of all replicas together; early stopping may need fewer."""
    return len(replicas(training.config)) * training.config["epochs"]


def same_point(at: Mapping[str, float], overrides: Mapping[str, float]) -> bool:
    """Whether a replica's overrides are the point of a grid."""
    return at.keys() == overrides.keys() and all(
        math.isclose(value, overrides[path], rel_tol=1e-6, abs_tol=1e-12)
        for path, value in at.items()
    )


def _one_name(folder: Path) -> Path:
    """The same however a folder is given: that of a source is a part of the config of a run.

    It is relative below the working directory, so that results say nothing of a machine's folders.
    """
    folder, here = folder.resolve(), Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder


def _short(value: Any) -> str:
    """A version, or of SHA-256 sums the beginning."""
    return (
        ", ".join(sha[:8] for sha in value.values()) if isinstance(value, Mapping) else f"{value}"
    )
