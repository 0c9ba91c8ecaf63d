"""Training sets that arrive in batches: chunks, and what is refused."""

from pathlib import Path

import jax
import numpy as np
import pytest

from adv_jax import data
from adv_jax.data import streams

ROWS = 4
PIXELS = np.arange(7 * ROWS * 6, dtype=np.uint8).reshape(7, ROWS, 2, 3)
LABELS = np.arange(7 * ROWS).reshape(7, ROWS) % 5
TEST = PIXELS[0], LABELS[0]
SPLITS = "train", "test"
PREPARED = Path(__file__).parent / "prepared"


def loaded(batches=None, num_batches=7, **changes):
    batches = [*zip(PIXELS, LABELS, strict=True)] if batches is None else batches
    settings = {"num_batches": num_batches, "test": TEST, "num_classes": 5} | changes
    return data.from_batches("tiny", train=lambda epoch: batches, **settings)


def chunks(dataset, epoch):
    memory = streams.buffers(dataset, 2)
    return [data.Arrays(x.copy(), y.copy()) for x, y in streams.chunks(dataset, epoch, memory)]


def test_an_epoch_is_cut_into_chunks_of_whole_batches(monkeypatch):
    monkeypatch.setattr(streams, "CHUNK_BYTES", 3 * ROWS * 6 * 4)
    dataset = loaded()
    parts = chunks(dataset, 0)
    assert [len(part.y) for part in parts] == [3 * ROWS, 3 * ROWS, ROWS]
    x = np.concatenate([part.x for part in parts])
    np.testing.assert_array_equal(x[..., 0], PIXELS.reshape(-1, 2, 3))
    np.testing.assert_array_equal(np.concatenate([part.y for part in parts]), LABELS.ravel())
    assert x.dtype == np.uint8 and x.shape[1:] == dataset.test.x.shape[1:]


def test_bytes_become_the_floats_that_numpy_rounds_them_to_on_the_device():
    pixels = np.arange(256, dtype=np.uint8)
    found = jax.jit(streams.in_natural_units)(pixels)
    np.testing.assert_array_equal(found, np.divide(pixels, np.float32(255)))


def test_chunks_have_one_size_if_one_of_more_than_half_the_limit_divides_the_epoch(monkeypatch):
    monkeypatch.setattr(streams, "CHUNK_BYTES", 5 * ROWS * 6 * 4)
    six = loaded([*zip(PIXELS[:6], LABELS[:6], strict=True)], num_batches=6)
    assert [len(part.y) for part in chunks(six, 0)] == [3 * ROWS] * 2


def test_floats_of_any_width_arrive_as_float32_in_memory_that_a_cpu_need_not_copy():
    pixels = PIXELS[..., None] / 255
    dataset = loaded([*zip(pixels, LABELS, strict=True)], test=(pixels[0], LABELS[0]))
    [part] = chunks(dataset, 0)
    np.testing.assert_array_equal(part.x, pixels.reshape(part.x.shape).astype(np.float32))
    [memory] = streams.buffers(dataset, 1)
    assert jax.device_put(memory.x).unsafe_buffer_pointer() == memory.x.ctypes.data


def test_batches_larger_than_a_chunk_come_one_by_one(monkeypatch):
    monkeypatch.setattr(streams, "CHUNK_BYTES", 1)
    assert [len(part.y) for part in chunks(loaded(), 0)] == [ROWS] * 7


def test_the_epoch_is_passed_on_and_batches_beyond_num_batches_are_left():
    asked = []

    def train(epoch):
        asked.append(epoch)
        for index in range(100):
            yield PIXELS[index], LABELS[index]

    dataset = data.from_batches("tiny", train=train, num_batches=2, test=TEST, num_classes=5)
    [part] = chunks(dataset, 3)
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
            "tiny: batch 4 of epoch 1 must be one of 7, as num_batches says, of a fresh iterable "
            "for each call, got the end of the batches",
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
            "tiny: batch 4 of epoch 1: x must be bytes uint8, as at first, got float64",
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
            "tiny: batch 4 of epoch 1 must be (x, y), got uint8[4, 2, 3]",
        ),
    ],
)
def test_a_stream_that_changes_between_epochs_is_refused(batches, message):
    stream = loaded().stream._replace(batches=lambda epoch: batches)
    with pytest.raises(data.DataError) as raised:
        chunks(loaded()._replace(stream=stream), 1)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("scale", "shift", "found"), [(300, 0, "0.0 to 300.0"), (1, -7, "-7.0 to -6.0")]
)
def test_floats_out_of_the_declared_bounds_are_refused_in_any_batch(scale, shift, found):
    pixels = np.broadcast_to(np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3), (ROWS, 2, 3))
    within = [(pixels, LABELS[0])] * 3
    settings = {"num_batches": 3, "test": within[0], "bounds": (0, 1)}
    dataset = loaded(within, **settings)
    assert len(chunks(dataset, 1)[0].y) == 3 * ROWS
    later = [*within[:2], (pixels * scale + shift, LABELS[0])]
    stream = dataset.stream._replace(batches=lambda epoch: later)
    with pytest.raises(data.DataError) as raised:
        chunks(dataset._replace(stream=stream), 1)
    allowed = "tiny: batch 2 of epoch 1: x must be within its bounds, (0.0, 1.0)"
    assert str(raised.value) == f"{allowed}, got values from {found}"


def test_an_iterator_that_the_sample_used_up_is_refused_with_what_train_must_return():
    once = zip(PIXELS, LABELS, strict=True)
    dataset = data.from_batches(
        "tiny", train=lambda epoch: once, num_batches=7, test=TEST, num_classes=5
    )
    message = "batch 0 of epoch 0 must be one of 7, .*, of a fresh iterable for each call, got the"
    with pytest.raises(data.DataError, match=message):
        chunks(dataset, 0)


def test_a_slice_of_an_endless_grain_loader_is_its_epoch():
    grain = pytest.importorskip("grain")
    examples = [*zip(PIXELS.reshape(-1, 2, 3), LABELS.ravel(), strict=True)]
    endless = grain.MapDataset.source(examples).seed(0).shuffle().repeat().batch(ROWS)
    train = lambda epoch: endless.slice(slice(7 * epoch, 7 * (epoch + 1))).to_iter_dataset()
    dataset = data.from_batches("tiny", train=train, num_batches=7, test=TEST, num_classes=5)
    whole = iter(endless.to_iter_dataset())
    in_turn = np.concatenate([next(whole)[0] for _ in range(3 * 7)])
    found = np.concatenate([part.x for epoch in range(3) for part in chunks(dataset, epoch)])
    np.testing.assert_array_equal(found[..., 0], in_turn)
    assert not np.array_equal(*np.split(in_turn, 3)[:2])


def test_a_set_of_tfds_is_streamed_by_grain():
    grain = pytest.importorskip("grain")
    import tensorflow_datasets as tfds

    rows = {part: tfds.data_source("mnist", split=part, data_dir=PREPARED) for part in SPLITS}
    train = lambda epoch: (
        grain.MapDataset.source(rows["train"])
        .shuffle(seed=epoch)
        .map(lambda row: (row["image"], row["label"]))
        .batch(5, drop_remainder=True)
        .to_iter_dataset()
    )
    test = [np.stack([row[key] for row in rows["test"]]) for key in ("image", "label")]
    dataset = data.from_batches("digits", train=train, num_batches=6, test=test, num_classes=10)
    whole = data.load("mnist", source="tfds", dir=str(PREPARED))
    order = lambda x: sorted(image.tobytes() for image in x)
    epochs = [np.concatenate([part.x for part in chunks(dataset, n)]) for n in range(2)]
    for found in epochs:
        assert order(found / np.float32(255)) == order(whole.train.x)
    assert not np.array_equal(*epochs)


def failing(epoch):
    yield PIXELS[0], LABELS[0]
    raise OSError("disk is gone\nreally")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train": failing}, "tiny: train(0) must yield batches, got OSError: disk is gone"),
        ({"num_batches": 0}, "tiny: num_batches must be a whole number of at least 1, got 0"),
        ({"num_batches": True}, "tiny: num_batches must be a whole number of at least 1, got True"),
        ({"num_classes": None}, "tiny: num_classes must be a whole number from 1 to 2147483648"),
        ({"train": lambda epoch: 3}, "tiny: train(0) must yield batches, got TypeError: 'int'"),
        (
            {"train": lambda epoch: [(PIXELS[0], LABELS[0]), (PIXELS[1, :, :1], LABELS[1])]},
            "tiny: batch 1 of epoch 0: x must have shape (4, 2, 3, 1), got (4, 1, 3, 1)",
        ),
        (
            {"train": lambda epoch: [(PIXELS[0], LABELS[0]), (PIXELS[1, :2], LABELS[1, :2])]},
            "tiny: batch 1 of epoch 0: x must have shape (4, 2, 3, 1), got (2, 2, 3, 1)",
        ),
        (
            {"train": lambda epoch: [(PIXELS[0], LABELS[0]), (PIXELS[1] / 255, LABELS[1])]},
            "tiny: batch 1 of epoch 0: x must be bytes uint8, as at first, got float64",
        ),
        (  # As many labels as rows, but only in all.
            {"train": lambda epoch: [(PIXELS[0], LABELS[0, :3]), (PIXELS[1], [0] * 5)]},
            "tiny: batch 0 of epoch 0: y_train must have 4 labels, one for each row of x_train",
        ),
        (
            {"train": lambda epoch: [(PIXELS[0], LABELS[0] + 3)]},
            "tiny: batch 0 of epoch 0: the label of row 2 of y_train must be 0 to 4, got 5",
        ),
        (
            {"train": lambda epoch: [(PIXELS[0], LABELS[0]), (PIXELS[1], LABELS[1, :3])]},
            "tiny: batch 1 of epoch 0: y must have 4 labels, one for each row of x, got 3",
        ),
        (
            {"train": lambda epoch: [(np.ma.array(PIXELS[0]), LABELS[0])]},
            "tiny: batch 0 of epoch 0: x must be an array of numbers on the host, neither",
        ),
    ],
)
def test_batches_that_cannot_be_read_are_refused_in_one_line(settings, message):
    train = lambda epoch: zip(PIXELS, LABELS, strict=True)
    given = {"train": train, "num_batches": 2, "test": TEST, "num_classes": 5}
    with pytest.raises(data.DataError) as raised:
        data.from_batches("tiny", **given | settings)
    assert str(raised.value).startswith(message) and "\n" not in str(raised.value)


def test_batches_of_the_sample_may_lack_the_axis_of_one_channel_or_one_label():
    batches = [(PIXELS[0], LABELS[0]), (PIXELS[1][..., None], LABELS[1][:, None])]
    dataset = loaded(batches, num_batches=np.int64(2), num_classes=np.int32(5))
    np.testing.assert_array_equal(dataset.train.x, loaded(num_batches=2).train.x)
    np.testing.assert_array_equal(dataset.train.y, LABELS[:2].ravel())
    assert dataset.sha256 == loaded(num_batches=2).sha256
