"""Orbax checkpoints that are written in the background and trusted only if their digest fits."""

import errno
import hashlib
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from adv_jax.types import UserError

Tree = Any
_LOGGER = logging.getLogger("absl")


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

    Each holds a tree of arrays, notes, and the SHA-256 of the arrays' bytes. A checkpoint is
    renamed into place when it is whole, so that a killed process leaves no half of one. A context
    manager.
    """

    def __init__(self, directory: Path, *, kept: int) -> None:
        """directory: made if need be.  kept: how many to keep, the oldest going first."""
        own = jax.process_index()
        options = ocp.CheckpointManagerOptions(
            max_to_keep=kept,
            cleanup_tmp_directories=True,
            create=False,
            # Each process has its own directory, and waits for no other.
            multiprocessing_options=ocp.options.MultiprocessingOptions(
                primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"process{own}"
            ),
        )
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._unread = _set_aside_unread(directory)
            self._manager = ocp.CheckpointManager(directory.absolute(), options=options)
        except OSError as error:
            raise UserError(f"{directory} cannot be used: {_reason(error)}") from error

    def save(self, epoch: int, tree: Tree, notes: dict[str, Any]) -> None:
        """Begins to write a tree of NumPy arrays, which must not change, and notes for JSON.

        Raises:
          UserError: the write before could not be finished, or this one not begun.
        """
        items = ocp.args.Composite(
            tree=ocp.args.StandardSave(tree),
            notes=ocp.args.JsonSave(
                {"sha256": digest(tree), "structure": structure(tree), **notes}
            ),
        )
        try:
            self._manager.save(epoch, args=items)
        except (OSError, ValueError) as error:
            raise self._failed(error) from error

    def restore(self, like: Tree) -> "Restored":
        """The newest intact checkpoint.

        Args:
          like: a tree of arrays, or of their shapes and dtypes, as they were saved.

        Returns:
          The checkpoint; epoch 0 and no tree if none is intact. Damaged newer ones are renamed to
          EPOCH.damaged, as the run will save the same epochs again.

        Raises:
          UserError: the newest readable one holds another tree, as another version has it.
        """
        warnings: dict[int, str] = {}
        foreign = 0  # The newest whose tree is said to be another.
        abstract = jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), like)
        items = ocp.args.Composite(tree=ocp.args.StandardRestore(abstract))
        for epoch in sorted(self._manager.all_steps(), reverse=True):
            recorded = structure(like)
            try:
                notes = self._notes(epoch)
                recorded = notes.pop("structure")
                tree = jax.tree.map(np.asarray, self._manager.restore(epoch, args=items)["tree"])
                if notes.pop("sha256") != digest(tree):
                    raise ValueError("its arrays do not have the SHA-256 that was recorded")
                self._set_aside(warnings)
                return Restored(epoch, tree, notes, [*self._unread, *warnings.values()])
            except MemoryError:
                raise
            except PermissionError as error:
                raise UserError(
                    f"checkpoint of epoch {epoch} in {self._manager.directory} cannot be read: "
                    f"{_reason(error)}"
                ) from error
            # Whatever a damaged file makes Orbax, TensorStore or JSON raise, the next may do.
            except Exception as error:
                warnings[epoch] = _damaged(epoch, error)
                if recorded != structure(like):
                    foreign = foreign or epoch
        # Where an older one fits, it is the note that was damaged.
        if foreign:
            raise UserError(
                f"checkpoint of epoch {foreign} in {self._manager.directory} was written by "
                "another version of adv_jax; allowed are that version or a new workdir"
            )
        self._set_aside(warnings)
        return Restored(0, None, {}, [*self._unread, *warnings.values()])

    def finish(self) -> None:
        """Waits until everything is on disk.

        Raises:
          UserError: it could not be written.
        """
        try:
            self._manager.wait_until_finished()
        except (OSError, ValueError) as error:
            raise self._failed(error) from error

    def latest(self) -> str:
        """The newest checkpoint in words."""
        epoch = self._manager.latest_step()
        return "none" if epoch is None else f"epoch {epoch} in {self._manager.directory}"

    def __enter__(self) -> "Checkpoints":
        # Orbax reports each save otherwise, and prints the traceback of each error that it raises.
        self._level, self._hook = _LOGGER.level, sys.unraisablehook
        _LOGGER.setLevel(logging.CRITICAL)
        sys.unraisablehook = _without_stragglers(self._hook)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        try:
            self._manager.close()
        except (OSError, ValueError) as failure:
            # An error that is under way says why the run ends; a second one would hide it.
            if kind is None:
                raise self._failed(failure) from failure
        finally:
            _LOGGER.setLevel(self._level)
            sys.unraisablehook = self._hook

    def _notes(self, epoch: int) -> dict[str, Any]:
        items = ocp.args.Composite(notes=ocp.args.JsonRestore())
        return self._manager.restore(epoch, args=items)["notes"]

    def _set_aside(self, epochs: Iterable[int]) -> None:
        for epoch in epochs:
            _rename(Path(self._manager.directory) / str(epoch))
        self._manager.reload()

    def _failed(self, error: Exception) -> UserError:
        return UserError(f"checkpoint cannot be written: {_reason(error)}; kept: {self.latest()}")


def _set_aside_unread(directory: Path) -> list[str]:
    """Renames the checkpoints whose own metadata would keep Orbax from opening any -> warnings."""
    warnings = []
    for found in list(ocp.path.step.standard_name_format().find_all(directory)):
        try:
            _ = found.commit_timestamp
        except OSError:
            raise
        except Exception as error:
            _rename(directory / str(found.step))
            warnings.append(_damaged(found.step, error))
    return warnings


def _rename(checkpoint: Path) -> None:
    # Not deleted: what cannot be read today, by this program, may be by another.
    aside = checkpoint.with_name(f"{checkpoint.name}.damaged")
    shutil.rmtree(aside, ignore_errors=True)
    checkpoint.rename(aside)


def _damaged(epoch: int, error: Exception) -> str:
    return f"checkpoint of epoch {epoch} is damaged and set aside: {_reason(error)}"


def _reason(error: Exception) -> str:
    """Why, in one line: what Orbax and TensorStore say goes on for pages."""
    full = os.strerror(errno.ENOSPC)
    return full if full in str(error) else str(error).partition("\n")[0][:200]


def _without_stragglers(hook: Callable[[Any], Any]) -> Callable[[Any], None]:
    """Keeps back what TensorStore says of each array that Orbax, after an error, gave up."""

    def filtered(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            hook(unraisable)

    return filtered


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
