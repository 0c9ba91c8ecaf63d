"""The directories of a sweep's trials, and the process of a trial: `python -m launch._trials DIR`.

A trial is an ordinary run. Its directory has two more files: trial.log, the output of the process,
and stopped.json if the scheduler stopped the trial early. These directories are all the state of a
sweep: Ray's own state is some seconds old when a sweep is killed, and `Tuner.restore` cannot add
trials to a search.
"""

import fcntl
import json
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from adv_jax.runner import workdir
from adv_jax.runner.config import leaves, replicas
from adv_jax.runner.workdir import is_finished, read_config
from adv_jax.types import UserError
from launch import _space

FINISHED, STOPPED, FAILED, INTERRUPTED = "finished", "stopped early", "failed", "interrupted"
_ERROR = "error: "


class Settings(NamedTuple):
    """What all trials of a sweep share.

    config: the base.
    traced: the fields that are traced.
    folder: where the trials' directories are, the same on every machine.
    metric: its lowest value is a trial's score.
    cwd: where relative paths begin.
    """

    config: dict[str, Any]
    traced: frozenset[str]
    folder: Path
    metric: str
    cwd: str

    def config_at(self, point: _space.Point) -> dict[str, Any]:
        return _space.at(self.config, point, traced=self.traced)

    def path_of(self, point: _space.Point) -> Path:
        return self.folder / workdir.default_path(self.config_at(point)).name


def main(path: Path) -> None:
    """Runs the config of a directory."""
    end_with_parent()
    with (path / "trial.lock").open("a") as lock:
        # The process of a killed sweep saves its epoch first; this one goes on from it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        from adv_jax.main import execute  # It takes seconds to import.
        from adv_jax.runner.output import standard_output

        with standard_output():
            execute(read_config(path), path)


def end_with_parent() -> None:
    """Sends SIGTERM to this process, once, when its parent closes standard input or is killed.

    Input is a pipe in which nothing is written: the kernel ends it with the parent, however that
    ends. A second signal would stop the run before it has saved its epoch.
    """

    def wait() -> None:
        os.read(0, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def prepare(path: Path, config: Mapping[str, Any]) -> None:
    """Makes the directory of a trial if there is none; raises WorkdirError if it cannot."""
    if not workdir.check_same_config(path, config):
        with workdir.writing(path):
            path.mkdir(parents=True, exist_ok=True)
        document = workdir.as_json(config)
        workdir.replace(path / "config.json", workdir.json_bytes(document))


def known(folder: Path) -> list[Path]:
    """Returns the directories of the trials that have begun."""
    return sorted(path.parent for path in folder.glob("*/config.json"))


def status(path: Path) -> str:
    """Returns FINISHED, STOPPED, FAILED or INTERRUPTED; a running trial is INTERRUPTED."""
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
    """Writes to the log why a process ended that could not say it itself."""
    with (path / "trial.log").open("a") as log:
        log.write(f"{_ERROR}{message}\n")


def note_stop(path: Path, epoch: int) -> None:
    """Records that the scheduler stopped a trial after an epoch."""
    workdir.replace(path / "stopped.json", workdir.json_bytes({"epoch": epoch}))


def progress(path: Path, metric: str) -> tuple[int, np.ndarray]:
    """Returns the last epoch with the metric, or 0, and f[P], the best value so far.

    P counts the points of the trial's own grid. The value of a point is the mean over seeds of the
    lowest metric, inf before it is measured.
    """
    config = read_config(path)
    epoch, lowest = 0, np.full(len(replicas(config)), np.inf)
    for line in _lines(path / "metrics.jsonl"):
        if metric in line:
            epoch = max(epoch, line["epoch"])
            lowest[line["replica"]] = min(lowest[line["replica"]], line[metric])
    return epoch, lowest.reshape(-1, config["replicas"]["seeds"]).mean(1)


def _lines(path: Path) -> list[dict[str, Any]]:
    """Returns the whole lines of a log, whose last one may be half written."""
    text = path.read_bytes() if path.exists() else b""
    try:
        return [json.loads(line) for line in text[: text.rfind(b"\n") + 1].splitlines()]
    except ValueError as error:
        raise UserError(f"{path} must have lines of JSON, got {error}") from error


def counts(paths: Iterable[Path]) -> str:
    """Returns the number of trials of each status, in words."""
    counted = Counter(map(status, paths))
    order = (FINISHED, STOPPED, FAILED, INTERRUPTED)
    return ", ".join(f"{counted[name]} {name}" for name in order if name in counted)


def values_of(path: Path, fields: Iterable[str]) -> str:
    """Returns the swept fields of a trial in words."""
    config = read_config(path)
    grid = config["replicas"]["grid"] or {}
    values = dict(leaves(config)) | {f: v[0] if len(v) == 1 else v for f, v in grid.items()}
    return ", ".join(f"{field}={values[field]!r}" for field in fields)


def rows(paths: Iterable[Path], fields: list[str], metric: str) -> list[dict[str, Any]]:
    """Returns a row of the table for each point of each trial's own grid, the best first.

    A row has the fields, the best value of the metric and the test error, None if not measured.
    """
    found = [row for path in paths for row in _rows_of(path, fields, metric)]
    return sorted(found, key=lambda row: (row[metric] is None, row[metric] or 0, row["trial"]))


def _rows_of(path: Path, fields: list[str], metric: str) -> list[dict[str, Any]]:
    config, (epoch, best) = read_config(path), progress(path, metric)
    seeds, errors = config["replicas"]["seeds"], [None] * len(best)
    if is_finished(path):
        measured = [replica["test_error"] for replica in workdir.read_result(path)["replicas"]]
        errors = np.reshape(measured, (-1, seeds)).mean(1).tolist()
    found = []
    for replica, error, score in zip(replicas(config)[::seeds], errors, best, strict=True):
        values = dict(leaves(config)) | replica.overrides
        row: dict[str, Any] = {"trial": path.name, "status": status(path), "epoch": epoch}
        row |= {field: values[field] for field in fields} | {"test_error": error}
        # Last, as it may be test_error: a trial that was stopped early has it in its log only.
        row[metric] = float(score) if np.isfinite(score) else None
        found.append(row)
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]))
