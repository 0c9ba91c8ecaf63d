"""Reads and writes JSON, CSV and arrays."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from adv_jax.data import files
from adv_jax.runner.store.writing import WorkdirError, replace


def as_json(config: Mapping[str, Any]) -> dict[str, Any]:
    """Converts a config to JSON types: tuples become lists."""
    return json.loads(json.dumps(config))


def with_tuples(value: Any) -> Any:
    """Inverts `as_json`."""
    if isinstance(value, dict):
        return {key: with_tuples(entry) for key, entry in value.items()}
    return tuple(map(with_tuples, value)) if isinstance(value, list) else value


def json_bytes(value: Mapping[str, Any]) -> bytes:
    """Serializes a value as the bytes of a JSON file."""
    return (json.dumps(value, indent=1) + "\n").encode()


def csv_bytes(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """Serializes a table as the bytes of a CSV file."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([columns, *rows])
    return file.getvalue().encode()


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes a JSON file in a folder that exists, atomically.

    Raises:
      WorkdirError: it cannot be written.
    """
    replace(path, json_bytes(value))


def read_json(path: Path) -> Any:
    """Returns the value in a JSON file.

    Raises:
      WorkdirError: the file is damaged, or cannot be read.
    """
    return parse_json(path, read_bytes(path))


def read_object(path: Path) -> dict[str, Any]:
    """Returns the object in a JSON file.

    Raises:
      WorkdirError: as `read_json`; or it holds something else.
    """
    document = read_json(path)
    if not isinstance(document, dict):
        raise WorkdirError(f"{path} must be a JSON object, got {shortened(document)}")
    return document


def read_bytes(path: Path) -> bytes:
    """Returns the bytes of a file, or raises WorkdirError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise WorkdirError(f"{path} cannot be read: {error.strerror or error}") from error


def parse_json(path: Path, text: bytes) -> Any:
    """Returns the value in a text of a file, or raises WorkdirError, which names the file."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WorkdirError(f"{path} is damaged, it is not JSON: {error}") from error


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes an npz file in a folder that exists, atomically, or raises WorkdirError."""
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **arrays)
    replace(path, content.getvalue())


def read_arrays(file: Path) -> dict[str, np.ndarray]:
    """Returns the arrays of an npz file of a run.

    Raises:
      WorkdirError: it is missing, or damaged.
    """
    try:
        with files.npz(file) as arrays:
            return dict(arrays)
    except FileNotFoundError:
        raise WorkdirError(f"{file} is missing; the run cannot resume without it") from None
    except Exception as error:
        raise WorkdirError(f"{file} is damaged: {str(error).partition(chr(10))[0]}") from error


def shortened(value: Any) -> str:
    """Returns a value in one line of at most 60 characters."""
    line = repr(value)
    return line if len(line) <= 60 else f"{line[:57]}..."
