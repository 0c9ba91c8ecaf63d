"""What the directory of a trial tells: how far it is, how good, and why it ended.

A trial is an ordinary run. Beside its files there are trial.log, what the process has printed, and,
of one that the scheduler has given up, stopped.json.
"""

import contextlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from adv_jax.runner.config import leaves, replicas
from adv_jax.runner.workdir import (
    as_json,
    default_path,
    has_config,
    is_finished,
    json_bytes,
    read_config,
    read_json,
    replace,
    writing,
)
from adv_jax.types import UserError
from launch import space

FINISHED, STOPPED, FAILED, INTERRUPTED = "finished", "stopped early", "failed", "interrupted"
STATUSES = (FINISHED, STOPPED, FAILED, INTERRUPTED)
_ERROR = "error: "


class Settings(NamedTuple):
    """What all trials of a sweep share.

    config: of which points change fields.
    traced: the fields that a program has as traced numbers.
    folder: of the trials' directories, the same on every machine.
    metric: whose lowest value counts.
    cwd: where relative paths begin.
    """

    config: dict[str, Any]
    traced: frozenset[str]
    folder: Path
    metric: str
    cwd: str

    def config_at(self, point: space.Point) -> dict[str, Any]:
        return space.at(self.config, point, traced=self.traced)

    def path_of(self, point: space.Point) -> Path:
        return self.folder / default_path(self.config_at(point)).name

    def point_of(self, config: Mapping[str, Any], fields: Iterable[str]) -> space.Point:
        return space.point_of(config, fields, traced=self.traced)


class Progress(NamedTuple):
    """How far a trial is.

    epoch: the last that is logged with the metric, 0 if there is none.
    best: f[R], the lowest of each replica so far; inf where there is none.
    """

    epoch: int
    best: np.ndarray

    def score(self, seeds: int) -> float:
        """The lowest mean over `seeds` among the points of the trial's own grid; inf if none."""
        return float(self.best.reshape(-1, seeds).mean(1).min())


def prepare(path: Path, config: Mapping[str, Any]) -> None:
    """Makes the directory of the trial of a config, if need be.

    Raises:
      WorkdirError: it cannot be written, or holds another config.
    """
    if not has_config(path, config):
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
        replace(path / "config.json", json_bytes(as_json(config)))


def known(folder: Path) -> list[Path]:
    """The directories of the trials that were begun."""
    return sorted(path.parent for path in folder.glob("*/config.json"))


def status(path: Path) -> str:
    """FINISHED, STOPPED, FAILED or INTERRUPTED, which one that runs is too."""
    if is_finished(path):
        return FINISHED
    if (path / "stopped.json").exists():
        return STOPPED
    return FAILED if failure(path) else INTERRUPTED


def is_settled(path: Path) -> bool:
    """Whether there is nothing left to run."""
    return status(path) in (FINISHED, STOPPED)


def failure(path: Path) -> str:
    """The error that the last process has ended with; "": with none."""
    log = path / "trial.log"
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    last = lines[-1] if lines else ""
    return last.removeprefix(_ERROR) if last.startswith(_ERROR) else ""


def note_failure(path: Path, message: str) -> None:
    """Says in the log why a trial has ended that could not say it itself.

    Where the disk is full nothing is said: the sweep itself ends with that.
    """
    with contextlib.suppress(OSError), (path / "trial.log").open("a") as log:
        log.write(f"{_ERROR}{message}\n")


def note_stop(path: Path, epoch: int) -> None:
    """Records that the scheduler has given a trial up after an epoch."""
    replace(path / "stopped.json", json_bytes({"epoch": epoch}))


def log_size(path: Path) -> int:
    """Bytes of what a trial has logged so far."""
    log = path / "metrics.jsonl"
    return log.stat().st_size if log.exists() else 0


def progress(path: Path, config: Mapping[str, Any], metric: str) -> Progress:
    """How far the trial of a config is."""
    epoch, best = 0, np.full(len(replicas(config)), np.inf)
    for line in _lines(path / "metrics.jsonl"):
        if metric in line:
            epoch = max(epoch, line["epoch"])
            best[line["replica"]] = min(best[line["replica"]], line[metric])
    return Progress(epoch, best)


def counts(paths: Iterable[Path]) -> str:
    """How many trials are finished, stopped early, ..., in words."""
    counted = Counter(map(status, paths))
    return ", ".join(f"{counted[name]} {name}" for name in STATUSES if counted[name])


def values_of(config: Mapping[str, Any], fields: Iterable[str]) -> str:
    """The swept fields of a trial's config in words."""
    grid = config["replicas"]["grid"] or {}
    values = dict(leaves(config)) | {f: v[0] if len(v) == 1 else v for f, v in grid.items()}
    return ", ".join(f"{field}={values[field]!r}" for field in fields)


def rows(paths: Iterable[Path], fields: Iterable[str], metric: str) -> list[dict[str, Any]]:
    """A row for each point, best first: of each trial, each point of its own grid.

    Args:
      paths: directories of trials.
      fields: what the sweep varies.
      metric: its lowest value, the mean over seeds, is the row's; None if none was measured.
    """
    found = [row for path in paths for row in _rows_of(path, list(fields), metric)]
    return sorted(found, key=lambda row: (row[metric] is None, row[metric] or 0, row["trial"]))


def _rows_of(path: Path, fields: list[str], metric: str) -> list[dict[str, Any]]:
    config = read_config(path)
    seeds, own = config["replicas"]["seeds"], dict(leaves(config))
    reached = progress(path, config, metric)
    result = read_json(path / "result.json") if is_finished(path) else None
    found = []
    for i, best in enumerate(reached.best.reshape(-1, seeds)):
        chosen = slice(i * seeds, (i + 1) * seeds)
        values = own | replicas(config)[i * seeds].overrides
        row: dict[str, Any] = {"trial": path.name, "status": status(path), "epoch": reached.epoch}
        row |= {field: values[field] for field in fields}
        errors = [r["test_error"] for r in result["replicas"][chosen]] if result else []
        row["test_error"] = float(np.mean(errors)) if errors else None
        # After test_error, which it may be too: a trial that was stopped early has no other.
        row[metric] = float(best.mean()) if np.isfinite(best).all() else None
        found.append(row)
    return found


def _lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a log that may be being written."""
    if not path.exists():
        return []
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    try:
        return [json.loads(line) for line in whole.splitlines()]
    except ValueError as error:
        raise UserError(f"{path} is damaged, it is not JSON: {error}") from error
