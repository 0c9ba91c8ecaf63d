"""The log: lines in a file, a bar on a terminal, JSON lines and TensorBoard events."""

import contextlib
import os
import pty
import re
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from adv_jax.runner.config.replicas import Replica
from adv_jax.runner.run.log import Log, print_table, require_tensorboard
from adv_jax.runner.store.workdir import Workdir
from adv_jax.types import UserError

REPLICAS = [Replica(4, {}), Replica(5, {})]
EPOCHS = [
    {"accuracy": np.array([0.25, 0.75]), "loss": np.float32([2.0, 1.0])},
    {"accuracy": np.array([0.5, 0.875]), "loss": np.float32([1.0, 0.5])},
]


def log_two_epochs(folder, *, running=(True, True), tensorboard=False, done=0):
    config = {"experiment": "test", "replicas": {"grid": None}}
    with (
        Workdir(folder, config) as files,
        Log(files, REPLICAS, epochs=3, done=done, tensorboard=tensorboard) as log,
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


def events(folder: Path) -> list[tuple[str, int, float]]:
    """Returns (tag, step, value) of the event files in a folder, parsed by hand.

    A record is u64 length, u32 CRC, the bytes of a protobuf Event, u32 CRC. In Event, field 2 is
    the step and 5 the summary; in a Summary, 1 is a Value with 1 the tag and 2 a float.
    """
    found = []
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            event = dict(fields(content[12 : 12 + length]))
            content = content[12 + length + 4 :]
            if 5 in event:
                value = dict(fields(dict(fields(event[5]))[1]))
                number = struct.unpack("<f", value[2])[0]
                found.append((value[1].decode(), event.get(2, 0), number))
    return found


def fields(message: bytes):
    """(number, value) of the fields of a protobuf message."""

    def varint(at):
        value, shift = 0, 0
        while True:
            value |= (message[at] & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if message[at - 1] < 0x80:
                return value, at

    at = 0
    while at < len(message):
        key, at = varint(at)
        if key & 7 == 0:
            value, at = varint(at)
        else:
            size, at = varint(at) if key & 7 == 2 else ({1: 8, 5: 4}[key & 7], at)
            value, at = message[at : at + size], at + size
        yield key >> 3, value


def test_tensorboard_gets_every_number_of_each_replica(tmp_path, capsys):
    log_two_epochs(tmp_path, tensorboard=True)
    assert "tensorflow" not in sys.modules
    for replica in (0, 1):
        found = events(tmp_path / "tensorboard" / str(replica))
        assert sorted(found) == sorted(
            (name, epoch, float(values[replica]))
            for epoch, metrics in enumerate(EPOCHS, start=1)
            for name, values in metrics.items()
        )


def test_tensorboard_events_mark_the_step_of_a_resumed_run(tmp_path, capsys):
    log_two_epochs(tmp_path, tensorboard=True)
    log_two_epochs(tmp_path, tensorboard=True, done=1)
    content = b"".join(f.read_bytes() for f in (tmp_path / "tensorboard" / "0").iterdir())
    # SessionLog (field 7 of Event) with status START (field 1 = 1), at step 2 (field 2 of Event):
    # readers drop what has this step or a later one and was written before.
    assert re.search(rb"\x10\x02\x3a\x02\x08\x01", content)


def test_the_error_for_a_missing_tensorboardx_names_the_installation(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(UserError, match=re.escape("pip install -e '.[tensorboard]'")):
        require_tensorboard()


@pytest.mark.slow
def test_importing_training_does_not_import_tensorboardx():
    program = "import sys, adv_jax.runner.run.training; sys.exit('tensorboardX' in sys.modules)"
    root = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", program], cwd=root, check=True)
