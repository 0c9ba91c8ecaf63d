"""MNIST from files and from the package."""

import gzip
import hashlib
import subprocess
import sys

import numpy as np
import pytest
from refusals import refusal

from adv_jax import data
from adv_jax.data import mnist as mnist_module


def _refusal(*args, **kwargs):
    return refusal(data.load, *args, error=data.DataError, **kwargs)


def test_idx_files_of_mnist_load_as_written(folder, digits):
    mnist = data.load("drawn", source="files", dir=str(folder))
    assert mnist[:2] == ("drawn", "files")
    assert mnist.num_classes == 10
    assert mnist.bounds == (0, 1)
    for arrays, split in ((mnist.train, "train"), (mnist.test, "t10k")):
        images, labels = digits[f"{split}-images-idx3-ubyte"], digits[f"{split}-labels-idx1-ubyte"]
        assert arrays.x.dtype == np.float32
        assert arrays.y.dtype == np.int32
        np.testing.assert_array_equal(arrays.x[..., 0], images / np.float32(255))
        np.testing.assert_array_equal(arrays.y, labels)
        assert arrays.x.min() >= 0
        assert arrays.x.max() <= 1
    assert mnist.sha256 == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()
    }


def test_plain_and_zipped_files_of_mnist_load_equally(folder, digits, encode_idx):
    zipped = data.load("drawn", source="files", dir=str(folder))
    for name, values in digits.items():
        (folder / f"{name}.gz").unlink()
        (folder / name).write_bytes(encode_idx(values))
    plain = data.load("drawn", source="files", dir=str(folder))
    np.testing.assert_array_equal(plain.train.x, zipped.train.x)
    assert set(plain.sha256) == set(digits)


def test_a_bad_folder_or_file_of_mnist_is_refused_by_name(folder, digits, encode_idx):
    refusal = _refusal("mnist", source="files")
    assert "data.dir must be the folder of the four idx files" in refusal
    assert refusal.endswith("got ''; data.source may also be 'tfds' or 'embedded'")
    message = _refusal("mnist", source="files", dir=str(folder / "nowhere"))
    assert "must be a folder with train-images-idx3-ubyte, " in message
    assert "'tfds'" in message
    assert "'embedded'" in message

    labels = folder / "t10k-labels-idx1-ubyte.gz"
    values = digits["t10k-labels-idx1-ubyte"].copy()
    labels.write_bytes(gzip.compress(encode_idx(values[:-1])))
    message = _refusal("mnist", source="files", dir=str(folder))
    assert f"{labels}: number of labels must be 20, " in message and "got 19" in message

    values[3] = 10
    labels.write_bytes(gzip.compress(encode_idx(values)))
    message = _refusal("mnist", source="files", dir=str(folder))
    assert f"{labels}: the label of row 3 must be 0 to 9, got 10" in message

    labels.write_bytes(b"not idx")
    assert f"{labels}: magic number" in _refusal("mnist", source="files", dir=str(folder))

    labels.unlink()
    message = _refusal("mnist", source="files", dir=str(folder))
    assert message.startswith("data.dir must be a folder with t10k-labels-idx1-ubyte, ")
    assert f"got {folder}; " in message


def test_other_digits_are_not_called_mnist(folder):
    message = _refusal("mnist", source="files", dir=str(folder))
    assert message == (
        f"data.name must be your own name for the files in {folder}, which by SHA-256 are not "
        "MNIST's, got 'mnist'"
    )


def test_a_missing_file_of_another_digits_set_is_named(folder):
    missing = folder / "train-labels-idx1-ubyte.gz"
    missing.unlink()
    message = _refusal("drawn", source="files", dir=str(folder))
    assert message.startswith(f"data.dir must be a folder with {missing.stem}, ")


def test_mnist_is_recognized_under_another_name_and_compression(full_mnist, tmp_path):
    for path in full_mnist.iterdir():
        content = gzip.decompress(path.read_bytes())
        if "t10k" in path.name:
            (tmp_path / path.name).write_bytes(gzip.compress(content, 1))
        else:
            (tmp_path / path.stem).write_bytes(content)
    assert data.load("drawn", source="files", dir=str(tmp_path)).name == "mnist"


def test_embedded_mnist_has_5000_balanced_distinct_digits():
    mnist = data.load("mnist", source="embedded")
    assert mnist[:2] == ("mnist", "embedded")
    # As stored results have it.
    sha256 = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"
    assert mnist.sha256 == {"mnist_5k.csv.gz": sha256}
    assert mnist.train.x.shape == (4000, 28, 28, 1)
    assert mnist.test.x.shape == (1000, 28, 28, 1)
    np.testing.assert_array_equal(np.bincount(mnist.train.y), 400)
    np.testing.assert_array_equal(np.bincount(mnist.test.y), 100)
    np.testing.assert_array_equal(mnist.train.y[:20], np.arange(20) % 10)
    assert len({image.tobytes() for part in mnist[3:5] for image in part.x}) == 5000
    np.testing.assert_array_equal(data.load("mnist", source="embedded").test.x, mnist.test.x)


@pytest.mark.slow
def test_loading_embedded_mnist_imports_no_heavy_package():
    script = """
import sys
from adv_jax import data
data.load("mnist", source="embedded")
heavy = {"sklearn", "pandas", "matplotlib", "tensorflow", "tensorflow_datasets"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(
    ("damaged", "message"),
    [
        (lambda stored: None, "cannot be read"),
        (lambda stored: stored[:-3], "SHA-256 must be 846f6cad"),
        (lambda stored: gzip.compress(gzip.decompress(stored)[:-2] + b"8\n"), "SHA-256 must be"),
    ],
    ids=["missing", "truncated", "changed"],
)
def test_damaged_embedded_digits_are_refused(monkeypatch, tmp_path, damaged, message):
    copy = tmp_path / "mnist_5k.csv.gz"
    if content := damaged(mnist_module._EMBEDDED.read_bytes()):
        copy.write_bytes(content)
    monkeypatch.setattr(mnist_module, "_EMBEDDED", copy)
    assert _refusal("mnist", source="embedded").startswith(f"{copy}: {message}")


def test_the_full_mnist_has_the_known_counts_and_contains_the_embedded_digits(full_mnist):
    mnist = data.load("mnist", source="files", dir=str(full_mnist))
    assert mnist.train.x.shape == (60000, 28, 28, 1)
    assert mnist.test.x.shape == (10000, 28, 28, 1)
    # The class counts that LeCun's set is known for.
    assert np.bincount(mnist.train.y).tolist() == [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949,
    ]  # fmt: skip
    assert np.bincount(mnist.test.y).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009,
    ]  # fmt: skip
    assert abs(mnist.train.x.mean() - 0.1307) < 5e-5
    assert abs(mnist.train.x.std() - 0.3081) < 5e-5

    known = {x.tobytes(): y for part in mnist[3:5] for x, y in zip(*part, strict=True)}
    embedded = data.load("mnist", source="embedded")
    for part in embedded[3:5]:
        for x, y in zip(*part, strict=True):
            assert known[x.tobytes()] == y
