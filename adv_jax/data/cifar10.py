"""CIFAR-10 from its binary files or their archive.

Each file holds records of a label byte and the 3,072 bytes of an image: its red, green and blue
planes, each by rows.
"""

import io
import math
import os
import tarfile
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from adv_jax.data import files
from adv_jax.data.dataset import Arrays, DataError, Dataset, ImageSet, MissingData

CIFAR10 = ImageSet("cifar10", (32, 32, 3), 10)
ARCHIVE = "cifar-10-binary.tar.gz"
FOLDER = "cifar-10-batches-bin"
TRAIN_FILES = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
TEST_FILE = "test_batch.bin"

_RECORD = 1 + math.prod(CIFAR10.shape)
_MAX_RECORDS = 10_000
_MAX_ARCHIVE = 1 << 28  # The files and their headers have 184,386,560 bytes.


def from_files(dir: str) -> Dataset:
    """Reads the six binary files in the folder `dir`, or their archive there.

    The files, plain or `.gz` (plain first), are in `dir` or its folder cifar-10-batches-bin; if
    there is no such file, cifar-10-binary.tar.gz is read. All have the same number of images,
    10,000 in the original. Rows keep the order of the files.

    Raises:
      DataError: no `dir`; a file is missing, truncated, corrupt, or of another size.
    """
    root = files.required_folder(dir, "the six binary files")
    for folder in (root, root / FOLDER):
        if any(files.find(folder, name) for name in (*TRAIN_FILES, TEST_FILE)):
            return _from_batches(folder)
    if os.path.exists(root / ARCHIVE):
        return from_archive(root / ARCHIVE)
    raise MissingData(
        f"data.dir must be a folder with {TRAIN_FILES[0]}, plain or .gz, or {ARCHIVE}, for source "
        f"'files', got {root}"
    )


def from_archive(path: Path, *, source: str = "files") -> Dataset:
    """Reads the original archive, without unpacking it to disk.

    Raises:
      DataError: it cannot be read, or one of its six files is missing or damaged.
    """
    batches, sha256 = files.read(path, partial(_members, path=path))
    # TFDS's cache renames the archive; record its standard name.
    return _dataset(source, {ARCHIVE: sha256}, batches)


def _from_batches(folder: Path) -> Dataset:
    """Reads the six files of a folder."""
    batches, sha256 = {}, {}
    for name in (*TRAIN_FILES, TEST_FILE):
        path = files.required(folder, name)
        records, sha256[path.name] = files.read(path, partial(_records, origin=str(path)))
        batches[str(path)] = records
    return _dataset("files", sha256, batches)


def _members(stream: files.Reader, path: Path) -> dict[str, np.ndarray]:
    """Returns the records u8[N, 3073] of the six files in a tar archive, by their paths in it.

    Only regular files with exactly these paths are read, into memory: links are ignored.
    """
    content = stream.read(_MAX_ARCHIVE + 1)
    if len(content) > _MAX_ARCHIVE:
        raise DataError(f"{path}: unzipped size must be at most {_MAX_ARCHIVE} bytes, got more")
    batches = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
            members = {member.name: tar.extractfile(member) for member in tar if member.isreg()}
            for name in (f"{FOLDER}/{name}" for name in (*TRAIN_FILES, TEST_FILE)):
                if (member := members.get(name)) is None:
                    raise DataError(f"{path}: archive must hold {name}, got none")
                batches[f"{path}/{name}"] = _records(member, f"{path}/{name}")
    except tarfile.TarError as error:
        raise DataError(f"{path}: truncated or corrupt tar ({error})") from None
    return batches


def _records(stream: files.Reader, origin: str) -> np.ndarray:
    """Reads records u8[N, 3073], N from 1 to 10,000."""
    allowed = _MAX_RECORDS * _RECORD
    content = stream.read(allowed + 1)  # One more byte: not a multiple of the record.
    if not content or len(content) % _RECORD:
        found = f"more than {allowed}" if len(content) > allowed else len(content)
        raise DataError(
            f"{origin}: size must be 1 to {_MAX_RECORDS} records of {_RECORD} bytes, got {found}"
        )
    return np.frombuffer(content, np.uint8).reshape(-1, _RECORD)


def _dataset(source: str, sha256: dict[str, str], batches: Mapping[str, np.ndarray]) -> Dataset:
    """Returns the data set of the six files, in order: origin -> records u8[N, 3073]."""
    (first, records), *_ = batches.items()
    for origin, others in batches.items():
        # Detects a file truncated between two images.
        if len(others) != len(records):
            raise DataError(
                f"{origin}: number of images must be {len(records)}, as in {first}, got "
                f"{len(others)}"
            )
    *train, test = (_arrays(records, origin) for origin, records in batches.items())
    return CIFAR10.dataset(source, sha256, train=_joined(train), test=test)


def _arrays(records: np.ndarray, origin: str) -> Arrays:
    height, width, channels = CIFAR10.shape
    planes = records[:, 1:].reshape(-1, channels, height, width)
    return CIFAR10.arrays(planes.transpose(0, 2, 3, 1), records[:, 0], origin=origin)


def _joined(parts: Iterable[Arrays]) -> Arrays:
    x, y = zip(*parts, strict=True)
    return Arrays(np.concatenate(x), np.concatenate(y))
