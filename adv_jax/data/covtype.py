"""Covertype from its file or from scikit-learn.

Cells of 30 x 30 m of forest: 10 measurements in their own units (meters, degrees, hillshade from 0
to 254), 4 wilderness areas and 40 soil types as 0 or 1, and the forest cover type.
54 integers, then the class, 1 to 7; https://archive.ics.uci.edu/dataset/31/covertype
"""

import pickle
import re
import zlib
from functools import partial
from http.client import HTTPException
from pathlib import Path

import numpy as np

from adv_jax.data import files
from adv_jax.data.dataset import Arrays, DataError, Dataset, MissingData
from adv_jax.data.splits import split
from adv_jax.types import install_hint

FILE = "covtype.data"
NUM_ROWS, NUM_FEATURES, NUM_CLASSES = 581_012, 54, 7

_TEST_ONE_IN, _TEST_SEED = 5, 0
_MAX_BYTES = 1 << 27  # The file has 75,169,317.
_INTEGER = rb"-?\d{1,7}"  # exact in float32
_ROW = re.compile(rb"(?:%b,){%d}[1-%d]" % (_INTEGER, NUM_FEATURES, NUM_CLASSES))


def from_files(dir: str) -> Dataset:
    """Reads UCI's covtype.data in the folder `dir`, plain or `.gz` (plain first).

    Raises:
      DataError: no `dir`; the file is missing, truncated or corrupt, or a line is not 54 integers
        and a class from 1 to 7.
    """
    path = files.required(files.required_folder(dir, FILE), FILE)
    table, sha256 = files.read(path, partial(_table, path=path))
    return _dataset("files", {path.name: sha256}, table[:, :-1], table[:, -1])


def from_sklearn(dir: str = "") -> Dataset:
    """Reads scikit-learn's `fetch_covtype`, from its cache `dir` ("": its default) or the network.

    Raises:
      DataError: scikit-learn is not installed, the download failed, or the cache is damaged.
    """
    try:
        from sklearn import datasets
    except ModuleNotFoundError:
        raise MissingData(
            f"data.source: 'sklearn' lacks a package: {install_hint('covtype')}"
        ) from None
    try:
        home = Path(datasets.get_data_home(dir or None))
        # pyrefly: ignore[unexpected-keyword]: the stubs lack it.
        fetched = datasets.fetch_covtype(data_home=str(home), return_X_y=True, n_retries=1)
    except _FETCHING as error:
        raise MissingData(
            f"covtype in {dir or 'the cache of scikit-learn'} cannot be fetched or read "
            f"({' '.join(str(error).split())})"
        ) from None
    folder, (x, labels) = home / "covertype", map(np.asarray, fetched)
    if x.shape != (NUM_ROWS, NUM_FEATURES) or labels.shape != (NUM_ROWS,):
        raise DataError(
            f"{folder}: shapes must be {(NUM_ROWS, NUM_FEATURES)} and {(NUM_ROWS,)}, got "
            f"{x.shape} and {labels.shape}"
        )
    bad = np.flatnonzero((labels < 1) | (labels > NUM_CLASSES))
    if bad.size:
        raise DataError(
            f"{folder}: the class of row {bad[0]} must be 1 to {NUM_CLASSES}, got {labels[bad[0]]}"
        )
    sha256 = {path.name: files.sha256(path) for path in sorted(folder.glob("*_py3"))}
    return _dataset("sklearn", sha256, x, labels)


_FETCHING = (
    HTTPException,
    OSError,
    EOFError,
    KeyError,
    ValueError,
    pickle.UnpicklingError,
    zlib.error,
)


def _table(stream: files.Reader, path: Path) -> np.ndarray:
    """Parses features and classes i32[NUM_ROWS, 55]."""
    content = stream.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise DataError(f"{path}: unzipped size must be at most {_MAX_BYTES} bytes, got more")
    lines = content.splitlines()
    # Detects a file truncated between two lines.
    if len(lines) != NUM_ROWS:
        raise DataError(f"{path}: number of lines must be {NUM_ROWS}, got {len(lines)}")
    for number, line in enumerate(lines, start=1):
        if not _ROW.fullmatch(line):
            raise DataError(f"{path}: line {number} must be {_fault(line)}")
    return np.loadtxt(lines, dtype=np.int32, delimiter=",", ndmin=2)


def _fault(line: bytes) -> str:
    """Returns the end of the message for a line that does not match `_ROW`, after "must be"."""
    *features, label = line.split(b",")
    if len(features) != NUM_FEATURES:
        return f"{NUM_FEATURES} values and the class, got {len(features) + 1} values"
    for value in features:
        if not re.fullmatch(_INTEGER, value):
            return f"integers of at most 7 digits, got {_shown(value)}"
    return f"of a class from 1 to {NUM_CLASSES}, got {_shown(label)}"


def _shown(value: bytes) -> str:
    return repr(value[:20].decode("ascii", "replace"))


def _dataset(source: str, sha256: dict[str, str], x: np.ndarray, labels: np.ndarray) -> Dataset:
    """Returns the data set of rows [N, 54] and classes [N], 1 to 7, in the order of the file.

    A fixed, stratified fifth of the rows is for testing. UCI's own split trains on 1,620 rows of
    each class, but 49 % of all rows are of class 2.
    """
    x, y = x.astype(np.float32), labels.astype(np.int32) - 1
    train, test = split(y, num_valid=len(y) // _TEST_ONE_IN, seed=_TEST_SEED, stratified=True)
    parts = Arrays(x[train], y[train]), Arrays(x[test], y[test])
    return Dataset("covtype", source, sha256, *parts, NUM_CLASSES, None)
