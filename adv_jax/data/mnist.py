"""MNIST from idx files or the digits in the package, and other sets in such files."""

import gzip
import hashlib
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from adv_jax.data import files, idx
from adv_jax.data.dataset import Arrays, DataError, Dataset, ImageSet

MNIST = ImageSet("mnist", (28, 28, 1), 10)
FOUR = "the four idx files"
FASHION_MNIST = "fashion_mnist"  # whose files have the names of MNIST's
SPLITS = {  # split -> names of its (images, labels)
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
# SHA-256 of MNIST's files, not gzipped, by which they are recognized.
_KNOWN = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}

_EMBEDDED = Path(__file__).with_name("mnist_5k.csv.gz")  # mnist_5k.txt has source and license
_EMBEDDED_SHA256 = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"
_EMBEDDED_TRAIN = 4000


def from_files(dir: str, *, name: str = MNIST.name) -> Dataset:
    """Reads the four idx files in the folder `dir`, each plain or `.gz` (plain first).

    They hold any number of 28 x 28 images of ten classes; rows keep their order. MNIST's own files,
    recognized by their SHA-256, are always named "mnist"; others are named `name`.

    Raises:
      DataError: no `dir`; a file is missing, truncated or corrupt; images and labels differ in
        number; `name` is "mnist" but the files are not MNIST's, or "fashion_mnist" but they are.
    """
    paths = idx_files(dir, SPLITS)
    found, contents = read_splits(MNIST, SPLITS, paths, source="files")
    folder = files.folder_of(dir)
    if contents == _KNOWN:
        if name == FASHION_MNIST:
            raise DataError(
                f"data.name must be 'mnist' for the files in {folder}, which by SHA-256 are "
                f"MNIST's, got {name!r}"
            )
        return found
    if name == MNIST.name:
        raise DataError(
            f"data.name must be your own name for the files in {folder}, which by SHA-256 are not "
            f"MNIST's, got {name!r}"
        )
    return found._replace(name=name)


def idx_files(dir: str, splits: Mapping[str, tuple[str, str]]) -> dict[str, Path]:
    """Returns the file of each name in `splits`, in the folder `dir`, plain or `.gz`.

    splits: split -> names of its (images, labels).

    Raises:
      MissingData: no `dir`, or a file is missing.
    """
    folder = files.required_folder(dir, FOUR)
    names = (name for pair in splits.values() for name in pair)
    return {name: files.required(folder, name) for name in names}


def has_files(dir: str) -> bool:
    """Returns whether any of the four idx files is in the folder `dir`."""
    names = (part for pair in SPLITS.values() for part in pair)
    return bool(dir) and any(files.find(files.folder_of(dir), part) for part in names)


def from_package() -> Dataset:
    """Reads the 5,000 digits of MNIST inside adv_jax.

    They are the first 500 of each class in MNIST's training set: 400 for training, 100 for testing.
    Rows cycle through the classes 0, 1, ..., 9, so that any multiple of ten first rows is balanced.

    Raises:
      DataError: the file is missing or damaged.
    """
    try:
        stored = _EMBEDDED.read_bytes()
    except OSError as error:
        raise DataError(f"{_EMBEDDED}: cannot be read ({error.strerror})") from None
    if (sha256 := hashlib.sha256(stored).hexdigest()) != _EMBEDDED_SHA256:
        raise DataError(
            f"{_EMBEDDED}: SHA-256 must be {_EMBEDDED_SHA256}, got {sha256}; install adv_jax again"
        )
    text = io.StringIO(gzip.decompress(stored).decode("ascii"))
    rows = np.loadtxt(text, delimiter=",", dtype=np.uint8)
    digits = MNIST.arrays(rows[:, :-1], rows[:, -1], origin=_EMBEDDED)
    by_class = np.argsort(digits.y, kind="stable").reshape(MNIST.num_classes, -1)
    train, test = np.split(by_class.T.ravel(), [_EMBEDDED_TRAIN])
    return MNIST.dataset(
        "embedded",
        {_EMBEDDED.name: sha256},
        train=Arrays(digits.x[train], digits.y[train]),
        test=Arrays(digits.x[test], digits.y[test]),
    )


def read_splits(
    images: ImageSet,
    splits: Mapping[str, tuple[str, str]],
    paths: Mapping[str, Path],
    *,
    source: str,
    transposed: bool = False,
) -> tuple[Dataset, dict[str, str]]:
    """Reads a set of images from idx files.

    Args:
      images: its name, shape and classes.
      splits: "train" and "test" -> names of their (images, labels).
      paths: name -> file.
      source: as given to `load`.
      transposed: whether the files hold each image column by column.

    Returns:
      The data set and, for each name, the SHA-256 of the file's content, not gzipped.

    Raises:
      DataError: a file is truncated or corrupt; images and labels differ in number.
    """
    sha256, contents, arrays = {}, {}, {}
    for split, (image_name, label_name) in splits.items():
        image_file, label_file = paths[image_name], paths[label_name]
        # TFDS's cache renames the files; record their standard names.
        pixels, sha256[image_name + image_file.suffix] = idx.read(
            image_file, shape=images.shape[:2]
        )
        labels, sha256[label_name + label_file.suffix] = idx.read(label_file, shape=())
        if len(pixels) != len(labels):
            raise DataError(
                f"{label_file}: number of labels must be {len(pixels)}, as of the images in "
                f"{image_file.name}, got {len(labels)}"
            )
        contents |= {image_name: idx.sha256(pixels), label_name: idx.sha256(labels)}
        if transposed:
            pixels = pixels.swapaxes(1, 2)
        arrays[split] = images.arrays(pixels, labels, origin=label_file)
    return images.dataset(source, sha256, **arrays), contents
