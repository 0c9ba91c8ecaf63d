"""The directories of a sweep's trials, which are its only state.

A trial is an ordinary run. Its directory has more files: trial.log, the output of its process,
stopped.json if the search stopped it early, and diverged.json if one of its points diverged.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from adv_jax.runner.config import plugins
from adv_jax.runner.config.document import leaves
from adv_jax.runner.config.replicas import replicas
from adv_jax.runner.store import workdir, writing
from adv_jax.runner.store.formats import as_json, write_json
from adv_jax.runner.store.workdir import is_finished, read_config
from adv_jax.types import UserError
from launch import _space

FINISHED, STOPPED, FAILED, INTERRUPTED = "finished", "stopped early", "failed", "interrupted"
_ERROR = "error: "


class Settings(NamedTuple):
    """Settings that all trials of a sweep share."""

    config: dict[str, Any]  # the base
    traced: frozenset[str]  # fields that join `replicas.grid`
    folder: Path  # of the trials' directories, the same on every machine
    metric: str  # a trial's score is its lowest value
    cwd: str  # where relative paths begin

    def config_at(self, point: Mapping[str, Any]) -> dict[str, Any]:
        return dict(plugins.recorded(_space.at(self.config, point, traced=self.traced)))

    def path_of(self, point: Mapping[str, Any]) -> Path:
        return self.folder / workdir.default_path(self.config_at(point)).name


def prepare(path: Path, config: Mapping[str, Any]) -> None:
    """Creates the directory of a trial; raises WorkdirError if it cannot."""
    if not workdir.check_same_config(path, config):
        with writing.writing(path):
            path.mkdir(parents=True, exist_ok=True)
        write_json(path / "config.json", as_json(config))


def known(folder: Path) -> list[Path]:
    """Returns the directories of the trials that have begun."""
    return sorted(path.parent for path in folder.glob("*/config.json"))


def status(path: Path) -> str:
    """Returns the status of a trial; a running one is INTERRUPTED."""
    if is_finished(path):
        return FINISHED
    if (path / "stopped.json").exists():
        return STOPPED
    return FAILED if failure(path) else INTERRUPTED


def is_settled(path: Path) -> bool:
    """Returns whether nothing is left to run."""
    return status(path) in (FINISHED, STOPPED)


def failure(path: Path) -> str:
    """Returns the error that ended the last process, or ""."""
    log = path / "trial.log"
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return lines[-1].removeprefix(_ERROR) if lines and lines[-1].startswith(_ERROR) else ""


def note_failure(path: Path, message: str) -> None:
    """Logs the error of a process that could not log it itself."""
    with writing.writing(path), (path / "trial.log").open("a") as log:
        log.write(f"{_ERROR}{message}\n")


def note_stop(path: Path, epoch: int) -> None:
    """Records that the search stopped a trial after an epoch."""
    write_json(path / "stopped.json", {"epoch": epoch})


def note_divergence(path: Path) -> None:
    """Records that a loss or a metric of a trial was not finite."""
    write_json(path / "diverged.json", {"error": "not finite"})


def runs_apart(path: Path) -> bool:
    """Returns whether a trial has diverged that has several points: a grid runs each as a trial."""
    if not (path / "diverged.json").exists():
        return False
    config = read_config(path)
    return len(replicas(config)) > config["replicas"]["seeds"]


def progress(path: Path, metric: str) -> list[tuple[int, np.ndarray]]:
    """Returns the epochs with the metric, from (0, inf) on, each with the best values so far, f[P].

    P counts the points of the trial's own grid. The value of a point is the mean over seeds of the
    lowest metric, inf before it is measured.
    """
    config = read_config(path)
    lowest, seeds = np.full(len(replicas(config)), np.inf), config["replicas"]["seeds"]
    found = {0: lowest.copy()}
    for line in workdir.read_metrics(path, running=True):
        if metric not in line:
            continue
        replica = line["replica"]
        if replica >= len(lowest):
            allowed = f"lines of {len(lowest)} replicas"
            raise UserError(f"{path / 'metrics.jsonl'} must have {allowed}, got index {replica}")
        lowest[replica] = min(lowest[replica], line[metric])
        found[line["epoch"]] = lowest.copy()
    points = np.reshape([*found.values()], (len(found), -1, seeds)).mean(2)
    return [*zip(found, points, strict=True)]


def counts(paths: Iterable[Path]) -> str:
    """Returns the number of trials of each status, in words."""
    counted = Counter(map(status, paths))
    order = (FINISHED, STOPPED, FAILED, INTERRUPTED)
    return ", ".join(f"{counted[name]} {name}" for name in order if counted[name])


def values_of(path: Path, fields: Iterable[str]) -> str:
    """Returns the swept fields of a trial, in words."""
    config = read_config(path)
    grid = config["replicas"]["grid"] or {}
    values = dict(leaves(config)) | {f: v[0] if len(v) == 1 else v for f, v in grid.items()}
    return ", ".join(f"{field}={values[field]!r}" for field in fields)


def table_rows(
    paths: Iterable[Path], fields: list[str], metric: str, test: str
) -> list[dict[str, Any]]:
    """Returns a row of the table for each point of each trial's own grid, the best first.

    Trials that have not ended come last: with a failed one the metric may have been the lowest.
    A row has the fields, the best value of the metric and the mean of `test`, the `test_measure`;
    None if not measured.
    """
    found = [row for path in paths for row in _rows_of(path, fields, metric, test)]

    def order(row: Mapping[str, Any]) -> tuple:
        score, is_open = row[metric], row["status"] not in (FINISHED, STOPPED)
        return is_open, score is None, score or 0, row["trial"]

    return sorted(found, key=order)


def test_measure(paths: Iterable[Path]) -> str:
    """Returns "test_loss" if finished trials have one, as their models predict it; or the error."""
    results = [workdir.read_result(path) for path in paths if is_finished(path)]
    has_loss = any("test_loss" in result["replicas"][0] for result in results)
    return "test_loss" if has_loss else "test_error"


def _rows_of(path: Path, fields: list[str], metric: str, test: str) -> Iterable[dict[str, Any]]:
    config, (epoch, best) = read_config(path), progress(path, metric)[-1]
    seeds, errors = config["replicas"]["seeds"], [None] * len(best)
    if is_finished(path):
        measured = [replica.get(test) for replica in workdir.read_result(path)["replicas"]]
        if None not in measured:
            errors = np.reshape(measured, (-1, seeds)).mean(1).tolist()
    for replica, error, score in zip(replicas(config)[::seeds], errors, best, strict=True):
        values = dict(leaves(config)) | replica.overrides
        row = {"trial": path.name, "status": status(path), "epoch": epoch}
        row |= {field: values[field] for field in fields} | {test: error}
        # Last, as it may be the same: a trial that was stopped early has it in its log only.
        yield row | {metric: float(score) if np.isfinite(score) else None}
