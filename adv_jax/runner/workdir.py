"""The files of one run: its config, data, metrics and result; checkpoints/ and figures/."""

import fcntl
import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from adv_jax.runner.config import leaves
from adv_jax.types import UserError

_FITTED = "preprocess.npz"
_METRICS = "metrics.jsonl"
_RESULT = "result.json"


class WorkdirError(UserError):
    """A workdir that cannot be used."""


class Workdir:
    """One directory, one config: the same command in the same place goes on where it stopped.

    A context manager, which keeps other processes out. All methods raise WorkdirError for a file
    that cannot be written or read.
    """

    def __init__(self, path: str | Path, config: Mapping[str, Any]) -> None:
        """Makes the directory, or takes one that holds the same config.

        Raises:
          WorkdirError: it cannot be written, another process uses it, or it holds another config
            (the fields are named).
        """
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.figures = self.path / "figures"
        self._metrics = self.path / _METRICS
        self._result = self.path / _RESULT
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            # The kernel unlocks it however the process ends; the file itself stays.
            self._lock = (self.path / "lock").open("a")
        try:
            self._lock_it()
            if not has_config(self.path, config):
                _write_json(self.path / "config.json", as_json(config))
        except WorkdirError:
            self._lock.close()
            raise

    def __enter__(self) -> "Workdir":
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()

    def _check_there(self) -> None:
        """Refuses to write to a directory that was deleted, and to another one in its place."""
        try:
            there = os.path.samestat(os.stat(self.path / "lock"), os.fstat(self._lock.fileno()))
        except OSError:
            there = False
        if not there:
            raise WorkdirError(f"workdir {self.path} was deleted while the run was using it")

    def _lock_it(self) -> None:
        try:
            with writing(self.path / "lock"):
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except WorkdirError as error:
            if not isinstance(error.__cause__, BlockingIOError):
                raise
            raise WorkdirError(f"workdir {self.path} is in use by another process") from error

    def result(self) -> dict[str, Any] | None:
        """What `write_result` has written, or None: the run is not finished."""
        return _document(self._result) if is_finished(self.path) else None

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Writes result.json in one piece; its presence says that the run is finished."""
        self._check_there()
        _write_json(self._result, result)

    def take_data(
        self,
        document: Mapping[str, Any],
        rows: Mapping[str, np.ndarray],
        fitted: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Records the data in data.json, and in rows.npz who uses which examples for what.

        `fitted`, the arrays of the preprocessing, go to preprocess.npz; None: there is none.

        Raises:
          WorkdirError: the run was begun on other data (files that were replaced, say).
        """
        file = self.path / "rows.npz"
        if has_data(self.path, document):
            _check_rows(file, rows)
            return
        _write_arrays(file, rows)
        if fitted is not None:
            _write_arrays(self.path / _FITTED, fitted)
        _write_json(self.path / "data.json", as_json(document))  # The last: the others are whole.

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl."""
        return read_metrics(self.path)

    def append_metrics(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Adds one line of JSON each."""
        self._check_there()
        with writing(self._metrics), self._metrics.open("a") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines))

    def rewind_metrics(self, epoch: int) -> None:
        """Drops what was logged after `epoch`, for the resumed run logs it again."""
        lines = _content(self._metrics).splitlines(True) if self._metrics.exists() else []
        whole = [line for line in lines if line.endswith(b"\n")]
        kept = [line for line in whole if _metrics(self._metrics, line)["epoch"] <= epoch]
        replace(self._metrics, b"".join(kept))

    def check_metrics(self, epoch: int, stopped: Sequence[bool]) -> None:
        """Refuses to go on after `epoch` where lines of the epochs before are missing.

        Args:
          stopped: of each replica, whether it stopped early; the other ones reached `epoch`, and so
            did the last one if all have stopped.

        Raises:
          WorkdirError: they are missing: a power cut took them, or the user.
        """
        lines = self.metrics()
        ends = max((line["epoch"] for line in lines), default=0)
        for i in sorted(range(len(stopped)), key=lambda i: stopped[i]):
            own = [line["epoch"] for line in lines if line["replica"] == i]
            needed = max(own, default=1) if stopped[i] and ends == epoch else epoch
            if own != list(range(1, needed + 1)):
                raise WorkdirError(
                    f"{self._metrics} has {len(own)} lines of replica {i}, the last of epoch "
                    f"{max(own, default=0)}, but the checkpoint needs one of each epoch up to "
                    f"{needed}; allowed is a new workdir, or this one without its checkpoints"
                )

    def sync_metrics(self) -> None:
        """Has what was logged on the disk, where a power cut leaves it."""
        with writing(self._metrics), self._metrics.open("rb") as file:
            os.fsync(file.fileno())


def read_config(path: Path) -> dict[str, Any]:
    """The config of the run in a directory, lists being tuples again; nothing is locked.

    Raises:
      WorkdirError: it holds no run, or config.json is damaged.
    """
    file = path / "config.json"
    if not os.path.isfile(file):  # Also of a name that no file can have.
        raise WorkdirError(f"workdir {path} has no config.json; allowed is the directory of a run")
    return _with_tuples(_document(file))


def is_finished(path: Path) -> bool:
    """Whether the directory holds a run that has written its result."""
    return os.path.exists(path / _RESULT)


def read_result(path: Path) -> dict[str, Any]:
    """What the finished run in a directory has written; nothing is locked.

    Raises:
      WorkdirError: it cannot be read, or is not the result of a run.
    """
    file = path / _RESULT
    result = _document(file)
    replicas = result.get("replicas")
    whole = isinstance(result.get("data"), dict) and isinstance(replicas, list)
    if not whole or not all(isinstance(r, dict) and "test_error" in r for r in replicas):
        raise WorkdirError(f"{file} is damaged, it has no data or no replicas with their errors")
    return result


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl of the run in a directory; nothing is locked.

    Raises:
      WorkdirError: it is missing, or a line is damaged.
    """
    file = path / _METRICS
    return [_metrics(file, line) for line in _content(file).splitlines()]


def has_config(path: Path, config: Mapping[str, Any]) -> bool:
    """Whether the directory holds a run of this config; False: it holds none.

    Raises:
      WorkdirError: it holds a run of another config (the fields are named).
    """
    file = path / "config.json"
    if not os.path.exists(file):
        return False
    old, new = dict(_flat(_document(file))), dict(_flat(as_json(config)))
    differing = [
        f"{field} is {new.get(field, 'absent')!r} but was {old.get(field, 'absent')!r}"
        for field in sorted(old.keys() | new.keys())
        if old.get(field, ()) != new.get(field, ())
    ]
    if differing:
        raise WorkdirError(f"workdir {path} holds a run of another config: {'; '.join(differing)}")
    return True


def has_data(path: Path, document: Mapping[str, Any]) -> bool:
    """Whether the directory holds a run on these data; False: none has recorded its data there.

    Raises:
      WorkdirError: it holds a run on other data (what differs is named).
    """
    file = path / "data.json"
    if not file.exists():
        return False
    old, new = _document(file), as_json(document)
    differing = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    if differing:
        raise WorkdirError(
            f"workdir {path} holds a run on other data: {', '.join(differing)} of {file} differ"
        )
    return True


def read_fitted(path: Path) -> dict[str, np.ndarray]:
    """The arrays of the preprocessing that the run in a directory has recorded.

    Raises:
      WorkdirError: the file is missing or damaged.
    """
    return _read_arrays(path / _FITTED)


def _check_rows(file: Path, rows: Mapping[str, np.ndarray]) -> None:
    """Writes rows.npz again where it is damaged or gone: nothing reads it but the user.

    Raises:
      WorkdirError: it holds other rows, as another version of adv_jax may choose them.
    """
    try:
        old = _read_arrays(file)
    except WorkdirError:
        _write_arrays(file, rows)
        return
    same = old.keys() == rows.keys() and all(np.array_equal(old[k], rows[k]) for k in rows)
    if not same:
        raise WorkdirError(f"{file} holds other rows than the config and its seeds give")


def _read_arrays(file: Path) -> dict[str, np.ndarray]:
    try:
        # Opened here, as NumPy leaves a damaged one open.
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            return dict(arrays)
    except FileNotFoundError:
        raise WorkdirError(f"{file} is missing; the run cannot go on without it") from None
    # Whatever a damaged file makes NumPy raise: errors of zip, of deflate, of Python's tokenizer...
    except Exception as error:
        raise WorkdirError(f"{file} is damaged: {str(error).partition(chr(10))[0]}") from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Names the path if the system refuses to write there.

    Raises:
      WorkdirError: the system's reason, such as a full disk.
    """
    try:
        yield
    except OSError as error:
        raise WorkdirError(f"{path} cannot be written: {error.strerror or error}") from error


def default_path(config: Mapping[str, Any]) -> Path:
    """runs/<experiment>-<hash of the config>."""
    text = json.dumps(as_json(config), sort_keys=True)
    return Path("runs") / f"{config['experiment']}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def as_json(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config as JSON gives it back: tuples become lists."""
    return json.loads(json.dumps(config))


def json_bytes(value: Mapping[str, Any]) -> bytes:
    """What a file of JSON holds."""
    return (json.dumps(value, indent=1) + "\n").encode()


def read_json(path: Path) -> Any:
    """What `json_bytes` was given.

    Raises:
      WorkdirError: the file is damaged, or cannot be read.
    """
    return _parsed(path, _content(path))


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    replace(path, json_bytes(value))


def _write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **arrays)
    replace(path, content.getvalue())


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise WorkdirError(f"{path} cannot be read: {error.strerror or error}") from error


def _parsed(path: Path, text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WorkdirError(f"{path} is damaged, it is not JSON: {error}") from error


def _document(path: Path) -> dict[str, Any]:
    """`read_json` of a file that holds an object."""
    document = read_json(path)
    if not isinstance(document, dict):
        raise WorkdirError(f"{path} is damaged, it holds no object of JSON")
    return document


def _metrics(path: Path, line: bytes) -> dict[str, Any]:
    """A line of metrics.jsonl, with those of its numbers that say where it belongs."""
    metrics = _parsed(path, line)
    known = isinstance(metrics, dict)
    if not known or not all(isinstance(metrics.get(name), int) for name in ("epoch", "replica")):
        raise WorkdirError(f"{path} is damaged, it has a line without epoch and replica")
    return metrics


def replace(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all.

    Raises:
      WorkdirError: the system refuses.
    """
    part = path.with_name(path.name + ".part")
    with writing(path):
        try:
            with part.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise


def _with_tuples(value: Any) -> Any:
    """The inverse of `as_json`."""
    if isinstance(value, dict):
        return {key: _with_tuples(entry) for key, entry in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


def _flat(document: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    yield from leaves(document)
    replicas = document.get("replicas")
    yield "replicas.grid", replicas.get("grid") if isinstance(replicas, Mapping) else None
