"""Carries a campaign to another machine, in a folder or an archive of at most 64 MB."""

import contextlib
import shutil
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from adv_jax.runner.store.workdir import InUse, Workdir, read_config, writing
from adv_jax.types import UserError
from papers.running.trainings import saved_epochs

MAX_BYTES = 64_000_000
_ARCHIVES = (".tar", ".tgz", ".gz")  # suffixes; a name without one is a folder
_BLOCK = 4096  # A small file takes so much of an archive or a disk.


class Load(NamedTuple):
    """A workdir to carry.

    Attributes:
      workdir: its path.
      weights: whether its newest checkpoint must come along: of a run that is to be resumed, or
        whose nets another run or a figure reads.
      seconds: the training time that it saves.
    """

    workdir: Path
    weights: bool
    seconds: float


def pack(carry: Path, loads: Iterable[Load], results: Sequence[Path], root: Path) -> list[Path]:
    """Replaces `carry` by the results and the workdirs, those first that save most per byte.

    Args:
      carry: a folder, or an archive if its name ends in .tar, .tgz or .tar.gz.
      loads: the workdirs.
      results: files below `root`.
      root: the folder of the results.

    Returns:
      The workdirs that do not fit.

    Raises:
      UserError: it cannot be written.
    """
    files = [(path, Path("results") / path.relative_to(root)) for path in results]
    room, left = MAX_BYTES - sum(map(_size, results)), []
    sized = [(load, chosen := list(_files(load)), sum(map(_size, chosen))) for load in loads]
    for load, chosen, size in sorted(sized, key=lambda one: -one[0].seconds / max(one[2], 1)):
        if size > room:
            left.append(load.workdir)
            continue
        room -= size
        base = Path("runs") / load.workdir.name
        files += [(path, base / path.relative_to(load.workdir)) for path in chosen]
    with writing(carry):
        carry.parent.mkdir(parents=True, exist_ok=True)
        part = carry.with_name(f".{carry.name}.part")
        _remove(part)
        if carry.suffix in _ARCHIVES:
            with tarfile.open(part, "w" if carry.suffix == ".tar" else "w:gz") as archive:
                for path, name in files:
                    archive.add(path, str(name))
        else:
            part.mkdir()
            for path, name in files:
                (part / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, part / name)
        _remove(_old(carry))
        if carry.exists():
            carry.rename(_old(carry))
        part.rename(carry)
        _remove(_old(carry))
    return left


def unpack(carry: Path, runs: Path, results: Path) -> list[str]:
    """Copies what is further than the workdirs in `runs`, and results that `results` lacks.

    Returns:
      The names of the copied workdirs; none if there is no `carry`.

    Raises:
      UserError: it cannot be read, or a folder cannot be written.
    """
    if not carry.exists():
        if not _old(carry).exists():
            return []
        _old(carry).rename(carry)  # A process was killed between its two renames.
    copied = []
    with writing(runs), _opened(carry) as folder:
        runs.mkdir(parents=True, exist_ok=True)
        for there in sorted((folder / "runs").glob("*")):
            here = runs / there.name
            if _progress(there) > _progress(here):
                part = runs / f".{there.name}.part"
                _remove(part)
                shutil.copytree(there, part)
                if not _replaced(here, part):
                    continue
                copied.append(there.name)
        for there in sorted((folder / "results").rglob("*.*")):
            here = results / there.relative_to(folder / "results")
            if not here.exists():
                here.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(there, here)
    return copied


def _old(carry: Path) -> Path:
    return carry.with_name(f".{carry.name}.old")


def _replaced(workdir: Path, part: Path) -> bool:
    """Replaces a workdir by a copy; False if another process uses it."""
    try:
        opened = (
            Workdir(workdir, read_config(workdir))
            if (workdir / "config.json").exists()
            else contextlib.nullcontext()
        )
    except InUse:
        _remove(part)
        return False
    with opened:
        _remove(workdir)
        part.rename(workdir)
    return True


@contextlib.contextmanager
def _opened(carry: Path) -> Iterator[Path]:
    """Yields the folder, or a temporary one with the content of the archive."""
    if carry.is_dir():
        yield carry
        return
    with tempfile.TemporaryDirectory() as scratch:
        try:
            with tarfile.open(carry) as archive:
                archive.extractall(scratch, filter="data")
        except (OSError, tarfile.TarError) as error:
            raise UserError(
                f"--carry must be a folder or an archive that this command wrote, got {carry} "
                f"({error})"
            ) from error
        yield Path(scratch)


def _files(load: Load) -> Iterator[Path]:
    """Yields the files of a workdir that a resumed run or a comparison reads."""
    skipped = {"lock", "figures", "checkpoints"}
    for path in load.workdir.iterdir():
        if path.name not in skipped and path.is_file() and path.suffix != ".part":
            yield path
    if load.weights:
        newest = load.workdir / "checkpoints" / str(saved_epochs(load.workdir))
        yield from (path for path in newest.rglob("*") if path.is_file())


def _progress(workdir: Path) -> tuple[bool, int]:
    """Returns whether a run has finished, and the epoch of its newest checkpoint."""
    if not (workdir / "config.json").exists():
        return False, -1
    return (workdir / "result.json").exists(), saved_epochs(workdir)


def _size(path: Path) -> int:
    return -(-path.stat().st_size // _BLOCK) * _BLOCK


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def target_files(results: Path, stored: Path) -> list[Path]:
    """Returns the files of a campaign's results; none if they go where the stored ones are."""
    if results.resolve() == stored.resolve() or not results.is_dir():
        return []
    return sorted(path for path in results.rglob("*.*") if path.is_file())
