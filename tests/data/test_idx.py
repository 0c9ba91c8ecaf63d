"""The idx parser: intact files load as written, others are refused in one line."""

import gzip
import os
import struct
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from refusals import refusal

from adv_jax.data import DataError, idx

_IMAGES = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)


def _read(stored: bytes, shape=(4, 5), name="images.gz"):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(stored)
        return idx.read(path, shape=shape)


def _refusal(stored: bytes, shape=(4, 5)):
    message = refusal(_read, stored, shape, error=DataError)
    assert "images.gz" in message
    return message


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=3, max_side=6)), st.booleans())
def test_idx_arrays_load_as_written(encode_idx, values, zipped):
    stored = encode_idx(values)
    if zipped:
        stored = gzip.compress(stored)
    read, sha256 = _read(stored, values.shape[1:])
    np.testing.assert_array_equal(read, values)
    assert read.dtype == np.uint8
    assert len(sha256) == 64


@pytest.mark.slow
@settings(max_examples=150)
@given(st.data(), st.booleans())
def test_a_damaged_idx_file_is_refused_or_harmless(encode_idx, data, zipped):
    stored = encode_idx(_IMAGES)
    stored = bytearray(gzip.compress(stored) if zipped else stored)
    for _ in range(data.draw(st.integers(0, 3))):
        stored[data.draw(st.integers(0, len(stored) - 1))] = data.draw(st.integers(0, 255))
    stored = bytes(stored[: data.draw(st.integers(0, len(stored)))]) + data.draw(
        st.binary(max_size=3)
    )
    try:
        read, _ = _read(stored)
    except DataError:
        return
    assert read.shape[1:] == (4, 5)
    assert read.dtype == np.uint8


@pytest.mark.slow
@pytest.mark.parametrize("zipped", [False, True])
def test_every_truncated_idx_file_is_refused(encode_idx, zipped):
    stored = encode_idx(_IMAGES)
    stored = gzip.compress(stored) if zipped else stored
    for length in range(len(stored)):
        _refusal(stored[:length])


def test_idx_errors_name_what_is_allowed_and_what_was_found(encode_idx):
    good = encode_idx(_IMAGES)
    message = _refusal(b"\0\0\x09" + good[3:])
    assert "magic number must be 00000803" in message and "got 00000903" in message
    assert "got 00000801" in _refusal(encode_idx(_IMAGES.ravel()))
    assert "header must be 16 bytes, got 9" in _refusal(good[:9])
    assert "shape of an item must be (28, 28), got (4, 5)" in _refusal(good, (28, 28))
    assert "data must be 60 bytes as in the header, got 59" in _refusal(good[:-1])
    assert "data must be 60 bytes as in the header, got more" in _refusal(good + b"\0")
    assert "got more" in _refusal(gzip.compress(good + b"\0"))
    assert "number of items in the header must be 1 to" in _refusal(encode_idx(_IMAGES[:0]))
    assert "gzip" in _refusal(gzip.compress(good)[:-9])
    assert "gzip" in _refusal(gzip.compress(good)[:-8] + bytes(8))


def test_a_header_of_terabytes_is_refused():
    header = struct.pack(">BBBBIII", 0, 0, 8, 3, 2**32 - 1, 28, 28)
    assert "got 4294967295" in _refusal(gzip.compress(header), (28, 28))


def test_a_gzip_bomb_is_read_only_up_to_the_size_in_the_header(encode_idx):
    bomb = gzip.compress(encode_idx(_IMAGES) + bytes(30 << 20))
    tracemalloc.start()
    _refusal(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 << 20


def test_a_folder_a_missing_and_a_huge_file_are_refused(tmp_path):
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(DataError, match=str(path)):
            idx.read(path, shape=())
    huge = tmp_path / "huge"
    huge.touch()
    os.truncate(huge, 2 << 30)
    with pytest.raises(DataError, match="size must be at most .* bytes, got 2147483648"):
        idx.read(huge, shape=())
