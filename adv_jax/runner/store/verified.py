"""Writes and reads single Orbax checkpoints: atomic, synchronized and verified by SHA-256."""

import asyncio
import errno
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

Tree = Any
# With any other error of the system the file itself may be intact, so it is not damaged.
_DAMAGED = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EINVAL)
_LONGEST = 300  # characters of a reason; a longer one loses its middle
# Orbax globs its folders and takes /gs/ for a cloud; TensorStore takes a backslash for a slash.
_LITERAL = re.compile(r"(?!/(?:gs|s3|az|hf)/)[\w/ .,=@+~-]{,2000}")


class OtherStructureError(ValueError):
    """A checkpoint cannot be read, and its recorded structure is another one."""


class _ArrayHandler(ocp.type_handlers.NumpyHandler):
    """Writes NumPy arrays in any process, where Orbax's handler writes in the first one only.

    It also writes without copying the arrays, which must not change.
    """

    async def serialize(self, values: Any, infos: Any, args: Any = None) -> list[Any]:
        args = args or [ocp.SaveArgs()] * len(values)
        writes = [
            self._open_and_write(value, _where(value, info, arg), info.ts_context)
            for value, info, arg in zip(values, infos, args, strict=True)
        ]
        await asyncio.gather(*writes)
        return []


def _where(value: np.ndarray, info: Any, arg: Any) -> dict[str, Any]:
    """Returns TensorStore's specification of an array's file."""
    spec = ocp.type_handlers.get_json_tspec_write(
        info,
        use_ocdbt=info.is_ocdbt_checkpoint,
        global_shape=value.shape,
        local_shape=value.shape,
        dtype=value.dtype,
        process_index=jax.process_index(),
        arg=arg,
    )
    return {**spec, "dtype": value.dtype.name}  # Orbax before 0.12.5 leaves it out.


def checkpointer() -> ocp.Checkpointer:
    """Returns a checkpointer for trees of NumPy arrays, which does not wait for other processes."""
    own = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"process{own}"
    )
    options = ocp.CompositeOptions(
        multiprocessing_options=alone,
        async_options=ocp.options.AsyncOptions(create_directories_asynchronously=False),
    )
    types = ocp.type_handlers
    arrays = types.create_type_handler_registry(
        (np.ndarray, _ArrayHandler()),
        (np.number, types.ScalarHandler()),
        (jax.Array, types.ArrayHandler()),  # Without one Orbax warns.
    )
    handler = ocp.CompositeCheckpointHandler(
        composite_options=options,
        tree=ocp.PyTreeCheckpointHandler(
            type_handler_registry=arrays, multiprocessing_options=alone
        ),
        notes=ocp.JsonCheckpointHandler(multiprocessing_options=alone),
    )
    return ocp.Checkpointer(handler, multiprocessing_options=alone)


@contextmanager
def literal_path(folder: Path) -> Iterator[Path]:
    """Yields a path of a folder that Orbax and TensorStore take literally.

    This is its absolute path if that has plain characters only and room for their own names, and
    else a temporary link to it.
    """
    path = folder.absolute()
    if _LITERAL.fullmatch(str(path)):
        yield path
        return
    plain = _LITERAL.fullmatch(tempfile.gettempdir())
    with tempfile.TemporaryDirectory(dir=None if plain else "/tmp") as scratch:
        link = Path(scratch) / "folder"
        link.symlink_to(path)
        yield link


def write(orbax: ocp.Checkpointer, path: Path, tree: Tree, notes: dict[str, Any]) -> None:
    """Writes a tree of NumPy arrays and JSON notes under a temporary name and renames it.

    Raises:
      Exception: of many types, from Orbax and TensorStore, if the system refuses a call.
    """
    known = {"sha256": digest(tree), "structure": structure(tree), **notes}
    arrays = jax.tree.map(np.asarray, tree)  # Orbax refuses scalars.
    items = ocp.args.Composite(tree=ocp.args.PyTreeSave(arrays), notes=ocp.args.JsonSave(known))
    part = path.with_name(f"{path.name}.part")
    try:
        orbax.save(part, args=items)
        synchronize(part, *part.rglob("*"))  # Orbax synchronizes the arrays only.
        part.rename(path)
        synchronize(path.parent)
    except MemoryError:
        raise
    except Exception:
        # Free the disk. TensorStore may still be writing; the next start deletes the rest.
        for rest in (path, *path.parent.glob(f"{part.name}*")):
            shutil.rmtree(rest, ignore_errors=True)
        raise


def read(orbax: ocp.Checkpointer, path: Path, like: Tree) -> tuple[Tree, dict[str, Any]]:
    """Reads and verifies a checkpoint -> (tree of NumPy arrays, notes).

    like: a tree of arrays, or of shapes and dtypes, with the structure that was saved.

    Raises:
      OtherStructureError: it has another structure.
      Exception: of many types, from Orbax, TensorStore and JSON, if it is damaged.
    """
    expected = recorded = structure(like)
    try:
        args = ocp.args.Composite(notes=ocp.args.JsonRestore())
        notes = orbax.restore(path, args=args)["notes"]
        recorded = notes.pop("structure")
        as_arrays = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), like)
        args = ocp.args.Composite(tree=ocp.args.PyTreeRestore(like, restore_args=as_arrays))
        tree = jax.tree.map(np.asarray, orbax.restore(path, args=args)["tree"])
        if notes.pop("sha256") != digest(tree):
            raise ValueError("its arrays do not have the SHA-256 that was recorded")
        if recorded != expected:  # Orbax restores arrays of other shapes.
            raise ValueError("its arrays have other shapes or dtypes")
    except MemoryError:
        raise
    except Exception as error:
        if recorded != expected and not may_be_intact(error):
            raise OtherStructureError(reason(error)) from error
        raise
    return tree, notes


def synchronize(*paths: Path) -> None:
    """Calls fsync on files and folders."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def may_be_intact(error: Exception) -> bool:
    """Returns whether the system could not read a file that may be intact."""
    number = _number(error)
    return number is not None and number not in _DAMAGED


def refusal(error: Exception, checkpoint: Path) -> Exception | None:
    """Returns why the system refused to read a checkpoint that may be intact; None if damaged.

    Orbax reports a file that it cannot open as missing, so `error` alone does not decide.
    """
    if may_be_intact(error):
        return error
    try:
        for folder, _, names in os.walk(checkpoint, onerror=_raised):
            for name in names:
                os.close(os.open(os.path.join(folder, name), os.O_RDONLY | os.O_NONBLOCK))
    except OSError as refused:
        return refused if may_be_intact(refused) else None
    return None


def _raised(error: OSError) -> None:
    raise error


def reason(error: Exception) -> str:
    """Returns the reason in one line; messages of Orbax and TensorStore take pages.

    TensorStore names the file, then the cause, then its specification as " [name=...]".
    """
    number = _number(error)
    if number:
        return os.strerror(number)
    line = re.split(r"\n| \[[a-z_ ]+=", str(error), maxsplit=1)[0]
    return line if len(line) <= _LONGEST else f"{line[:100]} ... {line[100 - _LONGEST :]}"


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
        sha.update(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8).data)  # Without a copy.
    return sha.hexdigest()
