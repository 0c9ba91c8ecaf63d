"""Carries a campaign to another machine, in a folder or an archive of at most 64 MB.

It holds runs/WORKDIR/ and results/PAPER/results/, as the folders of a campaign do.
"""

import contextlib
import gzip
import io
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from adv_jax.runner.store.workdir import InUse, Workdir, is_finished, read_config
from adv_jax.runner.store.writing import check_file, locked, write_files, writing
from adv_jax.types import UserError
from papers.running.reproduction import size_of
from papers.running.trainings import newest_epoch

MAX_BYTES = 64_000_000
_ARCHIVES = (".tar", ".tgz", ".tar.gz")  # endings; a name without a suffix is a folder
# A file takes blocks of a disk, or of an archive with its name; an archive is padded at its end.
_BLOCK, _NAME, _END = 4096, 1536, 11_264
_RESULTS = "results/*/results/*.json"


class Load(NamedTuple):
    """Files that are carried together or not at all.

    source: the workdir, or the JSON of a result.
    root: the folder of the files that is `place` in the carry.
    place: its path there.
    files: paths below `root`.
    seconds: the training time that they save.
    """

    source: Path
    root: Path
    place: Path
    files: Sequence[Path]
    seconds: float

    @property
    def size(self) -> int:
        """The bytes that it takes at most."""
        return sum(-(-(path.stat().st_size + _NAME) // _BLOCK) * _BLOCK for path in self.files)

    def named(self) -> Iterator[tuple[Path, Path]]:
        """Yields each file and its path in the carry."""
        return ((path, self.place / path.relative_to(self.root)) for path in self.files)


def of_run(workdir: Path, seconds: float, *, weights: bool) -> Load:
    """Returns what a resumed run or a comparison reads of a workdir.

    weights: whether its newest checkpoint must come along: of a run that is to be resumed, or whose
      nets another run or a figure reads.
    """
    files = [
        path
        for path in workdir.iterdir()
        if path.name != "lock" and path.is_file() and path.suffix != ".part"
    ]
    if weights:
        newest = workdir / "checkpoints" / str(newest_epoch(workdir))
        files += _files(newest)
    return Load(workdir, workdir, Path("runs") / workdir.name, files, seconds)


def of_result(path: Path, results: Path) -> Load:
    """Returns a result, whose JSON is `path`, with the tables and figures of its name."""
    return Load(path, results, Path("results"), _with_its_name(path), float("inf"))


def pack(carry: Path, loads: Iterable[Load]) -> list[Path]:
    """Replaces `carry` by the loads, those first that save most per byte.

    Call it within `locked_copy(carry)`.

    Args:
      carry: an archive if its name ends as `_ARCHIVES` do, else a folder.
      loads: what to carry.

    Returns:
      The sources of the loads that do not fit.

    Raises:
      UserError: it cannot be written.
    """
    room, files, left = MAX_BYTES - _END, [], []
    with writing(carry):
        sized = [(load, load.size) for load in loads]
        for load, size in sorted(sized, key=lambda one: -one[0].seconds / max(one[1], 1)):
            if size > room:
                left.append(load.source)
                continue
            room -= size
            files += load.named()
        part = carry.with_name(f".{carry.name}.part")
        _remove(part)
        try:
            _write(part, files, carry.name)
        except OSError:
            _remove(part)  # A full disk has better uses.
            raise
        if carry.is_dir():  # A folder cannot be replaced in one step.
            _remove(_old(carry))
            carry.rename(_old(carry))
        part.replace(carry)
        _remove(_old(carry))
    return left


def _write(part: Path, files: Iterable[tuple[Path, Path]], like: str) -> None:
    """Writes files under their names to a new archive or folder, as the name `like` ends."""
    if not like.endswith(_ARCHIVES):
        part.mkdir()
        _copy((path, part / name) for path, name in files)
        return
    mode = "w" if like.endswith(".tar") else "w:gz"
    with tarfile.open(part, mode, format=tarfile.GNU_FORMAT) as archive:
        for path, name in files:
            archive.add(path, str(name))


def unpack(carry: Path, runs: Path, results: Path) -> list[str]:
    """Copies what is further than the workdirs in `runs`, and results larger than in `results`.

    Returns:
      The names of the copied workdirs.

    Raises:
      UserError: `carry` cannot be used or read, or a folder cannot be written.
    """
    _check_place(carry, runs, results)
    copied = []
    if not _there(carry):
        return copied
    with locked_copy(carry), _opened(carry) as folder, writing(runs):
        for there, here in _further(folder, runs):
            part = runs / f".{there.name}.part"
            _remove(part)
            _copy((path, part / path.relative_to(there)) for path in _files(there))
            if _replaced(here, part):
                copied.append(there.name)
        for there in sorted(folder.glob(_RESULTS)):
            here = results / there.relative_to(folder / "results")
            if _size(there, carry) > (size_of(here) or ()):
                files = _with_its_name(there)
                places = [here.parent / path.relative_to(there.parent) for path in files]
                write_files(dict(zip(places, [path.read_bytes() for path in files], strict=True)))
    return copied


def further(carry: Path, runs: Path, results: Path) -> list[str]:
    """Returns the names of the workdirs that `unpack` would copy. Writes nothing.

    Raises:
      UserError: `carry` cannot be used or read.
    """
    _check_place(carry, runs, results)
    with _opened(carry) as folder:
        return [there.name for there, _ in _further(folder, runs)]


def contents(carry: Path) -> tuple[set[str], set[Path]]:
    """Returns the names of the carried workdirs, and the paths of the results in their folder.

    Raises:
      UserError: it cannot be read.
    """
    with _opened(carry) as folder:
        results = {path.relative_to(folder / "results") for path in folder.glob(_RESULTS)}
        return {path.name for path in (folder / "runs").glob("*")}, results


def _check_place(carry: Path, runs: Path, results: Path) -> None:
    """Raises UserError unless a copy may be written to `carry`. Writes nothing."""
    if carry.suffix and not carry.name.endswith(_ARCHIVES) and not carry.is_dir():
        endings = ", ".join(_ARCHIVES)
        raise UserError(
            f"--carry must be a folder, without a suffix if it is new, or an archive ({endings}), "
            f"got {carry}"
        )
    for folder in (runs, results):
        if folder.resolve().is_relative_to(carry.resolve()):
            raise UserError(f"--carry must be outside of --runs and --results, got {carry}")
    check_file(_lock_of(carry))  # What is written beside the copy has such names.


def locked_copy(carry: Path) -> contextlib.AbstractContextManager[None]:
    """Keeps other processes from reading and writing the copy."""
    return locked(_lock_of(carry))


def _lock_of(carry: Path) -> Path:
    return carry.with_name(f".{carry.name}.lock")


@contextlib.contextmanager
def _opened(carry: Path) -> Iterator[Path]:
    """Yields the folder, or a temporary one with the content of the archive; empty without one.

    Raises:
      UserError: it is damaged, or something else.
    """
    there = _there(carry)
    with tempfile.TemporaryDirectory() as scratch:
        folder = there if there and there.is_dir() else Path(scratch)
        if there and folder != there:
            try:
                _extract(there, folder)
            except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
                raise _refused(carry, str(error)) from error
        _check_content(folder, carry)
        yield folder


def _further(folder: Path, runs: Path) -> Iterator[tuple[Path, Path]]:
    """Yields each workdir of a carried folder that is further than here, and the one here."""
    for there in sorted((folder / "runs").glob("*")):
        here = runs / there.name
        if _progress(there) > _progress(here):
            yield there, here


def _check_content(folder: Path, carry: Path) -> None:
    """Raises UserError if a folder, which a copy is to replace, holds anything else."""
    if others := {path.name for path in folder.iterdir()} - {"runs", "results"}:
        raise _refused(carry, f"it has {min(others)}")
    for path in (folder / "runs").glob("*"):
        if not (path / "config.json").is_file():
            raise _refused(carry, f"runs/{path.name} has no config.json")


def _extract(archive: Path, folder: Path) -> None:
    """Writes the files of an archive into a folder.

    Without `extractall`, whose filter of paths Python has since 3.11.4.
    """
    is_plain = archive.suffix == ".tar"
    with archive.open("rb") if is_plain else gzip.open(archive) as stream:
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise tarfile.ReadError(f"it has more than {MAX_BYTES // 10**6} MB")
    if not content.endswith(bytes(1024)):  # tarfile takes an archive cut off between files.
        raise tarfile.ReadError("its end is missing")
    root = folder.resolve()
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as members:
        for member in members:
            path = (root / member.name).resolve()
            is_inside = member.isreg() and path.is_relative_to(root)
            if not is_inside or (file := members.extractfile(member)) is None:
                raise tarfile.ReadError(f"{member.name} is no file inside of it")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.read())


def _refused(carry: Path, reason: str) -> UserError:
    return UserError(
        f"--carry must be a folder or an archive that this command wrote, got {carry} ({reason})"
    )


def _size(result: Path, carry: Path) -> tuple[int, ...]:
    try:
        return size_of(result) or ()
    except UserError as error:
        raise _refused(carry, str(error)) from error


def _there(carry: Path) -> Path | None:
    """Returns where the copy is: a process may be killed between the two renames of a folder."""
    return next((path for path in (carry, _old(carry)) if path.exists()), None)


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


def _progress(workdir: Path) -> tuple[bool, int]:
    """Returns whether a run has finished, and the epoch of its newest checkpoint."""
    if not (workdir / "config.json").exists():
        return False, -1
    return is_finished(workdir), newest_epoch(workdir)


def _with_its_name(result: Path) -> list[Path]:
    """Returns the files of a result, the JSON last, which marks the others as complete."""
    folders = (result.parent / "figures", result.parent)
    files = [path for folder in folders for path in folder.glob(f"{result.stem}.*")]
    return [path for path in files if path != result and path.suffix != ".part"] + [result]


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _copy(files: Iterable[tuple[Path, Path]]) -> None:
    for path, to in files:
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, to)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
