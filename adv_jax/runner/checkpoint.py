"""Saves Orbax checkpoints in the background and verifies their SHA-256 when restoring."""

import errno
import hashlib
import logging
import os
import re
import shutil
import sys
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from adv_jax.runner.output import without_stragglers
from adv_jax.types import UserError

Tree = Any
_LOGGER = logging.getLogger("absl")
# With these errors the file itself may be intact, so it is not set aside as damaged.
_UNREADABLE = (errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE)
_UNFINISHED = ("*.part", "*.orbax-checkpoint-tmp")


class Restored(NamedTuple):
    """The newest intact checkpoint.

    Attributes:
      epoch: number of finished epochs; 0 without a checkpoint.
      tree: NumPy arrays; None without a checkpoint.
      notes: the saved notes.
      warnings: one line per damaged newer checkpoint.
    """

    epoch: int
    tree: Tree | None
    notes: dict[str, Any]
    warnings: list[str]


class Checkpoints:
    """Manages the last checkpoints of a run, one directory per epoch. A context manager.

    A checkpoint holds a tree of arrays, their SHA-256, and notes. It is written under a temporary
    name, synchronized and renamed, so that a killed process leaves no partial checkpoint. The
    oldest is deleted afterwards.
    """

    def __init__(self, directory: Path, *, kept: int) -> None:
        """Creates the directory if necessary; `kept` is the number of checkpoints to keep."""
        own = jax.process_index()
        # Each process writes to its own directory, without barriers.
        alone = ocp.options.MultiprocessingOptions(
            primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"process{own}"
        )
        # Orbax's background threads report a failed write only after minutes. Use our own thread.
        options = ocp.CompositeOptions(
            multiprocessing_options=alone,
            async_options=ocp.options.AsyncOptions(create_directories_asynchronously=False),
        )
        self._orbax = ocp.Checkpointer(
            ocp.CompositeCheckpointHandler(composite_options=options), multiprocessing_options=alone
        )
        self._directory, self._kept = directory.absolute(), kept
        self._writer = ThreadPoolExecutor(1, "checkpoint")
        self._write: Future[None] | None = None
        try:
            directory.mkdir(parents=True, exist_ok=True)
            for unfinished in self._unfinished():
                shutil.rmtree(unfinished)
        except OSError as error:
            raise UserError(f"{directory} cannot be used: {_reason(error)}") from error

    def save(self, epoch: int, tree: Tree, notes: dict[str, Any]) -> None:
        """Starts to write a tree of NumPy arrays, which must not change, and JSON notes.

        Raises:
          UserError: the previous write failed.
        """
        self._wait()
        self._write = self._writer.submit(self._save, epoch, tree, notes)

    def check(self) -> None:
        """Checks the background write without waiting for it.

        Raises:
          UserError: the write has failed.
        """
        if self._write is not None and self._write.done():
            self._wait()

    def finish(self) -> None:
        """Waits for the background write and deletes old checkpoints.

        Raises:
          UserError: writing or deleting failed.
        """
        self._wait()
        self._delete_old()  # An earlier process may have failed to.

    def restore(self, like: Tree) -> "Restored":
        """Returns the newest intact checkpoint, and renames damaged newer ones to EPOCH.damaged.

        Args:
          like: a tree of arrays, or of shapes and dtypes, with the structure that was saved.

        Raises:
          UserError: the newest readable checkpoint has another structure, from another version; or
            the system cannot read one.
        """
        warnings: dict[int, str] = {}
        foreign = 0  # The newest epoch with another recorded structure.
        abstract = jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), like)
        items = ocp.args.Composite(tree=ocp.args.StandardRestore(abstract))
        for epoch in reversed(self._epochs()):
            recorded = structure(like)
            try:
                notes = self._notes(epoch)
                recorded = notes.pop("structure")
                tree = jax.tree.map(np.asarray, self._read(epoch, items)["tree"])
                if notes.pop("sha256") != digest(tree):
                    raise ValueError("its arrays do not have the SHA-256 that was recorded")
                self._set_aside(warnings)
                return Restored(epoch, tree, notes, list(warnings.values()))
            except MemoryError:
                raise
            # Orbax, TensorStore and JSON raise errors of many types for damaged files.
            except Exception as error:
                if _number(error) in _UNREADABLE:
                    raise UserError(
                        f"checkpoint of epoch {epoch} in {self._directory} cannot be read: "
                        f"{_reason(error)}; try again, or move it away"
                    ) from error
                warnings[epoch] = _damaged(epoch, error)
                if recorded != structure(like):
                    foreign = foreign or epoch
        # No older checkpoint fits either, so the recorded structure is not just a damaged note.
        if foreign:
            raise UserError(
                f"checkpoint of epoch {foreign} in {self._directory} was written by "
                "another version of adv_jax; use that version or a new workdir"
            )
        self._set_aside(warnings)
        return Restored(0, None, {}, list(warnings.values()))

    def latest(self) -> str:
        """Describes the newest checkpoint for messages."""
        try:
            epochs = self._epochs()
        except UserError:
            epochs = []
        return f"epoch {epochs[-1]} in {self._directory}" if epochs else "none"

    def __enter__(self) -> "Checkpoints":
        # Orbax otherwise logs each save, and the traceback of each error that it also raises.
        self._level, self._hook = _LOGGER.level, sys.unraisablehook
        _LOGGER.setLevel(logging.CRITICAL)
        sys.unraisablehook = without_stragglers(self._hook)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        try:
            self._wait()
        except UserError:
            # Do not hide the error that ends the run.
            if kind is None:
                raise
        finally:
            self._writer.shutdown()
            self._orbax.close()
            _LOGGER.setLevel(self._level)
            sys.unraisablehook = self._hook

    def _wait(self) -> None:
        write, self._write = self._write, None
        if write is not None:
            write.result()

    def _save(self, epoch: int, tree: Tree, notes: dict[str, Any]) -> None:
        """Writes a checkpoint, then deletes old ones."""
        known = {"sha256": digest(tree), "structure": structure(tree), **notes}
        items = ocp.args.Composite(tree=ocp.args.StandardSave(tree), notes=ocp.args.JsonSave(known))
        part, path = self._directory / f"{epoch}.part", self._directory / str(epoch)
        try:
            self._orbax.save(part, args=items)
            _synchronize(part, *part.rglob("*"))  # Orbax synchronizes the arrays only.
            part.rename(path)
            _synchronize(self._directory)
        except MemoryError:
            raise
        # Orbax and TensorStore raise errors of many types when the system refuses a call.
        except Exception as error:
            # Free the disk. TensorStore may still be writing; the next start deletes the rest.
            for rest in (path, *self._unfinished()):
                shutil.rmtree(rest, ignore_errors=True)
            raise UserError(
                f"checkpoint of epoch {epoch} cannot be written: {_reason(error)}; kept: "
                f"{self.latest()}"
            ) from error
        self._delete_old()

    def _delete_old(self) -> None:
        for old in self._epochs()[: -self._kept]:
            try:
                shutil.rmtree(self._directory / str(old))
            except OSError as error:
                raise UserError(
                    f"checkpoint of epoch {old} cannot be deleted: {_reason(error)}; kept: "
                    f"{self.latest()}"
                ) from error

    def _unfinished(self) -> list[Path]:
        return [path for pattern in _UNFINISHED for path in self._directory.glob(pattern)]

    def _epochs(self) -> list[int]:
        """Returns the epochs of the checkpoints in ascending order.

        Raises:
          UserError: the directory cannot be read.
        """
        try:
            names = [path.name for path in self._directory.iterdir() if path.is_dir()]
        except OSError as error:
            raise UserError(f"{self._directory} cannot be read: {_reason(error)}") from error
        return sorted(int(name) for name in names if name.isdecimal())

    def _read(self, epoch: int, items: ocp.args.Composite) -> Any:
        return self._orbax.restore(self._directory / str(epoch), args=items)

    def _notes(self, epoch: int) -> dict[str, Any]:
        return self._read(epoch, ocp.args.Composite(notes=ocp.args.JsonRestore()))["notes"]

    def _set_aside(self, epochs: Iterable[int]) -> None:
        for epoch in epochs:
            # Rename instead of delete: another program may be able to read it.
            checkpoint = self._directory / str(epoch)
            aside = checkpoint.with_name(f"{epoch}.damaged")
            try:
                shutil.rmtree(aside, ignore_errors=True)
                checkpoint.rename(aside)
            except OSError as error:
                raise UserError(f"{checkpoint} cannot be set aside: {_reason(error)}") from error


def _synchronize(*paths: Path) -> None:
    """Calls fsync on files and folders."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _damaged(epoch: int, error: Exception) -> str:
    return f"checkpoint of epoch {epoch} is damaged and set aside: {_reason(error)}"


def _reason(error: Exception) -> str:
    """Returns the reason in one line; messages of Orbax and TensorStore take pages."""
    number = _number(error)
    return os.strerror(number) if number else str(error).partition("\n")[0][:200]


def _number(error: Exception) -> int | None:
    """Returns the errno of an OSError, or of a ValueError that TensorStore made from one."""
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"os_error_code='(\d+)'", str(error))
    return int(found[1]) if found else None


def structure(tree: Tree) -> str:
    """Returns the SHA-256 of the names, shapes and dtypes of a tree of arrays."""
    described = [
        f"{jax.tree_util.keystr(path)}{leaf.shape}{leaf.dtype}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]
    return hashlib.sha256("\n".join(described).encode()).hexdigest()


def digest(tree: Tree) -> str:
    """Returns the SHA-256 of the structure and the bytes of a tree of arrays."""
    sha = hashlib.sha256(structure(tree).encode())
    for leaf in jax.tree.leaves(tree):
        sha.update(np.ascontiguousarray(leaf).tobytes())
    return sha.hexdigest()
