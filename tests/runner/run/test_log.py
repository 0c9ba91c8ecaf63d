"""The log: lines in a file, a bar on a terminal and JSON lines."""

import contextlib
import os
import pty
import re
import sys
from types import SimpleNamespace

import numpy as np

from adv_jax.runner.config.replicas import Replica
from adv_jax.runner.run.log import Log, print_table
from adv_jax.runner.store.workdir import Workdir

REPLICAS = [Replica(4, {}), Replica(5, {})]
EPOCHS = [
    {"accuracy": np.array([0.25, 0.75]), "loss": np.float32([2.0, 1.0])},
    {"accuracy": np.array([0.5, 0.875]), "loss": np.float32([1.0, 0.5])},
]


def log_two_epochs(folder, *, running=(True, True), done=0):
    config = {"experiment": "test", "replicas": {"grid": None}}
    with (
        Workdir(folder, config) as files,
        Log(files, REPLICAS, epochs=3, done=done) as log,
    ):
        log.say("a line about [brackets] and " + "a long path " * 20)
        for epoch, metrics in enumerate(EPOCHS, start=done + 1):
            log.epoch(epoch, metrics, running=np.array(running), steps=10)
        return files.metrics()


def test_a_log_file_has_a_line_per_epoch_with_means_over_replicas(tmp_path, capsys):
    log_two_epochs(tmp_path)
    said, *lines = capsys.readouterr().out.splitlines()
    assert (
        said == "a line about [brackets] and " + "a long path " * 20
    )  # neither markup nor wrapped
    assert [re.sub(r"\d+ steps/s", "N steps/s", line) for line in lines] == [
        "epoch 1/3  accuracy 0.5  loss 1.5  N steps/s",
        "epoch 2/3  accuracy 0.6875  loss 0.75  N steps/s",
    ]


def test_speeds_below_one_step_per_second_are_logged_in_seconds_per_step(
    monkeypatch, tmp_path, capsys
):
    seconds = iter([0.0, 25.0, 26.0])
    monkeypatch.setattr(
        "adv_jax.runner.run.log.time", SimpleNamespace(monotonic=lambda: next(seconds))
    )
    log_two_epochs(tmp_path)
    speeds = [line.split("  ")[-1] for line in capsys.readouterr().out.splitlines()[1:]]
    assert speeds == ["2.5 s/step", "10 steps/s"]


def test_metrics_have_a_json_line_for_each_epoch_and_replica(tmp_path, capsys):
    assert log_two_epochs(tmp_path) == [
        {"epoch": 1, "replica": 0, "seed": 4, "accuracy": 0.25, "loss": 2.0},
        {"epoch": 1, "replica": 1, "seed": 5, "accuracy": 0.75, "loss": 1.0},
        {"epoch": 2, "replica": 0, "seed": 4, "accuracy": 0.5, "loss": 1.0},
        {"epoch": 2, "replica": 1, "seed": 5, "accuracy": 0.875, "loss": 0.5},
    ]


def test_a_stopped_replica_is_not_logged_and_not_averaged(tmp_path, capsys):
    lines = log_two_epochs(tmp_path, running=(False, True))
    assert [line["replica"] for line in lines] == [1, 1]
    shown = capsys.readouterr().out
    assert "accuracy 0.75  loss 1  " in shown and "accuracy 0.875  loss 0.5  " in shown


@contextlib.contextmanager
def terminal(monkeypatch, columns: int):
    """Makes standard output a terminal; yields a function that ends it and returns its content."""
    here, there = pty.openpty()
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    with monkeypatch.context() as patch, os.fdopen(there, "w") as stream:
        patch.setattr(sys, "stdout", stream)

        def shown() -> str:
            stream.close()
            text = b""
            with contextlib.suppress(OSError):
                while chunk := os.read(here, 1 << 16):
                    text += chunk
            return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.decode())

        yield shown
    os.close(here)


def test_a_terminal_shows_a_bar_with_epoch_loss_rate_and_time_left(tmp_path, monkeypatch, capsys):
    with terminal(monkeypatch, 80) as shown:
        log_two_epochs(tmp_path)
        text = shown()
    assert "epoch 0/3 " in text and "compiling" in text
    bar = re.findall(r"epoch 2/3 [━╸╺]+ loss 0.75  accuracy 0.6875  \d+ steps/s [-\d:]{7}", text)
    assert bar and all(len(line) <= 80 for line in bar)
    assert "epoch 2/3  " not in text  # no plain line besides
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 4


def test_a_table_breaks_no_cell_in_a_file_and_fits_a_terminal(monkeypatch, capsys):
    cell = "objective.attack.eps=0.1, optimizer.learning_rate=0.001, objective.alpha=0.5"
    print_table("a title [of] " + "many words " * 20, ["settings", "error %"], [[cell, 1.5]])
    title, *table = capsys.readouterr().out.splitlines()
    assert title == "a title [of] " + "many words " * 20
    assert sum(cell in line and "1.5" in line for line in table) == 1
    with terminal(monkeypatch, 60) as shown:
        print_table("title", ["settings", "error %"], [[cell, 1.5]])
        assert max(map(len, shown().splitlines())) <= 60
