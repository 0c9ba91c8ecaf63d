"""Saves Orbax checkpoints in the background and verifies their SHA-256 when restoring.

Each of several processes writes a part, the replicas of its devices:

    EPOCH/              a checkpoint of one process
    EPOCH/START-STOP/   the part with the replicas START to STOP - 1, of the same form
"""

import logging
import os
import re
import shutil
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import jax
import numpy as np

from adv_jax.runner.store import verified
from adv_jax.runner.store.stragglers import without_stragglers
from adv_jax.runner.store.verified import OtherStructureError, reason, synchronize
from adv_jax.runner.store.writing import is_at
from adv_jax.types import UserError

Tree = Any
_LOGGER = logging.getLogger("absl")
_UNFINISHED = ("*.part", "*.orbax-checkpoint-tmp")
_POLL = 0.05  # seconds between looks for the other processes' parts


class Restored(NamedTuple):
    """The newest intact checkpoint.

    epoch: number of finished epochs; 0 without a checkpoint.
    tree: NumPy arrays; None without a checkpoint.
    notes: the saved notes.
    warnings: one line per damaged newer checkpoint.
    """

    epoch: int
    tree: Tree | None
    notes: dict[str, Any]
    warnings: list[str]


def saved_epochs(directory: Path) -> list[int]:
    """Returns the epochs of the checkpoints of a directory in ascending order.

    Raises:
      UserError: the directory cannot be read, or does not exist.
    """
    try:
        names = [path.name for path in directory.iterdir() if path.is_dir()]
    except OSError as error:
        raise UserError(f"{directory} cannot be read: {reason(error)}") from error
    return sorted(int(name) for name in names if name.isdecimal())


class Checkpoints:
    """Manages the last checkpoints of a run, one directory per epoch. A context manager.

    A checkpoint holds a tree of arrays, their SHA-256, and notes. It is written under a temporary
    name, synchronized and renamed, so that a killed process leaves no partial checkpoint. The
    oldest is deleted afterwards.

    With several processes each writes its part, and the first one renames the checkpoint once it
    has all parts. `save`, `check` and `finish` are then collective, except in the background.
    """

    def __init__(
        self,
        directory: Path,
        *,
        kept: int,
        parts: Sequence[range] = (),
        together: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """Creates the directory if necessary.

        Args:
          directory: on a file system that all processes share.
          kept: number of checkpoints to keep.
          parts: the replicas that each process writes, in ascending order; an empty range for a
            process that writes no part. With () or one part the checkpoint is not divided.
          together: makes a context that raises UserError in all processes if one raises it, which
            several processes need: `processes.raise_on_all`.
        """
        # Orbax's background threads report a failed write only after minutes. Use our own thread.
        self._orbax = verified.checkpointer()
        self._directory, self._kept = directory.absolute(), kept
        names = [f"{rows.start}-{rows.stop}" if rows else "" for rows in parts]
        self._first, self._together = jax.process_index() == 0, together
        self._parts = {*names} - {""} if len(names) > 1 else set()
        self._own = names[jax.process_index()] if self._parts else None
        self._writer = ThreadPoolExecutor(1, "checkpoint")
        self._writes: list[Future[None]] = []
        self._given_up = threading.Event()
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._opened = os.open(directory, os.O_RDONLY)  # To notice if it is replaced.
            for unfinished in _unfinished(directory) if self._first else ():
                shutil.rmtree(unfinished)
            self._links = ExitStack()
            self._literal = self._links.enter_context(verified.literal_path(directory))
        except OSError as error:
            raise UserError(f"{directory} cannot be used: {reason(error)}") from error

    def save(self, epoch: int, tree: Tree, notes: dict[str, Any]) -> None:
        """Starts to write a tree of NumPy arrays, which must not change, and JSON notes.

        tree: of all replicas, or with several parts those of this process.

        Raises:
          UserError: the previous write failed.
        """
        self._wait()
        written = self._writer.submit(self._save, epoch, tree, notes)
        self._writes = [written, self._writer.submit(self._complete, epoch, written)]

    def check(self) -> None:
        """Checks the background write without waiting for it.

        Raises:
          UserError: the write has failed.
        """
        if not self._writes:
            return
        try:
            with self._together():
                for write in self._writes:
                    if write.done():
                        write.result()
        except UserError:
            self._writes = []
            raise

    def finish(self) -> None:
        """Waits for the background write and deletes old checkpoints.

        Raises:
          UserError: writing or deleting failed.
        """
        self._wait()
        with self._together():
            if self._first:
                self._delete_old()  # An earlier process may have failed to.

    def restore(self, like: Tree, replicas: range | None = None) -> Restored:
        """Returns the newest intact checkpoint, and renames damaged newer ones to EPOCH.damaged.

        Reads part by part, so that only the result and one part are in memory.

        Args:
          like: a tree of arrays, or of shapes and dtypes, with the structure of all replicas.
          replicas: those to return; None for all. All parts are verified.

        Raises:
          UserError: the newest readable checkpoint has another structure, from another version; or
            the system cannot read one.
        """
        warnings: dict[int, str] = {}
        foreign = 0  # The newest epoch with another recorded structure.
        for epoch in reversed(saved_epochs(self._directory)):
            try:
                tree, notes = self._read(epoch, like, replicas)
                self._set_aside(warnings)
                return Restored(epoch, tree, notes, list(warnings.values()))
            except MemoryError:
                raise
            # Orbax, TensorStore and JSON raise errors of many types for damaged files.
            except Exception as error:
                if refused := verified.refusal(error, self._literal / str(epoch)):
                    raise self._unreadable(epoch, refused) from error
                warnings[epoch] = self._damaged(epoch, error)
                if isinstance(error, OtherStructureError):
                    foreign = foreign or epoch
        # No older checkpoint fits either, so the recorded structure is not just a damaged note.
        if foreign:
            raise UserError(
                f"checkpoint of epoch {foreign} in {self._directory} was written by "
                "another version of adv_jax or of a module of the config; use that version or a "
                "new workdir"
            )
        self._set_aside(warnings)
        return Restored(0, None, {}, list(warnings.values()))

    def restore_epoch(self, epoch: int, like: Tree, replicas: range) -> Restored:
        """Returns some replicas of a checkpoint that another process has restored.

        Reads and verifies only the parts that have them.

        Raises:
          UserError: the checkpoint cannot be read here.
        """
        try:
            return Restored(epoch, *self._read(epoch, like, replicas, others=False), [])
        except MemoryError:
            raise
        except Exception as error:
            raise self._unreadable(epoch, error) from error

    def latest(self) -> str:
        """Describes the newest checkpoint for messages."""
        try:
            epochs = saved_epochs(self._directory)
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
            if kind is None:
                self._wait()
        finally:
            self._given_up.set()  # Another process may have ended without its part.
            self._writer.shutdown()
            self._orbax.close()
            os.close(self._opened)
            self._links.close()
            _LOGGER.setLevel(self._level)
            sys.unraisablehook = self._hook

    def _wait(self) -> None:
        """Waits for all parts of a write; collective.

        The first process looks for the parts of others only after all processes have agreed that
        these are written, so it does not wait in vain.
        """
        writes, self._writes = self._writes, []
        for write in writes:
            with self._together():
                write.result()

    def _save(self, epoch: int, tree: Tree, notes: dict[str, Any]) -> None:
        """Writes the checkpoint, or this process's part of it."""
        if self._own == "":
            return
        path = self._literal / str(epoch)
        if self._own:
            path = path.with_name(f"{epoch}.part") / self._own
        try:
            if self._own:
                path.parent.mkdir(exist_ok=True)
            verified.write(self._orbax, path, tree, {**notes, "epoch": epoch})
        except MemoryError:
            raise
        except Exception as error:
            raise self._unwritten(epoch, error) from error

    def _complete(self, epoch: int, written: Future[None]) -> None:
        """Renames a checkpoint when it has all parts, then deletes old ones; the first process."""
        if not self._first or written.exception():
            return
        if self._parts:
            part = self._directory / f"{epoch}.part"
            try:
                while not self._parts <= {path.name for path in part.iterdir()}:
                    if self._given_up.wait(_POLL):
                        return
                synchronize(part)
                part.rename(self._directory / str(epoch))
                synchronize(self._directory)
            except OSError as error:
                raise self._unwritten(epoch, error) from error
        self._delete_old()

    def _delete_old(self) -> None:
        for old in saved_epochs(self._directory)[: -self._kept]:
            try:
                shutil.rmtree(self._directory / str(old))
            except OSError as error:
                raise UserError(
                    f"checkpoint of epoch {old} cannot be deleted: {reason(error)}; kept: "
                    f"{self.latest()}"
                ) from error

    def _read(
        self, epoch: int, like: Tree, replicas: range | None, *, others: bool = True
    ) -> tuple[Tree, dict[str, Any]]:
        """Reads a checkpoint -> (its replicas, its notes).

        others: whether to verify the parts without these replicas, too.

        Raises:
          ValueError: a part is missing, or its SHA-256 is wrong; or any other type of error.
        """
        checkpoint = self._literal / str(epoch)
        parts = _parts(checkpoint)
        if not parts and replicas is None:
            return self._read_part(epoch, checkpoint, like)
        count = jax.tree.leaves(like)[0].shape[0]
        if not parts and replicas == range(count):
            return self._read_part(epoch, checkpoint, like)
        wanted, parts = replicas or range(count), parts or {range(count): checkpoint}
        _check_complete(parts, count)
        found = _resized(like, len(wanted))
        notes: dict[str, Any] = {}
        for part, path in parts.items():
            first, stop = max(part.start, wanted.start), min(part.stop, wanted.stop)
            if first >= stop and not others:
                continue
            tree, notes = self._read_part(epoch, path, _resized(like, len(part)))
            if first < stop:
                pairs = zip(jax.tree.leaves(found), jax.tree.leaves(tree), strict=True)
                for whole, its in pairs:
                    into = slice(first - wanted.start, stop - wanted.start)
                    whole[into] = its[first - part.start : stop - part.start]
        return found, notes

    def _read_part(self, epoch: int, path: Path, like: Tree) -> tuple[Tree, dict[str, Any]]:
        tree, notes = verified.read(self._orbax, path, like)
        saved = notes.pop("epoch", epoch)  # Older checkpoints lack it.
        if saved != epoch:
            raise ValueError(f"its folder was renamed, it is of epoch {saved}")
        return tree, notes

    def _unreadable(self, epoch: int, error: Exception) -> UserError:
        return UserError(
            f"checkpoint of epoch {epoch} in {self._directory} cannot be read: "
            f"{self._reason(error)}; try again, or move it away"
        )

    def _damaged(self, epoch: int, error: Exception) -> str:
        return f"checkpoint of epoch {epoch} is damaged and set aside: {self._reason(error)}"

    def _reason(self, error: Exception) -> str:
        """Returns the reason in one line, which names the directory and no link to it."""
        return reason(error).replace(str(self._literal), str(self._directory))

    def _unwritten(self, epoch: int, error: Exception) -> UserError:
        # TensorStore creates folders again, so that errors of a deleted one name something else.
        why = "its folder was deleted"
        if is_at(self._directory, self._opened):
            why = f"{self._reason(error)}; kept: {self.latest()}"
        return UserError(f"checkpoint of epoch {epoch} cannot be written: {why}")

    def _set_aside(self, epochs: Iterable[int]) -> None:
        for epoch in epochs:
            # Rename instead of delete: another program may be able to read it.
            checkpoint = self._directory / str(epoch)
            aside = checkpoint.with_name(f"{epoch}.damaged")
            try:
                shutil.rmtree(aside, ignore_errors=True)
                checkpoint.rename(aside)
            except OSError as error:
                raise UserError(f"{checkpoint} cannot be set aside: {reason(error)}") from error


def _unfinished(directory: Path) -> list[Path]:
    return [path for pattern in _UNFINISHED for path in directory.glob(pattern)]


def _parts(checkpoint: Path) -> dict[range, Path]:
    """Returns the parts of a checkpoint by their replicas, in ascending order; {} if undivided."""
    found = ((re.fullmatch(r"(\d+)-(\d+)", path.name), path) for path in checkpoint.iterdir())
    parts = {range(int(name[1]), int(name[2])): path for name, path in found if name}
    return dict(sorted(parts.items(), key=lambda part: part[0].start))


def _check_complete(parts: Mapping[range, Path], count: int) -> None:
    """Raises ValueError unless the parts have each of `count` replicas once."""
    at = 0
    for part in parts:
        if part.start != at:
            break
        at = part.stop
    if at != count:
        raise ValueError(f"its parts must have replicas 0 to {count - 1}, got {list(parts)}")


def _resized(like: Tree, count: int) -> Tree:
    """Returns uninitialized arrays of `count` replicas."""
    return jax.tree.map(lambda a: np.empty((count, *a.shape[1:]), a.dtype), like)
