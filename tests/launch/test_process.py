"""The process of a trial."""

import os
import signal
import subprocess
import sys

import pytest
from command_line import environment
from short_run import document

from launch import _trials as trials


@pytest.mark.slow
def test_the_process_of_a_trial_runs_the_config_of_its_directory(tmp_path):
    config = document() | {"epochs": 1, "batch_size": 1000}
    trials.prepare(tmp_path / "trial", config)
    command = [sys.executable, "-m", "launch._process", str(tmp_path / "trial")]
    with subprocess.Popen(command, env=environment(), stdin=subprocess.PIPE) as process:
        assert process.wait(timeout=120) == 0
    assert trials.status(tmp_path / "trial") == trials.FINISHED
    assert trials.progress(tmp_path / "trial", "loss")[-1][0] == 1


@pytest.mark.slow
def test_a_trial_that_diverges_leaves_a_note(tmp_path):
    config = document() | {"epochs": 1, "batch_size": 1000}
    config["replicas"] = config["replicas"] | {"grid": {"optimizer.learning_rate": (0.1, 1e30)}}
    trials.prepare(tmp_path / "trial", config)
    command = [sys.executable, "-m", "launch._process", str(tmp_path / "trial")]
    with (tmp_path / "trial" / "trial.log").open("wb") as log:
        options = {"env": environment(), "stdin": subprocess.PIPE, "stderr": log}
        with subprocess.Popen(command, **options) as process:
            assert process.wait(timeout=120) == 1
    assert "last good checkpoint: none" in trials.failure(tmp_path / "trial")
    assert trials.runs_apart(tmp_path / "trial")


# A trial that prints the signals that it gets, and its parent.

TRIAL = """
import os, signal, time
from launch._process import end_with_parent

printed = lambda signum, _: os.write(1, signal.Signals(signum).name.encode() + b" ")
signal.signal(signal.SIGTERM, printed)
parent, end = os.getppid(), time.monotonic() + 60
end_with_parent()
os.write(1, f"{os.getpid()} ".encode())
while os.getppid() == parent and time.monotonic() < end:
    time.sleep(0.01)
time.sleep(0.5)
"""
PARENT = f"""
import signal, subprocess, sys, threading, time

signal.signal(signal.SIGUSR1, lambda *_: trial.stdin.close())
trial = subprocess.Popen([sys.executable, "-c", {TRIAL!r}], stdin=subprocess.PIPE)
threads = [threading.Thread(target=time.sleep, args=(0.3 * i,), daemon=True) for i in range(9)]
for thread in threads:
    thread.start()
time.sleep(60)
"""


def started() -> subprocess.Popen:
    """Starts a process with threads, and waits until its trial has begun."""
    command = [sys.executable, "-c", PARENT]
    parent = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE)
    assert word(parent).strip().isdigit()
    return parent


def word(parent: subprocess.Popen) -> bytes:
    """Returns the next word that the trial prints."""
    found = os.read(parent.stdout.fileno(), 1)
    while not found.endswith(b" "):
        found += os.read(parent.stdout.fileno(), 1)
    return found


@pytest.mark.slow
def test_a_trial_whose_parent_is_killed_gets_one_signal():
    parent = started()
    parent.kill()
    assert parent.communicate(timeout=60)[0] == b"SIGTERM "


@pytest.mark.slow
def test_a_trial_that_was_stopped_gets_no_second_signal_when_its_parent_is_killed():
    """A run saves its epoch at the first signal, and stops at once at the second."""
    parent = started()
    parent.send_signal(signal.SIGUSR1)
    assert word(parent) == b"SIGTERM "
    parent.kill()
    assert parent.communicate(timeout=60)[0] == b""
