"""Loads a data set by name and source."""

import os
from functools import partial

from adv_jax.data import arrays, cifar10, covtype, emnist, mnist, tfds
from adv_jax.data.dataset import DataError, Dataset, MissingData
from adv_jax.types import described, not_one_of

_SOURCES = {
    "mnist": {
        "tfds": tfds.mnist,
        "files": mnist.from_files,
        "embedded": lambda dir: mnist.from_package(),
    },
    "cifar10": {"tfds": tfds.cifar10, "files": cifar10.from_files},
    "covtype": {"sklearn": covtype.from_sklearn, "files": covtype.from_files},
    **{
        name: {"files": partial(read, name=name)}
        for read, names in (
            (mnist.from_files, [mnist.FASHION_MNIST]),
            (emnist.from_files, [emnist.NAME, *emnist.SETS]),
        )
        for name in names
    },
}


def load(name: str, *, source: str, dir: str | os.PathLike = "") -> Dataset:
    """Loads the data set `name` from `source`, without fallback to another source.

    Args:
      name: "mnist": x f32[N, 28, 28, 1] in [0, 1], ten classes, 60,000 + 10,000 rows;
        "cifar10": x f32[N, 32, 32, 3] (RGB) in [0, 1], ten classes, 50,000 + 10,000 rows;
        "covtype": x f32[N, 54] in the units of the source, unbounded, seven classes, 464,810 +
        116,202 rows; "fashion_mnist" and "emnist_byclass", "_bymerge", "_balanced", "_letters",
        "_digits" or "_mnist" (62, 47, 47, 26, 10 and 10 classes; "emnist" is the one in `dir`):
        images as MNIST's, with source="files"; with source="files" also your own name for four idx
        files of 28 x 28 images and ten classes that are not MNIST's; with source="npz" your name
        for a file of arrays.
      source: "tfds" (MNIST, CIFAR-10: a set prepared by TensorFlow Datasets, else the raw files,
        fetched into its cache), "files" (idx files, CIFAR-10's binary files, covtype.data),
        "embedded" (4,000 + 1,000 MNIST digits inside adv_jax), "sklearn" (Covertype:
        scikit-learn's fetcher and cache) or "npz" (the arrays x_train, y_train, x_test and y_test
        of `dir`/`name`.npz: see `from_arrays`).
      dir: "tfds": TFDS's data directory, or "" for its default; "files": the folder of the files;
        "npz": the folder of the file, or the file; "sklearn": its data_home, or "" for its
        default; "embedded": not used.

    Returns:
      The data set, on the host. The order of the rows depends on the source: a set prepared by
      TFDS is shuffled, the raw files are not.

    Raises:
      MissingData: the source has no such files, cannot be fetched or lacks a package; the message
        names the other sources.
      DataError: `name` or `source` is unknown (the nearest is suggested), an argument is no text,
        or the files are damaged.
    """
    folder = os.fspath(dir) if isinstance(dir, os.PathLike) else dir
    for field, value in {"name": name, "source": source, "dir": folder}.items():
        if not isinstance(value, str):
            raise DataError(f"data.{field} must be a text, got {described(value)}")
    if name not in _SOURCES and source == "files" and mnist.has_files(folder):
        return mnist.from_files(folder, name=name)
    if name not in _SOURCES and source == "npz":
        return arrays.from_npz(folder, name=name)
    # A folder that has some of the files would have been read above.
    own = f", or your own name for the idx files in data.dir, {folder!r}, which has none of them"
    sources = _choose("data.name", name, _SOURCES, of=own if source == "files" else "")
    own = ", or a name of your own for source npz" if source == "npz" else ""
    read = _choose("data.source", source, sources, of=f" for {name}{own}")
    try:
        return read(folder)
    except MissingData as error:
        others = " or ".join(repr(other) for other in sources if other != source)
        instead = f"; data.source may also be {others}" if others else ""
        raise MissingData(f"{error}{instead}") from error


def _choose(field: str, value: str, table, *, of: str):
    if value not in table:
        raise DataError(not_one_of(field, value, table, also=of))
    return table[value]
