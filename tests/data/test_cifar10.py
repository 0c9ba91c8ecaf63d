"""CIFAR-10 from files and from the archive: intact ones load as written, others are refused."""

import gzip
import hashlib
import io
import tarfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from refusals import refusal

from adv_jax import data

_RECORD = 3073


def _load(folder):
    return data.load("cifar10", source="files", dir=str(folder))


def _refusal(folder):
    return refusal(_load, folder, error=data.DataError)


def _write(folder, contents):
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder


def _assert_holds(cifar, pictures):
    *train, test = pictures.values()
    train = [np.concatenate(arrays) for arrays in zip(*train, strict=True)]
    for part, (images, labels) in ((cifar.train, train), (cifar.test, test)):
        assert (part.x.dtype, part.y.dtype) == (np.float32, np.int32)
        assert part.x.flags.c_contiguous
        np.testing.assert_array_equal(part.x, images / np.float32(255))
        np.testing.assert_array_equal(part.y, labels)


@pytest.mark.parametrize("inside", ["", "cifar-10-batches-bin"])
@pytest.mark.parametrize("zipped", [False, True])
def test_binary_files_load_as_written(tmp_path, pictures, batches, inside, zipped):
    if zipped:
        batches = {f"{name}.gz": gzip.compress(content) for name, content in batches.items()}
    _write(tmp_path / inside, batches)
    cifar = _load(tmp_path)
    assert cifar[:2] == ("cifar10", "files")
    assert (cifar.num_classes, cifar.bounds) == (10, (0, 1))
    _assert_holds(cifar, pictures)
    assert cifar.sha256 == {
        name: hashlib.sha256(content).hexdigest() for name, content in batches.items()
    }


def test_the_archive_loads_as_written_unless_files_are_beside_it(archive, pictures, batches):
    cifar = _load(archive.parent)
    _assert_holds(cifar, pictures)
    assert cifar.sha256 == {archive.name: hashlib.sha256(archive.read_bytes()).hexdigest()}
    assert [path.name for path in archive.parent.iterdir()] == [archive.name]
    # Files beside it are read before it.
    _write(archive.parent, batches)
    assert set(_load(archive.parent).sha256) == set(batches)


def test_an_embedded_cifar10_and_an_empty_folder_name_are_refused():
    with pytest.raises(data.DataError, match="data.source must be one of tfds, files for cifar10"):
        data.load("cifar10", source="embedded")
    assert "data.dir must be the folder of the six" in _refusal("")
    assert _refusal("").endswith("got ''; data.source may also be 'tfds'")


def test_missing_files_of_cifar10_are_named(tmp_path, batches):
    message = _refusal(tmp_path / "nowhere")
    assert message == (
        "data.dir must be a folder with data_batch_1.bin, plain or .gz, or cifar-10-binary.tar.gz, "
        f"for source 'files', got {tmp_path / 'nowhere'}; data.source may also be 'tfds'"
    )
    _write(tmp_path, batches)
    (tmp_path / "data_batch_4.bin").unlink()
    assert _refusal(tmp_path).startswith("data.dir must be a folder with data_batch_4.bin, ")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda content: content[:-1], f"got {4 * _RECORD - 1}"),
        (lambda content: content + b"\0", f"got {4 * _RECORD + 1}"),
        (lambda content: b"", "bytes, got 0"),
        (lambda content: content[:_RECORD] * 10_001, "got more than 30730000"),
        (lambda content: content[:-_RECORD], "number of images must be 4, as in"),
        (lambda content: gzip.compress(content)[:-9], "truncated or corrupt gzip"),
        (lambda content: gzip.compress(content)[:-8] + bytes(8), "truncated or corrupt gzip"),
        (
            lambda content: content[: 2 * _RECORD] + b"\x0a" + content[2 * _RECORD + 1 :],
            "the label of row 2 must be 0 to 9, got 10",
        ),
    ],
)
@pytest.mark.parametrize("name", ["data_batch_3.bin", "test_batch.bin"])
def test_a_damaged_file_of_cifar10_is_refused_by_name(tmp_path, batches, pack, name, harm, says):
    harmed = batches | {name: harm(batches[name])}
    message = _refusal(_write(tmp_path / "files", harmed))
    assert message.startswith(f"{tmp_path / 'files' / name}: ") and says in message
    if "gzip" not in says:  # Within the archive a file is what it is.
        path = pack(
            tmp_path / "archive", {f"cifar-10-batches-bin/{n}": c for n, c in harmed.items()}
        )
        message = _refusal(path.parent)
        assert message.startswith(f"{path}/cifar-10-batches-bin/{name}: ") and says in message


@pytest.mark.slow
@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda content: content[: len(content) // 2], "truncated or corrupt gzip"),
        (lambda content: content[:-8] + bytes(8), "truncated or corrupt gzip"),
        (lambda content: gzip.decompress(content)[:30_000], "truncated or corrupt tar"),
        (lambda content: b"<html>not found</html>", "truncated or corrupt tar"),
        (lambda content: b"", "truncated or corrupt tar"),
        (
            lambda content: gzip.compress(bytes((1 << 28) + 1), 1),
            "unzipped size must be at most 268435456 bytes, got more",
        ),
    ],
)
def test_a_damaged_archive_is_refused_by_name(archive, harm, says):
    archive.write_bytes(harm(archive.read_bytes()))
    message = _refusal(archive.parent)
    assert message.startswith(f"{archive}: {says}")


def test_reading_an_archive_writes_no_file_and_follows_no_link(tmp_path, batches, pack):
    secret = _write(tmp_path, {"secret": batches["test_batch.bin"]}) / "secret"
    members = {f"cifar-10-batches-bin/{name}": content for name, content in batches.items()}
    test = members.pop("cifar-10-batches-bin/test_batch.bin")
    outside = {"../outside": test, str(tmp_path / "absolute"): test}
    path = pack(tmp_path / "archive", outside | members)
    says = f"{path}: archive must hold cifar-10-batches-bin/test_batch.bin, got none"
    assert _refusal(path.parent) == says
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for kind, target in ((tarfile.SYMTYPE, secret), (tarfile.LNKTYPE, members.popitem()[0])):
            member = tarfile.TarInfo("cifar-10-batches-bin/test_batch.bin")
            member.type, member.linkname = kind, str(target)
            tar.addfile(member)
    assert _refusal(path.parent) == says
    assert {p.name for p in tmp_path.iterdir()} == {"archive", "secret"}


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_tar_header_is_refused_or_harmless(archive, draw):
    content = bytearray(gzip.decompress(archive.read_bytes()))
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        headers = [member.offset for member in tar]
    for _ in range(draw.draw(st.integers(1, 3))):
        at = draw.draw(st.sampled_from(headers)) + draw.draw(st.integers(0, 511))
        content[at] = draw.draw(st.sampled_from([0, 32, 48, 55, 76, 83, 120, 128, 255]))
    other = archive.parent / "other"
    _write(other, {archive.name: bytes(content)})
    try:
        cifar = _load(other)
    except data.DataError:
        return
    assert cifar.train.x.shape == (20, 32, 32, 3)


def test_a_subset_of_4000_labels_has_400_of_each_class():
    labels = np.repeat(np.arange(10), 5000)[np.random.default_rng(0).permutation(50_000)]
    chosen = data.labeled_subset(labels, num_labels=4000, num_classes=10, seed=1)
    assert len(np.unique(chosen)) == 4000
    np.testing.assert_array_equal(np.bincount(labels[chosen]), 400)


@pytest.mark.exhaustive
def test_the_whole_cifar10_has_the_known_counts_and_means(jpeg_cifar10):
    cifar = _load(jpeg_cifar10)
    for part, count in ((cifar.train, 5000), (cifar.test, 1000)):
        assert part.x.shape == (10 * count, 32, 32, 3)
        np.testing.assert_array_equal(np.bincount(part.y), count)
    # The means and deviations that CIFAR-10 is known for, red, green, blue; JPEG moves them little.
    x = cifar.train.x.reshape(-1, 3)
    np.testing.assert_allclose(x.mean(0, dtype=float), [0.4914, 0.4822, 0.4465], atol=5e-4)
    np.testing.assert_allclose(x[::10].std(0, dtype=float), [0.2470, 0.2435, 0.2616], atol=5e-3)
    chosen = data.labeled_subset(cifar.train.y, num_labels=4000, num_classes=10, seed=1)
    np.testing.assert_array_equal(np.bincount(cifar.train.y[chosen]), 400)
