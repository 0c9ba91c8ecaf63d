"""Reads and writes the files of a run: config, data, metrics and result."""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from adv_jax.runner.config.document import leaves
from adv_jax.runner.store.formats import (
    as_json,
    parse_json,
    read_arrays,
    read_bytes,
    read_object,
    shortened,
    with_tuples,
    write_arrays,
    write_json,
)
from adv_jax.runner.store.writing import WorkdirError, check_writable, is_at, replace, writing
from adv_jax.types import UserError, host_array, is_real

_FITTED = "preprocess.npz"
_METRICS = "metrics.jsonl"
_RESULT = "result.json"
_WEIGHTS = "weights.npz"
_A_SWEEP = "which holds a sweep: its runs are in the folder trials"


class InUse(WorkdirError):
    """Another process uses the workdir."""


class Workdir:
    """The directory of one run, locked against other processes. A context manager.

    All methods raise WorkdirError if a file cannot be written or read.
    """

    def __init__(self, path: str | Path, config: Mapping[str, Any]) -> None:
        """Creates the directory, or opens one that holds the same config.

        Raises:
          WorkdirError: it cannot be written, or it holds another config.
          InUse: another process uses it.
        """
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.figures = self.path / "figures"
        self._metrics = self.path / _METRICS
        self._result = self.path / _RESULT
        for folder in (self.path, self.figures):
            check_writable(folder)
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            # The kernel releases the lock when the process ends; the file stays.
            self._lock = (self.path / "lock").open("a")
        try:
            self._acquire_lock()
            if not check_same_config(self.path, config):
                write_json(self.path / "config.json", as_json(config))
        except WorkdirError:
            self._lock.close()
            raise

    def __enter__(self) -> "Workdir":
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()

    def _check_exists(self) -> None:
        """Raises WorkdirError if the directory was deleted or replaced."""
        if not is_at(self.path / "lock", self._lock.fileno()):
            raise WorkdirError(f"workdir {self.path} was deleted during the run")

    def _acquire_lock(self) -> None:
        try:
            with writing(self.path / "lock"):
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except WorkdirError as error:
            if not isinstance(error.__cause__, BlockingIOError):
                raise
            raise InUse(f"workdir {self.path} is in use by another process") from error

    def result(self) -> dict[str, Any] | None:
        """Returns the contents of result.json; None if the run is not finished."""
        return read_result(self.path) if is_finished(self.path) else None

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Writes result.json atomically, which marks the run as finished."""
        self._check_exists()
        write_json(self._result, result)

    def record_data(
        self,
        document: Mapping[str, Any],
        rows: Mapping[str, np.ndarray],
        fitted: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Records the data, or checks that the run has recorded the same.

        Args:
          document: written to data.json.
          rows: the rows of each replica and subset, written to rows.npz.
          fitted: the arrays of the preprocessing, written to preprocess.npz; None if it has none.

        Raises:
          WorkdirError: the run was started on other data, or data.json is missing.
        """
        file = self.path / "rows.npz"
        if check_same_data(self.path, document):
            _check_rows(file, rows)
            return
        # Further processes of a run have its checkpoints elsewhere, and no data.json yet.
        if (self.path / "checkpoints").exists():
            alone = "a run with checkpoints must have its data.json, got none"
            raise WorkdirError(f"workdir {self.path}: {alone}; choose another one")
        write_arrays(file, rows)
        if fitted is not None:
            write_arrays(self.path / _FITTED, fitted)
        # Written last: data.json marks the other files as complete.
        write_json(self.path / "data.json", as_json(document))

    def record_weights(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Keeps a copy of the weights from which the run starts, unless there is one."""
        if not (self.path / _WEIGHTS).exists():
            write_arrays(self.path / _WEIGHTS, arrays)

    def metrics(self) -> list[dict[str, Any]]:
        """Returns the lines of metrics.jsonl."""
        return read_metrics(self.path)

    def append_metrics(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Appends lines to metrics.jsonl."""
        self._check_exists()
        with writing(self._metrics), self._metrics.open("a") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines))

    def rewind_metrics(self, epoch: int) -> None:
        """Deletes the lines after `epoch`, which the resumed run logs again."""
        lines = read_bytes(self._metrics).splitlines(True) if self._metrics.exists() else []
        whole = [line for line in lines if line.endswith(b"\n")]
        kept = [line for line in whole if _parse_line(self._metrics, line)["epoch"] <= epoch]
        replace(self._metrics, b"".join(kept))

    def check_metrics(self, epoch: int, stopped: Sequence[bool]) -> None:
        """Checks that metrics.jsonl has all lines up to the checkpoint of `epoch`.

        Args:
          epoch: the epoch of the checkpoint.
          stopped: whether each replica stopped early. A replica that did not stop must have lines
            up to `epoch`; if all stopped, so must the one that stopped last.

        Raises:
          WorkdirError: lines are missing, for example after a power cut.
        """
        lines = self.metrics()
        ends = max((line["epoch"] for line in lines), default=0)
        for i in sorted(range(len(stopped)), key=lambda i: stopped[i]):
            own = [line["epoch"] for line in lines if line["replica"] == i]
            needed = max(own, default=1) if stopped[i] and ends == epoch else epoch
            if own != list(range(1, needed + 1)):
                raise WorkdirError(
                    f"{self._metrics} must have a line of replica {i} for each of the epochs 1 to "
                    f"{needed}, got {len(own)} lines, the last for epoch {max(own, default=0)}; "
                    "use a new workdir, or delete the checkpoints of this one"
                )

    def sync_metrics(self) -> None:
        """Calls fsync on metrics.jsonl."""
        with writing(self._metrics), self._metrics.open("rb") as file:
            os.fsync(file.fileno())


def read_config(path: Path) -> dict[str, Any]:
    """Returns the config of a run, with lists converted to tuples. Needs no lock.

    Raises:
      WorkdirError: the directory holds no run, or config.json is damaged.
    """
    file = path / "config.json"
    if not os.path.isfile(file):  # False for invalid names, too.
        raise WorkdirError(f"workdir must be the directory of a run, got {path}: no config.json")
    config = read_object(file)
    if _is_of_sweep(config):
        raise WorkdirError(f"workdir must be the directory of a run, got {path}, {_A_SWEEP}")
    return with_tuples(config)


def is_finished(path: Path) -> bool:
    """Returns whether the run in a directory has finished."""
    return os.path.exists(path / _RESULT)


def check_finished(path: Path) -> None:
    """Raises UserError unless the run in a directory has finished."""
    if not is_finished(path):
        raise UserError(f"workdir must be a finished run, got {path}: no {_RESULT}")


def read_result(path: Path) -> dict[str, Any]:
    """Returns the result.json of a finished run. Needs no lock.

    Raises:
      WorkdirError: the file cannot be read, or is not the result of a run.
    """
    file = path / _RESULT
    result = read_object(file)
    data, replicas = result.get("data"), result.get("replicas")
    if not isinstance(data, dict):
        raise WorkdirError(f"{file}: data must be a dict, got {shortened(data)}")
    found = replicas if isinstance(replicas, list) else []
    measured = [isinstance(r, dict) and r.keys() & {"test_error", "test_loss"} for r in found]
    if not measured or not all(measured):
        allowed = "a list of dicts with a test_error or test_loss each"
        raise WorkdirError(f"{file}: replicas must be {allowed}, got {shortened(replicas)}")
    curves = result.get("evaluation") or {}
    if not isinstance(curves, dict):
        raise WorkdirError(f"{file}: evaluation must be a dict, got {shortened(curves)}")
    for name, curve in curves.items():
        if not _is_curve(curve, len(found)):
            allowed = "a dict of eps and the error of each replica at each"
            raise WorkdirError(
                f"{file}: evaluation.{name} must be {allowed}, got {shortened(curve)}"
            )
    warnings = result.get("warnings", [])
    if not isinstance(warnings, list) or not all(isinstance(line, str) for line in warnings):
        raise WorkdirError(f"{file}: warnings must be a list of texts, got {shortened(warnings)}")
    return result


def _is_curve(value: Any, num_replicas: int) -> bool:
    """Whether a value has "eps", sizes f[m], and "error" f[replicas, m] at them."""
    if not isinstance(value, dict):
        return False
    sizes, errors = (host_array(value.get(name)) for name in ("eps", "error"))
    if sizes is None or errors is None or not (is_real(sizes) and is_real(errors)):
        return False
    return sizes.ndim == 1 and errors.shape == (num_replicas, len(sizes))


def read_metrics(path: Path, *, running: bool = False) -> list[dict[str, Any]]:
    """Returns the lines of a run's metrics.jsonl. Needs no lock.

    running: whether a process may be writing the file or its last line, which may be missing then.

    Raises:
      WorkdirError: the file is missing, or a line is damaged.
    """
    file = path / _METRICS
    if running and not file.exists():
        return []
    lines = read_bytes(file).splitlines(keepends=True)
    whole = [line for line in lines if line.endswith(b"\n") or not running]
    return [_parse_line(file, line) for line in whole]


def check_same_config(path: Path, config: Mapping[str, Any]) -> bool:
    """Returns whether the directory holds a run of this config; False if it holds no run.

    Raises:
      WorkdirError: it holds a run of another config, and the message names the fields; or parts of
        a run, whose config is unknown.
    """
    file = path / "config.json"
    if not os.path.exists(file):
        parts = "checkpoints", "data.json", _METRICS, _RESULT
        if found := [name for name in parts if (path / name).exists()]:
            raise WorkdirError(
                f"workdir {path} must hold a run with its config.json, got {', '.join(found)} "
                "alone: choose another one"
            )
        return False
    recorded = read_object(file)
    if _is_of_sweep(recorded) != _is_of_sweep(config):
        held = _A_SWEEP if _is_of_sweep(recorded) else "which holds a run"
        wanted = "a sweep" if _is_of_sweep(config) else "a run"
        raise WorkdirError(f"workdir must be a new folder or that of {wanted}, got {path}, {held}")
    if found := differences(recorded, config, "but was"):
        raise WorkdirError(f"workdir {path} holds a run of another config: {found}")
    return True


def _is_of_sweep(document: Mapping[str, Any]) -> bool:
    """Returns whether a config.json is that of a sweep, which has the config of all trials."""
    return "config" in document


def differences(old: Mapping[str, Any], new: Mapping[str, Any], but: str) -> str:
    """Returns the fields of a config that differ from another's, in words, or "".

    but: the words before a value of the other one.

    >>> differences({"seed": 1, "epochs": 2}, {"seed": 3, "patience": 4}, "but was")
    'epochs is unset but was 2; patience is 4 but was unset; seed is 3 but was 1'
    """
    before, after = dict(_flat(as_json(old))), dict(_flat(as_json(new)))
    fields = sorted(before.keys() | after.keys())
    differing = [field for field in fields if before.get(field, ()) != after.get(field, ())]
    return "; ".join(_difference(field, after, before, but) for field in differing)


def _difference(field: str, new: Mapping[str, Any], old: Mapping[str, Any], but: str) -> str:
    _, is_module, name = f".{field}".partition(".modules.")
    if is_module and field in new and field in old:
        digests = f"SHA-256 {new[field][:12]} {but} {old[field][:12]}"
        return f"the file of module {name} has changed ({digests})"
    value, other = (repr(one[field]) if field in one else "unset" for one in (new, old))
    return f"{field} is {value} {but} {other}"


def check_same_data(path: Path, document: Mapping[str, Any]) -> bool:
    """Returns whether the directory holds a run on this data; False if it has recorded no data.

    Raises:
      WorkdirError: it holds a run on other data; the message names the fields.
    """
    file = path / "data.json"
    if not file.exists():
        return False
    old, new = read_object(file), as_json(document)
    differing = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    if differing:
        raise WorkdirError(
            f"workdir {path} holds a run on other data: {', '.join(differing)} of {file} differ"
        )
    return True


def read_fitted(path: Path) -> dict[str, np.ndarray]:
    """Returns the arrays of a run's preprocessing.

    Raises:
      WorkdirError: the file is missing or damaged.
    """
    return read_arrays(path / _FITTED)


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """Returns the arrays of `record_weights`, or {} if the run has none.

    Raises:
      WorkdirError: the file is damaged.
    """
    return read_arrays(path / _WEIGHTS) if (path / _WEIGHTS).exists() else {}


def _check_rows(file: Path, rows: Mapping[str, np.ndarray]) -> None:
    """Checks rows.npz against `rows`. A damaged or missing file is rewritten, as no run needs it.

    Raises:
      WorkdirError: it holds other rows, for example those of another version of adv_jax.
    """
    try:
        old = read_arrays(file)
    except WorkdirError:
        write_arrays(file, rows)
        return
    same = old.keys() == rows.keys() and all(np.array_equal(old[k], rows[k]) for k in rows)
    if not same:
        legal = "the rows that this version of adv_jax draws for the config and its seeds"
        raise WorkdirError(f"{file} must hold {legal}, got others; use a new workdir")


def default_path(config: Mapping[str, Any]) -> Path:
    """Returns runs/<experiment>-<hash of the config>, whatever the files of its modules hold."""
    text = json.dumps({k: v for k, v in as_json(config).items() if k != "modules"}, sort_keys=True)
    return Path("runs") / f"{config['experiment']}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _parse_line(path: Path, line: bytes) -> dict[str, Any]:
    """Parses a line of metrics.jsonl: numbers by name, among them an epoch and a replica."""
    metrics = parse_json(path, line)
    values = metrics if isinstance(metrics, dict) else {}
    whole = [values.get(name) for name in ("epoch", "replica")]
    if not all(type(value) is int and value >= 0 for value in whole):
        found = shortened(metrics)
        raise WorkdirError(f"{path} must have an epoch and a replica in each line, got {found}")
    if texts := [name for name, value in values.items() if type(value) not in (int, float)]:
        found = shortened(values[texts[0]])
        raise WorkdirError(f"{path} must have numbers alone, got {texts[0]} {found}")
    return values


def _flat(document: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    yield from leaves(document)
    replicas = document.get("replicas")
    grid = replicas.get("grid") if isinstance(replicas, Mapping) else None
    # The order of a grid's paths is that of the replicas, or of a sweep's trials.
    yield "replicas.grid", [*grid.items()] if isinstance(grid, Mapping) else grid
    if isinstance(of_sweep := document.get("grid"), Mapping):
        yield "grid", [*of_sweep.items()]
