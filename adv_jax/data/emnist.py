"""EMNIST, handwritten letters and digits, from its idx files.

The files hold each image transposed; here it is upright. The letters' labels count from 1 in the
files and from 0 here.

Source: [cohen2017].
"""

from adv_jax.data import files, mnist
from adv_jax.data.dataset import DataError, Dataset, ImageSet

NAME = "emnist"
# Data set -> its shape and classes. Of `bymerge` and `balanced`, capitals that look like the small
# letter share its class.
SETS = {
    f"{NAME}_{part}": ImageSet(f"{NAME}_{part}", mnist.MNIST.shape, num_classes, first_label)
    for part, num_classes, first_label in (
        ("byclass", 62, 0),
        ("bymerge", 47, 0),
        ("balanced", 47, 0),
        ("letters", 26, 1),
        ("digits", 10, 0),
        ("mnist", 10, 0),
    )
}


def from_files(dir: str, *, name: str) -> Dataset:
    """Reads the four idx files of a part of EMNIST in the folder `dir`, each plain or `.gz`.

    Args:
      dir: a folder with emnist-letters-train-images-idx3-ubyte and so on.
      name: a name of `SETS`, or "emnist" for the only one in the folder.

    Raises:
      DataError: no `dir`; a file is missing, truncated or corrupt; images and labels differ in
        number; `name` is "emnist" and the folder has the files of several parts, or of none.
    """
    images = SETS[_part_in(dir) if name == NAME else name]
    splits = _splits(images.name)
    paths = mnist.idx_files(dir, splits)
    return mnist.read_splits(images, splits, paths, source="files", transposed=True)[0]


def _part_in(dir: str) -> str:
    """Returns the name of the only part whose training files are in the folder `dir`."""
    folder = files.required_folder(dir, mnist.FOUR)
    there = [name for name in SETS if any(files.find(folder, f) for f in _splits(name)["train"])]
    if len(there) != 1:
        raise DataError(
            "data.dir must be a folder with the files of one part for data.name 'emnist' (name the "
            f"part, as in 'emnist_letters', if it has more), got {folder}, with "
            f"{', '.join(there) or 'none'}"
        )
    return there[0]


def _splits(name: str) -> dict[str, tuple[str, str]]:
    """Returns split -> names of its files (images, labels)."""
    prefix = name.replace("_", "-")
    return {
        split: (f"{prefix}-{split}-images-idx3-ubyte", f"{prefix}-{split}-labels-idx1-ubyte")
        for split in ("train", "test")
    }
