"""Training from batches that need not fit into memory."""

import json
import resource

import jax
import numpy as np
import pytest
import short_run
import streamed

from adv_jax import data
from adv_jax.data import streams
from adv_jax.runner.config.document import with_values
from adv_jax.runner.run import training
from adv_jax.runner.run.program import Program
from adv_jax.runner.run.trained import load
from adv_jax.types import UserError

BYTES = 4 * 28 * 28 * streamed.BATCH  # of a batch


@pytest.fixture(autouse=True)
def calls(monkeypatch):
    monkeypatch.setattr(streamed, "fails_at", -1)
    monkeypatch.setattr(streams, "CHUNK_BYTES", 3 * BYTES)  # of 7 batches: 3, 3 and 1


def config(load="streamed:load", **changes):
    """A config of two epochs; keys of `changes` are paths with __ for the dot."""
    document = short_run.document(seed=streamed.SEED)
    source = {"name": load, "source": "import", "dir": "", "num_valid": 0, "num_labels": 0}
    document |= {"data": source, "batch_size": streamed.BATCH}
    return with_values(document, {path.replace("__", "."): v for path, v in changes.items()})


def weights(workdir):
    leaves = jax.tree.leaves(load(workdir).variables["params"])
    return np.concatenate([np.ravel(leaf) for leaf in leaves])


def losses(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


@pytest.mark.slow
def test_a_stream_gives_the_numbers_of_the_same_batches_in_memory(tmp_path):
    found = training.run(config(), tmp_path / "stream")
    expected = training.run(config("streamed:in_memory"), tmp_path / "memory")
    np.testing.assert_allclose(
        weights(tmp_path / "stream"), weights(tmp_path / "memory"), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(losses(tmp_path / "stream"), losses(tmp_path / "memory"), rtol=1e-5)
    assert found["evaluation"]["fgsm"]["error"] == expected["evaluation"]["fgsm"]["error"]
    assert found["data"]["sizes"]["train"] == streamed.ROWS


@pytest.mark.slow
def test_a_run_whose_stream_failed_resumes_bit_for_bit(tmp_path, monkeypatch):
    training.run(config(epochs=3), tmp_path / "whole")
    # One call loads the sample, then one reads each epoch.
    monkeypatch.setattr(streamed, "fails_at", next(streamed.calls) + 4)
    with pytest.raises(UserError, match=r"train\(2\) must yield batches, got OSError: the disk is"):
        training.run(config(epochs=3), tmp_path / "failed")
    assert len(losses(tmp_path / "failed")) == 2
    training.run(config(epochs=3), tmp_path / "failed")
    np.testing.assert_array_equal(weights(tmp_path / "failed"), weights(tmp_path / "whole"))
    assert losses(tmp_path / "failed") == losses(tmp_path / "whole")


@pytest.mark.slow
def test_shards_and_replicas_share_the_batches(tmp_path):
    training.run(config(), tmp_path / "one")
    training.run(config(replicas__shards=2), tmp_path / "shards")
    training.run(config(replicas__seeds=2), tmp_path / "seeds")
    for name in ("shards", "seeds"):
        np.testing.assert_allclose(
            weights(tmp_path / name), weights(tmp_path / "one"), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__num_valid": 10}, "data.num_valid must be 0 for the batches of digits, got 10"),
        ({"data__num_labels": 50}, "data.num_labels must be 0 for the batches of digits, got 50"),
        ({"data__half": 1}, "data.half must be 0 for the batches of digits, got 1"),
        (
            {"data__preprocess": ({"name": "zca"},)},
            "data.preprocess must be () for the batches of digits, got ({'name': 'zca'},)",
        ),
        ({"batch_size": 20}, "batch_size must be 40 for the batches of digits, got 20"),
    ],
)
def test_settings_that_need_all_rows_are_refused(tmp_path, changes, message):
    with pytest.raises(UserError) as raised:
        training.run(config(**changes), tmp_path / "run")
    assert str(raised.value) == message and not (tmp_path / "run").exists()


def endless():
    rows = np.random.default_rng(0)

    def train(epoch):
        for _ in range(200):
            yield rows.random((100, 64, 64, 1), np.float32), rows.integers(0, 10, 100)

    test = rows.random((50, 64, 64, 1), np.float32), rows.integers(0, 10, 50)
    return data.from_batches(
        "noise", train=train, num_batches=200, test=test, num_classes=10, bounds=(0, 1)
    )


@pytest.mark.slow
def test_memory_stays_flat_over_epochs_of_a_set_much_larger_than_a_chunk(tmp_path, monkeypatch):
    batch = 4 * 64 * 64 * 100
    monkeypatch.setattr(streams, "CHUNK_BYTES", 10 * batch)  # 20 chunks of 16 MB each
    monkeypatch.setattr(streamed, "load", endless)
    peaks = []

    def recorded(*args, **kwargs):
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
        return original(*args, **kwargs)

    original = Program.epoch
    monkeypatch.setattr(Program, "epoch", recorded)
    changes = {"epochs": 6, "batch_size": 100, "checkpoint_every": 6, "replicas__seeds": 1}
    training.run(config(**changes), tmp_path / "run")
    # Half of an epoch's 328 MB, as freed memory is not used again in full.
    assert len(peaks) == 6 and peaks[-1] - peaks[2] < 100 * batch
