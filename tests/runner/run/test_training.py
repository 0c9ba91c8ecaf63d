"""Runs in this process: replicas, early stopping, evaluation, TensorBoard; on 400 real digits."""

import itertools
import json
import os
import shutil
import signal
import threading
import time
from functools import partial

import numpy as np
import pytest
from ml_collections import ConfigDict
from short_run import few_digits, serve

from adv_jax.runner.config.document import with_values
from adv_jax.runner.host.compiler_options import compiled
from adv_jax.runner.host.signals import Interrupted
from adv_jax.runner.run import program, trained, training
from adv_jax.runner.run.epochs import Diverged
from adv_jax.runner.store.checkpoint import Checkpoints
from adv_jax.runner.store.workdir import WorkdirError
from adv_jax.types import UserError

# Each replica runs the same operations on its own; only their fusion may differ.
same = {"rtol": 1e-5, "atol": 1e-6}


@pytest.fixture(scope="module")
def digits():
    return few_digits(400, 200)


@pytest.fixture(autouse=True)
def load_digits(monkeypatch, digits):
    serve(monkeypatch, digits)


def document(**changes):
    """A small legal config; keys of `changes` are paths with __ for the dot."""
    attack = {"name": "fgsm", "norm": "linf", "eps": 0.1}
    config = {
        "experiment": "small",
        "seed": 3,
        "replicas": {"seeds": 1, "grid": None, "shards": 1},
        "data": {"name": "mnist", "source": "embedded", "dir": "", "num_valid": 100},
        "model": {"name": "mlp", "features": (8,), "num_classes": 10},
        "objective": {"name": "adversarial_mix", "alpha": 0.5, "attack": attack},
        "optimizer": {"name": "sgd", "learning_rate": 0.1},
        "epochs": 4,
        "batch_size": 50,
        "patience": 0,
        "monitor_every": 1,
        "checkpoint_every": 10,
        "checkpoints_kept": 2,
        "trackers": (),
        "evaluation": {
            "attacks": {"fgsm": {"name": "fgsm"}, "noise": {"name": "sign_noise"}},
            "eps": (0.0, 0.2),
        },
    }
    config["data"]["num_labels"] = 0
    return with_values(config, {path.replace("__", "."): v for path, v in changes.items()})


def metrics_of(workdir, replica):
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["replica"] == replica]


def assert_same_replica(workdir, i, alone, replica, evaluation):
    """Asserts that replica i of a run equals the only replica of another run."""
    (own,) = alone["replicas"]
    numbers = ("test_error", "confidence", "epochs", "best_epoch")
    assert replica["seed"] == own["seed"]
    np.testing.assert_allclose(*([r[name] for name in numbers] for r in (replica, own)), **same)
    for attack, curve in alone["evaluation"].items():
        for measure, values in curve.items():
            if measure != "eps":
                np.testing.assert_allclose(evaluation[attack][measure][i], values[0], **same)
    ours, theirs = metrics_of(workdir / "together", i), metrics_of(workdir / f"alone{i}", 0)
    assert [line["epoch"] for line in ours] == [line["epoch"] for line in theirs]
    for our, their in zip(ours, theirs, strict=True):
        assert our.keys() == their.keys()
        names = [name for name in our if name not in ("replica",)]
        np.testing.assert_allclose(*([line[n] for n in names] for line in (our, their)), **same)


@pytest.mark.slow
def test_each_replica_of_seeds_and_a_grid_equals_a_single_run(tmp_path, capsys):
    grid = {"objective.attack.eps": (0.0, 0.2)}
    together = training.run(
        document(replicas__seeds=2, replicas__grid=grid, epochs=2), tmp_path / "together"
    )
    settings = [(seed, eps) for eps in (0.0, 0.2) for seed in (3, 4)]
    for i in (1, 2):  # another seed than the first, and another eps
        seed, eps = settings[i]
        config = document(seed=seed, objective__attack__eps=eps, epochs=2)
        alone = training.run(config, tmp_path / f"alone{i}")
        replica = together["replicas"][i]
        assert replica["overrides"] == {"objective.attack.eps": eps}
        assert_same_replica(tmp_path, i, alone, replica, together["evaluation"])
    # They differ from each other, or the test would say nothing.
    assert (
        len({json.dumps(metrics_of(tmp_path / "together", i)[-1]["loss"]) for i in range(4)}) == 4
    )


@pytest.mark.slow
def test_each_replica_stops_early_by_itself(tmp_path, capsys):
    """At rate 0 the first epoch is the best, and patience 2 ends the run after the third."""
    changes = {"patience": 2, "epochs": 6}
    grid = {"optimizer.learning_rate": (0.0, 0.1)}
    together = training.run(document(replicas__grid=grid, **changes), tmp_path / "together")
    still, learning = together["replicas"]
    assert (still["epochs"], still["best_epoch"]) == (3, 1)
    assert learning["epochs"] > 3 and learning["best_epoch"] > 1
    loaded = trained.load_all(tmp_path / "together")
    assert [one.about["epochs"] for one in loaded] == [3, learning["epochs"]]
    assert [line["epoch"] for line in metrics_of(tmp_path / "together", 0)] == [1, 2, 3]
    alone = training.run(document(optimizer__learning_rate=0.0, **changes), tmp_path / "alone0")
    assert_same_replica(tmp_path, 0, alone, still, together["evaluation"])


@pytest.mark.slow
def test_a_run_ends_with_a_checkpoint_when_all_replicas_have_stopped(tmp_path, capsys):
    config = document(patience=2, optimizer__learning_rate=0.0)
    result = training.run(config, tmp_path / "run")
    assert result["replicas"][0]["epochs"] == 3
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["3"]
    # Killed before the result was written: nothing is left to train, all is left to evaluate.
    (tmp_path / "run" / "result.json").unlink()
    again = training.run(config, tmp_path / "run")
    assert again["replicas"] == result["replicas"] and again["evaluation"] == result["evaluation"]
    assert "resumed after epoch 3" in capsys.readouterr().out


@pytest.mark.slow
def test_a_checkpoint_starts_after_its_epochs_are_on_the_disk(tmp_path, monkeypatch, capsys):
    """After a power cut metrics.jsonl has only the synchronized lines."""
    metrics, on_disk, found = tmp_path / "run" / "metrics.jsonl", {}, []
    fsync, save = os.fsync, Checkpoints.save

    def synced(descriptor):
        fsync(descriptor)
        on_disk[os.fstat(descriptor).st_ino] = os.fstat(descriptor).st_size

    def saved(self, epoch, *rest):
        size = on_disk.get(metrics.stat().st_ino, 0)
        lines = metrics.read_bytes()[:size].splitlines()
        found.append((epoch, [json.loads(line)["epoch"] for line in lines]))
        save(self, epoch, *rest)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Checkpoints, "save", saved)
    training.run(document(epochs=3, checkpoint_every=2), tmp_path / "run")
    assert found == [(2, [1, 2]), (3, [1, 2, 3])]


@pytest.mark.slow
def test_a_run_whose_metrics_are_shorter_than_its_checkpoint_is_refused(tmp_path, capsys):
    """A resumed run counts its epochs in metrics.jsonl."""
    config, workdir = document(epochs=6, checkpoint_every=5), tmp_path / "run"
    training.run(config, workdir)
    for name in ("result.json", "metrics.jsonl"):
        (workdir / name).unlink()
    shutil.rmtree(workdir / "checkpoints" / "6")
    with pytest.raises(WorkdirError, match=r"metrics.jsonl must have .* 1 to 5, got 0 lines, "):
        training.run(config, workdir)
    shutil.rmtree(workdir / "checkpoints")
    assert [r["epochs"] for r in training.run(config, workdir)["replicas"]] == [6]


@pytest.mark.slow
def test_the_evaluation_has_a_row_a_replica_and_eps_0_is_clean(tmp_path, capsys):
    result = training.run(document(replicas__seeds=2, epochs=1), tmp_path / "run")
    assert set(result["evaluation"]) == {"fgsm", "noise", "worst_case"}
    clean = [replica["test_error"] for replica in result["replicas"]]
    for name, curve in result["evaluation"].items():
        assert curve["eps"] == [0.0, 0.2]
        assert np.shape(curve["error"]) == (2, 2)
        assert [row[0] for row in curve["error"]] == clean, name
    fgsm = result["evaluation"]["fgsm"]
    confidence = [replica["confidence"] for replica in result["replicas"]]
    np.testing.assert_allclose([row[0] for row in fgsm["confidence"]], confidence, rtol=1e-6)
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == result


@pytest.mark.slow
def test_a_run_without_attacks_and_validation_has_a_result(tmp_path, capsys):
    config = document(evaluation__attacks={}, data__num_valid=0, epochs=1)
    result = training.run(config, tmp_path / "run")
    assert result["evaluation"] == {} and result["replicas"][0]["best_epoch"] is None
    assert [p.name for p in (tmp_path / "run" / "figures").iterdir()] == ["learning.png"]


@pytest.mark.slow
def test_errors_are_measured_at_the_interval_and_at_the_end(tmp_path, capsys):
    training.run(document(monitor_every=3), tmp_path / "run")
    measured = ["test_error" in line for line in metrics_of(tmp_path / "run", 0)]
    assert measured == [False, False, True, True]


@pytest.mark.slow
def test_labeled_rows_are_balanced_and_recorded(tmp_path, capsys, digits):
    result = training.run(document(data__num_labels=50, epochs=1), tmp_path / "run")
    assert result["data"]["sizes"] == {"train": 300, "valid": 100, "labeled": 50, "test": 200}
    with np.load(tmp_path / "run" / "rows.npz") as rows:
        labeled, train_rows = rows["labeled"][0], rows["train"][0]
    assert set(labeled) <= set(train_rows)
    assert np.bincount(digits.train.y[labeled]).tolist() == [5] * 10


@pytest.mark.slow
def test_a_diverging_replica_is_named_with_the_settings(tmp_path, capsys):
    grid = {"optimizer.learning_rate": (0.1, 1e30)}
    config = document(replicas__seeds=2, replicas__grid=grid)
    with pytest.raises(Diverged) as caught:
        training.run(config, tmp_path / "run")
    # The loss of step 1 is that of the initial weights, and step 2 multiplies what 1e30 made.
    assert str(caught.value) == (
        "loss is nan at step 2 (epoch 1) of replica 2 (seed 3, optimizer.learning_rate=1e+30); "
        "last good checkpoint: none"
    )
    assert not (tmp_path / "run" / "metrics.jsonl").read_text()


@pytest.mark.slow
def test_tensorboard_events_are_written_for_each_replica(tmp_path, capsys):
    training.run(document(trackers=("tensorboard",), replicas__seeds=2, epochs=1), tmp_path / "run")
    for replica in ("0", "1"):
        (events,) = (tmp_path / "run" / "tensorboard" / replica).iterdir()
        assert b"test_error" in events.read_bytes()


@pytest.mark.slow
def test_a_run_in_another_thread_works_without_signals(tmp_path, capsys):
    results = []
    config = document(epochs=1)
    thread = threading.Thread(target=lambda: results.append(training.run(config, tmp_path / "run")))
    thread.start()
    thread.join()
    assert results[0]["replicas"][0]["epochs"] == 1


@pytest.mark.slow
def test_a_run_restores_the_signal_handlers(tmp_path, capsys):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    training.run(document(epochs=1), tmp_path / "run")
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


@pytest.mark.slow
def test_a_signal_while_the_last_epoch_is_saved_stops_the_run(tmp_path, capsys, monkeypatch):
    config, finish = document(epochs=2), Checkpoints.finish

    def interrupted(checkpoints):
        os.kill(os.getpid(), signal.SIGTERM)
        finish(checkpoints)

    monkeypatch.setattr(Checkpoints, "finish", interrupted)
    with pytest.raises(Interrupted, match="^stopped after epoch 2 of 2, saved in") as stopped:
        training.run(config, tmp_path / "run")
    assert stopped.value.signum == signal.SIGTERM
    assert not (tmp_path / "run" / "result.json").exists()
    monkeypatch.setattr(Checkpoints, "finish", finish)
    assert training.run(config, tmp_path / "run")["replicas"][0]["epochs"] == 2
    assert "resumed after epoch 2" in capsys.readouterr().out


@pytest.mark.slow
def test_out_of_memory_is_reported_in_one_line(tmp_path, capsys):
    with pytest.raises(UserError, match=r"^out of memory \(.*\); reduce batch_size") as caught:
        training.run(document(model__features=(10**9,)), tmp_path / "run")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_run_resumes_only_on_the_same_data(tmp_path, digits, monkeypatch):
    run = partial(training.run, document(epochs=1), tmp_path / "run")
    run()
    (tmp_path / "run" / "result.json").unlink()
    other = digits._replace(sha256={"mnist": "another"})
    serve(monkeypatch, other)
    with pytest.raises(WorkdirError, match="a run on other data: sha256 of "):
        run()


@pytest.mark.slow
def test_a_run_accepts_a_config_dict(tmp_path):
    result = training.run(ConfigDict(document(epochs=1)), tmp_path / "run")
    assert result["replicas"][0]["epochs"] == 1


@pytest.mark.slow
def test_the_time_of_an_epoch_has_no_compilation(tmp_path, monkeypatch):
    count = itertools.count()

    def slow(lowered, options):
        time.sleep(3 if next(count) else 0)  # init comes first
        return compiled(lowered, options)

    monkeypatch.setattr(program, "compiled", slow)
    training.run(document(epochs=2), tmp_path / "run")
    notes = json.loads((tmp_path / "run/checkpoints/2/notes/metadata").read_text())
    assert 2 * notes["epoch_seconds"] < notes["seconds"] - 2
