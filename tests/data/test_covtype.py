"""Covertype from its file and from scikit-learn: intact data load, damaged ones are refused.

The files have UCI's format: a line for a cell, 54 integers and the class, separated by commas.
"""

import gzip
import hashlib
import sys
import urllib.error

import joblib
import numpy as np
import pytest
import sklearn.datasets
from hypothesis import given
from hypothesis import strategies as st
from refusals import refusal

from adv_jax import data
from adv_jax.data import covtype

# The first line of UCI's file.
FIRST = "2596,51,3,258,0,510,221,232,148,6279,1," + "0," * 31 + "1," + "0," * 11 + "5"
SHARES = np.array([0.3646, 0.4876, 0.0615, 0.0047, 0.0163, 0.0299, 0.0354])  # UCI's, of 581,012


def cells(count):
    """Features i64[N, 54] and classes i64[N], about as UCI's: half the cells are of class 2."""
    rng = np.random.default_rng(0)
    labels = rng.choice(np.arange(1, 8), count, p=SHARES)
    measured = rng.integers(-170, 7200, (count, 10))
    area, soil = np.eye(4, dtype=int), np.eye(40, dtype=int)
    flags = area[rng.integers(0, 4, count)], soil[rng.integers(0, 40, count)]
    return np.concatenate([measured, *flags], axis=1), labels


def text_of(features, labels):
    lines = (",".join(map(str, row)) for row in np.column_stack([features, labels]))
    return "".join(f"{line}\n" for line in lines).encode()


@pytest.fixture
def few(monkeypatch):
    """Returns 400 rows, and lowers the expected number of rows to 400."""
    monkeypatch.setattr(covtype, "NUM_ROWS", 400)
    return cells(400)


@pytest.fixture
def file(tmp_path, few):
    path = tmp_path / "covtype.data"
    path.write_bytes(text_of(*few))
    return path


def load(folder, source="files"):
    return data.load("covtype", source=source, dir=str(folder))


def refused(folder, source="files"):
    return refusal(load, folder, source, error=data.DataError)


def assert_holds(loaded, features, labels):
    """Asserts that train and test together have every row once, with classes from 0."""
    parts = [np.column_stack([part.x, part.y]) for part in (loaded.train, loaded.test)]
    both = np.concatenate(parts)
    expected = np.column_stack([features, labels - 1])
    by_row = lambda rows: rows[np.lexsort(rows.T)]
    np.testing.assert_array_equal(by_row(both), by_row(expected))
    for part in (loaded.train, loaded.test):
        assert (part.x.dtype, part.y.dtype) == (np.float32, np.int32)
        assert part.x.shape == (len(part.y), 54)


@pytest.mark.parametrize("zipped", [False, True])
def test_a_file_in_the_format_of_uci_loads_as_written(file, few, zipped):
    if zipped:
        content = gzip.compress(file.read_bytes())
        file.unlink()
        file = file.with_name("covtype.data.gz")
        file.write_bytes(content)
    loaded = load(file.parent)
    assert loaded[:2] == ("covtype", "files")
    assert (loaded.num_classes, loaded.bounds) == (7, None)
    assert loaded.sha256 == {file.name: hashlib.sha256(file.read_bytes()).hexdigest()}
    assert_holds(loaded, *few)


def test_the_first_line_of_the_original_file_is_parsed(tmp_path, monkeypatch):
    monkeypatch.setattr(covtype, "NUM_ROWS", 1)
    (tmp_path / "covtype.data").write_text(FIRST + "\n")
    (x,), (y,) = load(tmp_path).train
    assert (x[:10].tolist(), y) == ([2596, 51, 3, 258, 0, 510, 221, 232, 148, 6279], 4)
    assert np.flatnonzero(x[10:]).tolist() == [0, 32] and x.shape == (54,)


def test_the_test_set_is_a_stratified_fifth(file, few):
    loaded = load(file.parent)
    assert (len(loaded.train.y), len(loaded.test.y)) == (320, 80)
    counts = np.bincount(few[1], minlength=8)[1:]
    np.testing.assert_allclose(np.bincount(loaded.test.y, minlength=7), counts / 5, atol=1.5)
    np.testing.assert_array_equal(load(file.parent).test.x, loaded.test.x)


@pytest.mark.slow
def test_a_file_must_have_the_581012_rows_of_uci(tmp_path):
    lines = text_of(*cells(1000)).splitlines(keepends=True)
    whole = b"".join(lines) * 581 + b"".join(lines[:12])
    (tmp_path / "covtype.data").write_bytes(whole)
    loaded = load(tmp_path)
    assert (len(loaded.train.y), len(loaded.test.y)) == (464_810, 116_202)
    (tmp_path / "covtype.data").write_bytes(whole[: whole.rindex(b"\n", 0, -1) + 1])
    assert "number of lines must be 581012, got 581011" in refused(tmp_path)


def test_a_missing_file_of_covtype_is_named(tmp_path):
    assert "must be the folder of covtype.data" in refused("")
    assert refused("").endswith("got ''; data.source may also be 'sklearn'")
    message = refused(tmp_path)
    assert message == (
        "data.dir must be a folder with covtype.data, plain or .gz, for source 'files', got "
        f"{tmp_path}; data.source may also be 'sklearn'"
    )
    with pytest.raises(data.DataError, match="must be one of sklearn, files for covtype"):
        data.load("covtype", source="embedded")


def in_line_3(old, new):
    """Replaces the first or the last value of the third line."""

    def harm(content):
        lines = content.split(b"\n")
        values = lines[2].split(b",")
        values[old] = new
        lines[2] = b",".join(value for value in values if value is not None)
        return b"\n".join(lines)

    return harm


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda c: b"", "number of lines must be 400, got 0"),
        (lambda c: c[: len(c) // 2], "number of lines must be 400, got"),
        (lambda c: c[: c.rindex(b"\n", 0, -1) + 1], "lines must be 400, got 399"),
        (lambda c: c[:-9], "line 400 must be 54 values and the class, got 51 values"),
        (lambda c: c[:-2], "line 400 must be of a class from 1 to 7, got ''"),
        (lambda c: c + c[:200], "number of lines must be 400, got 402"),
        (in_line_3(0, None), "line 3 must be 54 values and the class, got 54 values"),
        (in_line_3(0, b"1,2"), "line 3 must be 54 values and the class, got 56 values"),
        (in_line_3(-1, b"8"), "line 3 must be of a class from 1 to 7, got '8'"),
        (in_line_3(-1, b"0"), "line 3 must be of a class from 1 to 7, got '0'"),
        (in_line_3(-1, b"pine"), "line 3 must be of a class from 1 to 7, got 'pine'"),
        (in_line_3(0, b"1.5"), "line 3 must be integers of at most 7 digits, got '1.5'"),
        (in_line_3(0, b"16777217"), "line 3 must be integers of at most 7 digits, got '16777217'"),
        (in_line_3(0, b""), "line 3 must be integers of at most 7 digits, got ''"),
        (in_line_3(0, b"x" * 999), f"of at most 7 digits, got '{'x' * 20}'"),
        (lambda c: gzip.compress(c)[:-9], "truncated or corrupt gzip"),
        (lambda c: gzip.compress(c)[:-8] + bytes(8), "truncated or corrupt gzip"),
        (lambda c: gzip.compress(bytes((1 << 27) + 1), 1), "at most 134217728 bytes, got more"),
    ],
)
def test_a_damaged_file_of_covtype_is_refused_by_name(file, harm, says):
    file.write_bytes(harm(file.read_bytes()))
    message = refused(file.parent)
    assert message.startswith(f"{file}: ") and says in message


@pytest.fixture
def cache(tmp_path, few):
    """Returns a folder with the two pickles of scikit-learn's fetcher."""
    folder = tmp_path / "covertype"
    folder.mkdir()
    joblib.dump(few[0].astype(float), folder / "samples_py3", compress=9)
    joblib.dump(few[1].astype(np.int32), folder / "targets_py3", compress=9)
    return folder


def test_the_cache_of_scikit_learn_gives_the_rows_of_the_file(cache, file):
    fetched, read = load(cache.parent, "sklearn"), load(file.parent)
    assert fetched.source == "sklearn"
    assert fetched.sha256 == {
        name: hashlib.sha256((cache / name).read_bytes()).hexdigest()
        for name in ("samples_py3", "targets_py3")
    }
    for part in ("train", "test"):
        for ours, theirs in zip(getattr(read, part), getattr(fetched, part), strict=True):
            np.testing.assert_array_equal(ours, theirs)
            assert ours.dtype == theirs.dtype


def test_a_damaged_cache_of_scikit_learn_is_refused(cache, few):
    for labels, says in (
        (few[1][:-1], "shapes must be (400, 54) and (400,), got (400, 54) and (399,)"),
        (np.where(np.arange(400) == 7, 8, few[1]), "the class of row 7 must be 1 to 7, got 8"),
    ):
        joblib.dump(labels, cache / "targets_py3")
        assert refused(cache.parent, "sklearn") == f"{cache}: {says}"
    for content in (b"", b"no pickle", (cache / "samples_py3").read_bytes()[:500]):
        (cache / "targets_py3").write_bytes(content)
        message = refused(cache.parent, "sklearn")
        assert f"covtype in {cache.parent} cannot be fetched or read" in message


def test_a_missing_scikit_learn_and_a_missing_network_are_reported(tmp_path, monkeypatch):
    def no_network(**_):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(sklearn.datasets, "fetch_covtype", no_network)
    assert "no route to host" in refused(tmp_path, "sklearn")
    monkeypatch.setitem(sys.modules, "sklearn", None)
    message = refused(tmp_path, "sklearn")
    assert "pip install -e '.[covtype]'" in message and "may also be 'files'" in message


@given(st.lists(st.integers(0, 4), min_size=2, max_size=60).map(np.array), st.data())
def test_a_stratified_split_keeps_the_proportions(labels, draw):
    size = draw.draw(st.integers(0, len(labels) - 1))
    train, valid = data.split(labels, num_valid=size, seed=3, stratified=True)
    np.testing.assert_array_equal(np.sort(np.concatenate([train, valid])), np.arange(len(labels)))
    total, taken = (np.bincount(part, minlength=5) for part in (labels, labels[valid]))
    # Rounded for each of the 5 classes, and these roundings shared by all.
    allowed = 0.5 + 5 / 2 * total / len(labels)
    assert (np.abs(taken - size * total / len(labels)) <= allowed).all() and len(valid) == size
