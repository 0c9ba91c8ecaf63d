"""The finished blocks of an evaluation, in a folder: settings.json, 00000.npz, 00001.npz, ..."""

import hashlib
import json
import operator
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from adv_jax.evaluate.suite import LOGITS, Measured
from adv_jax.types import UserError

ROWS = "rows of a block"  # The name of a setting.
_TOLERANCE = 1e-4  # Of logits, of the largest; a device may round otherwise in another process.


class Folder:
    """Blocks of rows that are measured already; a file is complete as soon as it has its name.

    settings: JSON values that determine the result, apart from the rows.

    Raises:
      UserError: the path is no folder; the folder holds blocks of other settings.
    """

    def __init__(self, path: str | os.PathLike[str], settings: Mapping[str, Any]):
        try:
            self._path = Path(path)
            self._path.mkdir(parents=True, exist_ok=True)
        except (TypeError, OSError) as error:
            raise UserError(f"folder must be a path of a folder to write, got {path!r}") from error
        file = self._path / "settings.json"
        wanted = json.loads(json.dumps(settings))
        if not file.exists():
            text = json.dumps(wanted, indent=1)
            write_whole(file, lambda part: part.write_text(text, "utf-8"))
            return
        try:
            found = dict(json.loads(file.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"{file} must be a JSON object, got a damaged file") from error
        if wanted.get(ROWS) != found.get(ROWS):  # Programs differ for other numbers of rows, too.
            raise UserError(
                f"folder must be new or hold the same evaluation, got {path} with blocks of "
                f"{found.get(ROWS)} rows: batch_size times devices makes {wanted.get(ROWS)} here"
            )
        other = [
            name
            for name in {**wanted, **found}
            if not (_alike if name == LOGITS else operator.eq)(wanted.get(name), found.get(name))
        ]
        if other:
            raise UserError(
                f"folder must be new or hold the same evaluation, got {path} with another "
                f"{', '.join(other)}"
            )

    def load(self, index: int, rows: Any) -> Measured | None:
        """Returns what was measured of a block, without its examples; None if it is not finished.

        Args:
          rows: the tree of arrays of the block.

        Raises:
          UserError: other rows were measured, or the file is damaged.
        """
        file = self._path / _name(index)
        if not file.exists():
            return None
        try:
            with np.load(file, allow_pickle=False) as stored:
                flat = {name: stored[name] for name in stored if not name.startswith("examples/")}
            digest, found = str(flat.pop("rows")), _measured(flat)
        except MemoryError:
            raise
        except Exception as error:  # NumPy and zipfile raise many types for a damaged file.
            raise UserError(f"{file} must be a whole npz file, got a damaged one") from error
        if digest != _digest(rows):
            raise UserError(
                f"batches must have the rows of {file} in block {index}, got others: order them as "
                "before, or take a new folder"
            )
        return found

    def save(self, index: int, rows: Any, measured: Measured) -> None:
        """Writes a block; examples as f[E, B, *D]."""
        flat: dict[str, Any] = {"rows": np.asarray(_digest(rows)), "y": measured.y}
        flat |= {f"clean/{name}": array for name, array in measured.clean.items()}
        flat |= {f"probed/{name}": array for name, array in measured.probed.items()}
        for attack, found in measured.attacked.items():
            flat |= {f"attacked/{attack}/{name}": array for name, array in found.items()}
        for attack, x_adv in measured.examples.items():
            flat[f"examples/{attack}"] = np.moveaxis(x_adv, -1, 1)
        write_whole(self._path / _name(index), partial(np.savez, allow_pickle=False, **flat))


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Writes a file by `write` whole or not at all; raises OSError if the system refuses it."""
    part = path.with_name(f".{path.name}")
    try:
        write(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _measured(flat: dict[str, np.ndarray]) -> Measured:
    """Returns what was measured from the arrays of a file, by name."""
    found = Measured(flat.pop("y"), {}, {}, {}, {})
    for name, array in flat.items():
        part, _, rest = name.partition("/")
        attack, _, field = rest.rpartition("/")
        group = getattr(found, part)
        (group.setdefault(attack, {}) if attack else group)[field] = array
    return found


def _alike(logits: Any, others: Any) -> bool:
    """Returns whether two lists of logits are equal up to rounding."""
    one, other = (np.asarray(found, float) for found in (logits, others))
    limit = _TOLERANCE * np.nanmax(np.abs(one), initial=0.0)
    return one.shape == other.shape and np.allclose(one, other, 0.0, limit, equal_nan=True)


def _name(index: int) -> str:
    return f"{index:05d}.npz"


def _digest(rows: Any) -> str:
    """Returns the SHA-256 of a tree of arrays, with their shapes and dtypes."""
    found = hashlib.sha256()
    for array in map(np.asarray, jax.tree.leaves(rows)):
        found.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
    return found.hexdigest()
