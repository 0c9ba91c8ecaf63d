"""The files of one run: config.json, metrics.jsonl, result.json; checkpoints/ and figures/."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from adv_jax.config import leaves
from adv_jax.types import UserError


class WorkdirError(UserError):
    """A workdir that cannot be used."""


class Workdir:
    """One directory, one config: the same command in the same place goes on where it stopped."""

    def __init__(self, path: str | Path, config: Mapping[str, Any]) -> None:
        """Makes the directory, or takes one that holds the same config.

        Raises:
          WorkdirError: it cannot be written, or holds another config (the fields are named).
        """
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.figures = self.path / "figures"
        self._metrics = self.path / "metrics.jsonl"
        self._result = self.path / "result.json"
        document = as_json(config)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if (self.path / "config.json").exists():
                self._refuse_other(document)
            else:
                write_json(self.path / "config.json", document)
            self.figures.mkdir(exist_ok=True)
        except OSError as error:
            raise WorkdirError(f"workdir {self.path} cannot be used: {error.strerror}") from error

    def _refuse_other(self, document: dict[str, Any]) -> None:
        try:
            found = json.loads((self.path / "config.json").read_text())
        except json.JSONDecodeError as error:
            raise WorkdirError(f"{self.path / 'config.json'} is not JSON: {error}") from error
        old, new = dict(_flat(found)), dict(_flat(document))
        differing = [
            f"{path} is {new.get(path, 'absent')!r} but was {old.get(path, 'absent')!r}"
            for path in sorted(old.keys() | new.keys())
            if old.get(path, ()) != new.get(path, ())
        ]
        if differing:
            raise WorkdirError(
                f"workdir {self.path} holds a run of another config: {'; '.join(differing)}"
            )

    def result(self) -> dict[str, Any] | None:
        """What `write_result` has written, or None: the run is not finished."""
        return json.loads(self._result.read_text()) if self._result.exists() else None

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Writes result.json in one piece; its presence says that the run is finished."""
        write_json(self._result, result)

    def write_rows(self, rows: Mapping[str, np.ndarray]) -> None:
        """Records which training examples each replica uses for what, in rows.npz."""
        np.savez_compressed(self.path / "rows.npz", allow_pickle=False, **rows)

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl."""
        return [json.loads(line) for line in self._metrics.read_text().splitlines()]

    def append_metrics(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Adds one line of JSON each."""
        with self._metrics.open("a") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines))

    def rewind_metrics(self, epoch: int) -> None:
        """Drops what was logged after `epoch`, for the resumed run logs it again."""
        if not self._metrics.exists():
            return
        whole_lines = self._metrics.read_text().splitlines(keepends=True)
        kept = [s for s in whole_lines if s.endswith("\n") and json.loads(s)["epoch"] <= epoch]
        _replace(self._metrics, "".join(kept))


def default_path(config: Mapping[str, Any]) -> Path:
    """runs/<experiment>-<hash of the config>."""
    text = json.dumps(as_json(config), sort_keys=True)
    return Path("runs") / f"{config['experiment']}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def as_json(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config as JSON gives it back: tuples become lists."""
    return json.loads(json.dumps(config))


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes a file whole or not at all."""
    _replace(path, json.dumps(value, indent=1) + "\n")


def _replace(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    with part.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _flat(document: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    yield from leaves(document)
    yield "replicas.grid", document.get("replicas", {}).get("grid")
