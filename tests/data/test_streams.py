"""Training sets that arrive in batches: chunks, and what is refused."""

import numpy as np
import pytest

from adv_jax import data
from adv_jax.data import streams

ROWS = 4
PIXELS = np.arange(7 * ROWS * 6, dtype=np.uint8).reshape(7, ROWS, 2, 3)
LABELS = np.arange(7 * ROWS).reshape(7, ROWS) % 5
TEST = PIXELS[0], LABELS[0]


def loaded(batches=None, num_batches=7, **changes):
    batches = [*zip(PIXELS, LABELS, strict=True)] if batches is None else batches
    settings = {"num_batches": num_batches, "test": TEST, "num_classes": 5} | changes
    return data.from_batches("tiny", train=lambda epoch: batches, **settings)


def test_an_epoch_is_cut_into_chunks_of_whole_batches_in_natural_units(monkeypatch):
    monkeypatch.setattr(streams, "CHUNK_BYTES", 3 * ROWS * 6 * 4)
    dataset = loaded()
    parts = [*streams.chunks(dataset, 0)]
    assert [len(part.y) for part in parts] == [3 * ROWS, 3 * ROWS, ROWS]
    x = np.concatenate([part.x for part in parts])
    np.testing.assert_allclose(x[..., 0], PIXELS.reshape(-1, 2, 3) / 255, rtol=1e-6)
    np.testing.assert_array_equal(np.concatenate([part.y for part in parts]), LABELS.ravel())
    np.testing.assert_array_equal(dataset.train.x, parts[0].x)
    assert x.dtype == np.float32 and x.shape[1:] == dataset.test.x.shape[1:]


def test_batches_larger_than_a_chunk_come_one_by_one(monkeypatch):
    monkeypatch.setattr(streams, "CHUNK_BYTES", 1)
    assert [len(part.y) for part in streams.chunks(loaded(), 0)] == [ROWS] * 7


def test_the_epoch_is_passed_on_and_batches_beyond_num_batches_are_left():
    asked = []

    def train(epoch):
        asked.append(epoch)
        for index in range(100):
            yield PIXELS[index], LABELS[index]

    dataset = data.from_batches("tiny", train=train, num_batches=2, test=TEST, num_classes=5)
    [part] = streams.chunks(dataset, 3)
    assert len(part.y) == 2 * ROWS and asked[-1] == 3


def changed(index, x=None, y=None):
    """The batches of one epoch, of which one differs."""
    batches = [*zip(PIXELS, LABELS, strict=True)]
    batches[index] = (PIXELS[index] if x is None else x, LABELS[index] if y is None else y)
    return batches


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        (
            changed(4)[:4],
            "tiny: batch 4 of epoch 1 must be one of 7, as num_batches says, got the end of the "
            "batches",
        ),
        (
            changed(4, PIXELS[4, :, :1]),
            "tiny: batch 4 of epoch 1: x must have shape (4, 2, 3, 1), got (4, 1, 3, 1)",
        ),
        (
            changed(4, PIXELS[4, :3], LABELS[4, :3]),
            "tiny: batch 4 of epoch 1: x must have shape (4, 2, 3, 1), got (3, 2, 3, 1)",
        ),
        (
            changed(4, PIXELS[4] / 2),
            "tiny: batch 4 of epoch 1: x must have shape (4, 2, 3, 1), got (4, 2, 3)",
        ),
        (
            changed(4, y=LABELS[4] + 3),
            "tiny: batch 4 of epoch 1: the label of row 1 of y must be 0 to 4, got 5",
        ),
        (
            changed(4, y=LABELS[4, :2]),
            "tiny: batch 4 of epoch 1: y must have 4 labels, one for each row of x, got 2",
        ),
        (
            [*changed(4)[:4], PIXELS[4]],
            "tiny: batch 4 of epoch 1 must be (x, y), got a ndarray",
        ),
    ],
)
def test_a_stream_that_changes_between_epochs_is_refused(batches, message):
    stream = loaded().stream._replace(batches=lambda epoch: batches)
    with pytest.raises(data.DataError) as raised:
        [*streams.chunks(loaded()._replace(stream=stream), 1)]
    assert str(raised.value) == message


def failing(epoch):
    yield PIXELS[0], LABELS[0]
    raise OSError("disk is gone\nreally")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train": failing}, "tiny: train(0) must yield batches, got OSError: disk is gone"),
        ({"num_batches": 0}, "tiny: num_batches must be a whole number from 1, got 0"),
        ({"train": lambda epoch: 3}, "tiny: train(0) must yield batches, got TypeError: 'int'"),
        (
            {"train": lambda epoch: [(PIXELS[0], LABELS[0]), (PIXELS[1, :, :1], LABELS[1])]},
            "tiny: batches must be of one shape (all the input array dimensions",
        ),
    ],
)
def test_batches_that_cannot_be_read_are_refused_in_one_line(settings, message):
    train = lambda epoch: zip(PIXELS, LABELS, strict=True)
    given = {"train": train, "num_batches": 2, "test": TEST, "num_classes": 5}
    with pytest.raises(data.DataError) as raised:
        data.from_batches("tiny", **given | settings)
    assert str(raised.value).startswith(message) and "\n" not in str(raised.value)
