"""Data sets through TFDS: prepared and raw downloads, without TensorFlow."""

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from refusals import refusal

from adv_jax import data

_HERE = Path(__file__).parent
_PREPARED = _HERE / "prepared"


def _refusal(dir: Path, name: str = "mnist"):
    return refusal(data.load, name, source="tfds", dir=str(dir), error=data.DataError)


def _left_over(dir: Path) -> list[Path]:
    return [path for path in dir.rglob("*") if path.is_file()]


@pytest.mark.slow
def test_a_download_is_cached_for_the_next_load(server, folder, digits, builder_of, tmp_path):
    builder_of(server.url, folder)
    first = data.load("mnist", source="tfds", dir=str(tmp_path / "tfds"))
    assert first.source == "tfds"
    assert sorted(server.gets) == sorted(server.files)
    np.testing.assert_array_equal(
        first.train.x[..., 0], digits["train-images-idx3-ubyte"] / np.float32(255)
    )
    np.testing.assert_array_equal(first.test.y, digits["t10k-labels-idx1-ubyte"])
    assert first.sha256 == data.load("drawn", source="files", dir=str(folder)).sha256

    server.close()
    again = data.load("mnist", source="tfds", dir=str(tmp_path / "tfds"))
    np.testing.assert_array_equal(again.train.x, first.train.x)


def test_tfds_finds_the_files_that_load_has_cached(server, folder, builder_of, tmp_path):
    import tensorflow_datasets as tfds

    builder_of(server.url, folder)
    data.load("mnist", source="tfds", dir=str(tmp_path))
    builder = tfds.builder("mnist", data_dir=tmp_path)
    manager = tfds.download.DownloadManager(
        download_dir=tmp_path / "downloads", url_infos=builder.url_infos, dataset_name="mnist"
    )
    manager.download(list(builder.url_infos))
    assert len(server.gets) == 4


def _corrupt(server):
    server.files["train-labels-idx1-ubyte.gz"] += b"x"
    return "wrong checksum"


def _truncate(server):
    server.cut.add("t10k-images-idx3-ubyte.gz")
    return "t10k-images"


def _remove(server):
    del server.files["train-images-idx3-ubyte.gz"]
    return "HTTP code: 404"


def _stop(server):
    server.close()
    return "Connection refused"


@pytest.mark.slow
@pytest.mark.parametrize("harm", [_corrupt, _truncate, _remove, _stop])
def test_a_failed_download_is_refused_with_the_other_sources(
    server, folder, builder_of, tmp_path, harm
):
    builder_of(server.url, folder)
    good = dict(server.files)
    reason = harm(server)
    start = time.monotonic()
    message = _refusal(tmp_path / "tfds")
    assert time.monotonic() - start < 10
    assert reason in message
    assert "'files'" in message
    assert "'embedded'" in message
    names = [path.name for path in _left_over(tmp_path / "tfds")]
    assert not any("tmp" in name for name in names)
    if harm is not _stop:
        server.files, server.cut = good, set()
        assert len(data.load("mnist", source="tfds", dir=str(tmp_path / "tfds")).train.y) == 30


def test_a_truncated_download_leaves_nothing(server, folder, builder_of, tmp_path):
    builder_of(server.url, folder)
    server.cut.update(server.files)
    _refusal(tmp_path)
    assert not _left_over(tmp_path / "downloads")


def test_a_downloaded_file_that_is_not_idx_is_refused(server, folder, builder_of, tmp_path):
    bad = folder / "t10k-labels-idx1-ubyte.gz"
    bad.write_bytes(gzip.compress(b"<html>"))
    server.files[bad.name] = bad.read_bytes()
    builder_of(server.url, folder)
    assert "magic number" in _refusal(tmp_path)


def test_a_damaged_file_in_the_cache_is_refused_by_name(server, folder, builder_of, tmp_path):
    builder_of(server.url, folder)
    data.load("mnist", source="tfds", dir=str(tmp_path))
    (path,) = (tmp_path / "downloads" / "mnist").glob("*train-labels*.gz")
    path.write_bytes(path.read_bytes()[:-1])
    message = _refusal(tmp_path)
    assert str(path) in message
    assert "SHA-256" in message
    assert "delete" in message
    path.unlink()
    data.load("mnist", source="tfds", dir=str(tmp_path))


@pytest.mark.slow
def test_a_data_directory_that_cannot_be_written_is_refused(server, folder, builder_of, tmp_path):
    builder_of(server.url, folder)
    (tmp_path / "file").touch()
    assert "Not a directory" in _refusal(tmp_path / "file")


def test_a_data_directory_whose_name_is_too_long_is_refused(server, folder, builder_of):
    builder_of(server.url, folder)
    assert "File name too long" in _refusal(Path("q" * 300))


def _same_images(part: data.Arrays, other: data.Arrays) -> bool:
    def rows(arrays):
        return sorted((y, x.tobytes()) for x, y in zip(*arrays, strict=True))

    return rows(part) == rows(other)


def test_a_prepared_mnist_loads_as_written():
    mnist = data.load("mnist", source="tfds", dir=str(_PREPARED))
    embedded = data.load("mnist", source="embedded")
    assert mnist.source == "tfds"
    assert mnist.train.x.dtype == np.float32
    assert _same_images(mnist.train, data.Arrays(embedded.train.x[:30], embedded.train.y[:30]))
    assert _same_images(mnist.test, data.Arrays(embedded.test.x[:20], embedded.test.y[:20]))
    shards = list((_PREPARED / "mnist").rglob("*.array_record*"))
    assert mnist.sha256 == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in shards
    }


@pytest.mark.slow
def test_the_default_directory_is_the_one_of_tfds():
    script = """
import sys
from adv_jax import data
assert "tensorflow_datasets" not in sys.modules
assert len(data.load("mnist", source="tfds").train.y) == 30
assert "tensorflow" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"TFDS_DATA_DIR": str(_PREPARED)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("file", ["dataset_info.json", "mnist-train.array_record-00000-of-00001"])
def test_a_damaged_prepared_set_is_refused_by_name(tmp_path, file):
    shutil.copytree(_PREPARED, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "mnist" / "3.0.1" / file
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    message = _refusal(tmp_path)
    assert str(tmp_path) in message
    assert "'files'" in message
    assert "'embedded'" in message
    path.unlink()
    if file != "dataset_info.json":
        assert str(tmp_path) in _refusal(tmp_path)


def _pictures(pictures, *, test: bool) -> data.Arrays:
    """Returns the pictures of the training files or of the test file."""
    parts = [part for name, part in pictures.items() if name.startswith("test") == test]
    images, labels = map(np.concatenate, zip(*parts, strict=True))
    return data.Arrays(images / np.float32(255), labels.astype(np.int32))


@pytest.mark.slow
def test_the_archive_of_cifar10_is_downloaded_then_cached(
    serve, archive, builder_of, tmp_path, pictures
):
    server = serve(archive.parent)
    builder_of(server.url, archive.parent, "cifar10")
    first = data.load("cifar10", source="tfds", dir=str(tmp_path / "tfds"))
    assert (first.source, server.gets) == ("tfds", [archive.name])
    for part, test in ((first.train, False), (first.test, True)):
        for found, expected in zip(part, _pictures(pictures, test=test), strict=True):
            np.testing.assert_array_equal(found, expected)
    assert first.sha256 == data.load("cifar10", source="files", dir=str(archive.parent)).sha256
    # It is not unpacked: only the archive and TFDS's note are there.
    assert sorted(path.suffix for path in _left_over(tmp_path / "tfds")) == [".INFO", ".gz"]

    server.close()
    again = data.load("cifar10", source="tfds", dir=str(tmp_path / "tfds"))
    np.testing.assert_array_equal(again.train.x, first.train.x)


def test_a_failed_download_of_cifar10_names_the_other_source(serve, archive, builder_of, tmp_path):
    server = serve(archive.parent)
    builder_of(server.url, archive.parent, "cifar10")
    server.cut.add(archive.name)
    message = _refusal(tmp_path, "cifar10")
    assert archive.name in message
    assert message.endswith("; data.source may also be 'files'")
    assert not _left_over(tmp_path / "downloads")


def test_a_prepared_cifar10_loads_as_written(pictures):
    cifar = data.load("cifar10", source="tfds", dir=str(_PREPARED))
    assert cifar.train.x.shape == (20, 32, 32, 3)
    assert _same_images(cifar.train, _pictures(pictures, test=False))
    assert _same_images(cifar.test, _pictures(pictures, test=True))
    assert set(cifar.sha256) == {p.name for p in (_PREPARED / "cifar10").rglob("*.array_record*")}


@pytest.mark.tfds
@pytest.mark.parametrize("file_format", ["array_record", "tfrecord"])
@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_a_set_prepared_by_the_real_builder_equals_the_raw_files(
    serve, folder, archive, builder_of, tmp_path, name, file_format
):
    dir, raw = tmp_path / "tfds", folder if name == "mnist" else archive.parent
    server = serve(raw)
    subprocess.run(
        [sys.executable, _HERE / "prepare.py", name, raw, server.url, dir, file_format],
        check=True,
        capture_output=True,
    )
    # From here on only the disk: a set in tfrecord is read from TFDS's own cache of raw files.
    server.close()
    builder_of(server.url, raw, name)
    prepared = data.load(name, source="tfds", dir=str(dir))
    is_record = any("array_record" in file for file in prepared.sha256)
    assert is_record == (file_format == "array_record")
    files = data.load(name, source="files", dir=str(raw))
    assert _same_images(prepared.train, files.train)
    assert _same_images(prepared.test, files.test)
    assert "tensorflow" not in sys.modules
