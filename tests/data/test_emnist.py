"""Fashion-MNIST and EMNIST from idx files, which have the format of MNIST's."""

import gzip

import numpy as np
import pytest
from refusals import refusal

from adv_jax import data

CLASSES = {"byclass": 62, "bymerge": 47, "balanced": 47, "letters": 26, "digits": 10, "mnist": 10}


@pytest.fixture
def write_emnist(tmp_path, encode_idx):
    """Writes the four files of a part, with all its classes; returns the upright images."""

    def write(part: str, first: int = 0) -> dict[str, np.ndarray]:
        upright = {}
        for split in ("train", "test"):
            rng = np.random.default_rng(len(split))
            images = rng.integers(0, 256, (CLASSES[part], 28, 28), dtype=np.uint8)
            labels = np.arange(first, first + CLASSES[part], dtype=np.uint8)
            for kind, values in (
                ("images-idx3", images.transpose(0, 2, 1)),  # The files have x before y.
                ("labels-idx1", labels),
            ):
                content = gzip.compress(encode_idx(np.ascontiguousarray(values)), mtime=0)
                (tmp_path / f"emnist-{part}-{split}-{kind}-ubyte.gz").write_bytes(content)
            upright[split] = images
        return upright

    return write


def refused(name, folder):
    return refusal(data.load, name, source="files", dir=str(folder), error=data.DataError)


@pytest.mark.parametrize("part", CLASSES)
def test_images_of_emnist_are_upright_and_labels_count_from_0(write_emnist, tmp_path, part):
    upright = write_emnist(part, first=1 if part == "letters" else 0)
    found = data.load(f"emnist_{part}", source="files", dir=str(tmp_path))
    assert found[:2] == (f"emnist_{part}", "files")
    assert (found.num_classes, found.bounds) == (CLASSES[part], (0, 1))
    np.testing.assert_array_equal(found.train.x[..., 0], upright["train"] / np.float32(255))
    np.testing.assert_array_equal(found.test.y, np.arange(CLASSES[part]))
    assert len(found.sha256) == 4


def test_emnist_is_the_only_part_in_the_folder(write_emnist, tmp_path):
    assert refused("emnist", tmp_path).endswith(f"got {tmp_path}, with none")
    write_emnist("balanced")
    assert data.load("emnist", source="files", dir=str(tmp_path)).name == "emnist_balanced"
    write_emnist("letters", first=1)
    assert refused("emnist", tmp_path).endswith("with emnist_balanced, emnist_letters")


def test_a_letter_labeled_0_is_refused(write_emnist, tmp_path):
    write_emnist("letters", first=0)
    message = refused("emnist_letters", tmp_path)
    assert message.endswith("the label of row 0 must be 1 to 26, got 0")


def test_a_missing_file_or_folder_of_emnist_is_named(write_emnist, tmp_path):
    write_emnist("digits")
    (tmp_path / "emnist-digits-test-labels-idx1-ubyte.gz").unlink()
    assert "with emnist-digits-test-labels-idx1-ubyte, " in refused("emnist_digits", tmp_path)
    assert "data.dir must be the folder of the four idx files" in refused("emnist", "")
    message = refused("emnist_leters", tmp_path)
    assert message.endswith("got 'emnist_leters'; did you mean 'emnist_letters'?")


def test_fashion_mnist_reads_files_named_as_those_of_mnist(folder, digits):
    found = data.load("fashion_mnist", source="files", dir=str(folder))
    assert found[:2] == ("fashion_mnist", "files") and found.num_classes == 10
    images = digits["train-images-idx3-ubyte"]
    np.testing.assert_array_equal(found.train.x[..., 0], images / np.float32(255))
    (folder / "train-images-idx3-ubyte.gz").unlink()
    message = refused("fashion_mnist", folder)
    assert message.endswith(f"for source 'files', got {folder}")


def test_the_digits_of_mnist_are_not_called_fashion_mnist(full_mnist):
    message = refused("fashion_mnist", full_mnist)
    assert message.startswith("data.name must be 'mnist' for the files in ")


def test_fashion_mnist_has_no_other_source(tmp_path):
    with pytest.raises(data.DataError, match="must be one of files for fashion_mnist, got 'tf"):
        data.load("fashion_mnist", source="tfds")
