"""Orbax checkpoints, written in the background and trusted only if their digest fits."""

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
# Not the fault of what is in a file: it may be whole, and is not given up.
_UNREADABLE = (errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE)
_UNFINISHED = ("*.part", "*.orbax-checkpoint-tmp")


class Restored(NamedTuple):
    """The newest intact checkpoint.

    epoch: the epoch that it follows; 0 if there is none, and then no tree.
    tree: NumPy arrays.
    notes: as they were saved.
    warnings: a line for each damaged newer one.
    """

    epoch: int
    tree: Tree | None
    notes: dict[str, Any]
    warnings: list[str]


class Checkpoints:
    """The last few checkpoints of a run, one directory each, named by the epoch they follow.

    Each holds a tree of arrays, notes, and the SHA-256 of the arrays' bytes. A checkpoint gets its
    name when it is whole and on the disk, so that a killed process leaves no half of one, and the
    oldest goes after that. A context manager.
    """

    def __init__(self, directory: Path, *, kept: int) -> None:
        """directory: made if need be.  kept: how many to keep, the oldest going first."""
        own = jax.process_index()
        # Each process has its own directory, and waits for no other.
        alone = ocp.options.MultiprocessingOptions(
            primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"process{own}"
        )
        # Orbax's own background threads wait minutes for the signal of one that has failed: they
        # are not used. One thread of ours writes, and its error is there as soon as it happens.
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
        """Begins to write a tree of NumPy arrays, which must not change, and notes for JSON.

        Raises:
          UserError: the write before could not be finished.
        """
        self._wait()
        self._write = self._writer.submit(self._save, epoch, tree, notes)

    def check(self) -> None:
        """Returns at once.

        Raises:
          UserError: the write in the background has failed.
        """
        if self._write is not None and self._write.done():
            self._wait()

    def finish(self) -> None:
        """Waits until everything is on disk, and no more are left than are kept.

        Raises:
          UserError: it could not be written, or an old one not be deleted.
        """
        self._wait()
        self._delete_old()  # Again, as an earlier process may have failed to.

    def restore(self, like: Tree) -> "Restored":
        """The newest intact checkpoint.

        Args:
          like: a tree of arrays, or of their shapes and dtypes, as they were saved.

        Returns:
          The checkpoint; epoch 0 and no tree if none is intact. Damaged newer ones are renamed to
          EPOCH.damaged, as the run will save the same epochs again.

        Raises:
          UserError: the newest readable one holds another tree, as another version has it; or the
            system refuses to read one, which says nothing of its bytes.
        """
        warnings: dict[int, str] = {}
        foreign = 0  # The newest whose tree is said to be another.
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
            # Whatever a damaged file makes Orbax, TensorStore or JSON raise, the next may do.
            except Exception as error:
                if _number(error) in _UNREADABLE:
                    raise UserError(
                        f"checkpoint of epoch {epoch} in {self._directory} cannot be read: "
                        f"{_reason(error)}; allowed is another try, or to move it away"
                    ) from error
                warnings[epoch] = _damaged(epoch, error)
                if recorded != structure(like):
                    foreign = foreign or epoch
        # Where an older one fits, it is the note that was damaged.
        if foreign:
            raise UserError(
                f"checkpoint of epoch {foreign} in {self._directory} was written by "
                "another version of adv_jax; allowed are that version or a new workdir"
            )
        self._set_aside(warnings)
        return Restored(0, None, {}, list(warnings.values()))

    def latest(self) -> str:
        """The newest checkpoint in words."""
        try:
            epochs = self._epochs()
        except UserError:
            epochs = []
        return f"epoch {epochs[-1]} in {self._directory}" if epochs else "none"

    def __enter__(self) -> "Checkpoints":
        # Orbax reports each save otherwise, and prints the traceback of each error that it raises.
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
            # An error that is under way says why the run ends; a second one would hide it.
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
        """Writes a checkpoint, and deletes those that are too many once it is on the disk."""
        known = {"sha256": digest(tree), "structure": structure(tree), **notes}
        items = ocp.args.Composite(tree=ocp.args.StandardSave(tree), notes=ocp.args.JsonSave(known))
        part, path = self._directory / f"{epoch}.part", self._directory / str(epoch)
        try:
            self._orbax.save(part, args=items)
            _synchronize(part, *part.rglob("*"))  # Orbax does it for the arrays only.
            part.rename(path)
            _synchronize(self._directory)
        except MemoryError:
            raise
        # Orbax and TensorStore raise errors of many types when the system refuses a call.
        except Exception as error:
            # Gives a full disk its space back. What TensorStore writes even now, the next start
            # deletes.
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
        """Of the checkpoints that are there, in ascending order.

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
            # Not deleted: what cannot be read today, by this program, may be by another.
            checkpoint = self._directory / str(epoch)
            aside = checkpoint.with_name(f"{epoch}.damaged")
            try:
                shutil.rmtree(aside, ignore_errors=True)
                checkpoint.rename(aside)
            except OSError as error:
                raise UserError(f"{checkpoint} cannot be set aside: {_reason(error)}") from error


def _synchronize(*paths: Path) -> None:
    """Has files, and the names in folders, on the disk."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _damaged(epoch: int, error: Exception) -> str:
    return f"checkpoint of epoch {epoch} is damaged and set aside: {_reason(error)}"


def _reason(error: Exception) -> str:
    """Why, in one line: what Orbax and TensorStore say goes on for pages."""
    number = _number(error)
    return os.strerror(number) if number else str(error).partition("\n")[0][:200]


def _number(error: Exception) -> int | None:
    """The system's number of an error, also where TensorStore has made a ValueError of it."""
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"os_error_code='(\d+)'", str(error))
    return int(found[1]) if found else None


def structure(tree: Tree) -> str:
    """SHA-256 of the names, shapes and dtypes of a tree of arrays."""
    described = [
        f"{jax.tree_util.keystr(path)}{leaf.shape}{leaf.dtype}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]
    return hashlib.sha256("\n".join(described).encode()).hexdigest()


def digest(tree: Tree) -> str:
    """SHA-256 of the structure and the bytes of a tree of arrays."""
    sha = hashlib.sha256(structure(tree).encode())
    for leaf in jax.tree.leaves(tree):
        sha.update(np.ascontiguousarray(leaf).tobytes())
    return sha.hexdigest()
