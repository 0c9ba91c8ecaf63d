"""Kills, signals and lost files at any moment: a run loses no saved epoch and trusts no torn file.

`tests/test_main.py` and `tests/runner/store/test_checkpoint.py` test the other faults: a checkpoint
with flipped or missing bytes, a full disk, a second process in the same workdir.
"""

import json
import re
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest
from short_run import EPOCHS, TINY, assert_same_run

pytestmark = pytest.mark.slow

# The moments of the kills, in this order: when a file is opened or renamed and half of it is on
# disk, during the write of a checkpoint, and at a random moment.
MOMENTS = (
    "os.rename:config.json.part",
    "os.rename:rows.npz.part",
    "os.rename:data.json.part",
    "anywhere",
    "checkpoint",
    "anywhere",
    "checkpoint",
    "open:learning.png",
    "open:result.json.part",
    "os.rename:result.json.part",
)


def assert_whole(workdir):
    """Asserts that each file is complete, except the last line of metrics.jsonl."""
    for name in ("config.json", "data.json", "result.json"):
        if (workdir / name).exists():
            assert isinstance(json.loads((workdir / name).read_text()), dict)
    if (workdir / "metrics.jsonl").exists():
        *lines, _ = (workdir / "metrics.jsonl").read_text().split("\n")
        assert all(json.loads(line)["epoch"] <= EPOCHS for line in lines)


def under_way(workdir):
    """Returns whether a checkpoint is being written."""
    return any((workdir / "checkpoints").glob("*.part*"))


def kill(commands, argv, workdir, moment, random):
    """Starts the run, kills it at that moment, and returns its output."""
    process = commands.start(*argv, **({"KILLED_AT": moment} if ":" in moment else {}))
    epochs = int(random.integers(0, EPOCHS // 5))
    if moment == "anywhere":
        process.wait_until(lambda: process.printed().count("\nepoch ") >= epochs)
        time.sleep(random.uniform(0, 0.1 if epochs else 2))
        process.signal(signal.SIGKILL)
    if moment == "checkpoint":
        process.wait_until(
            lambda: process.printed().count("\nepoch ") >= epochs and under_way(workdir)
        )
        process.signal(signal.SIGKILL)
    done = process.finish()
    assert (done.status, done.err) == (-signal.SIGKILL, "")
    return done.out


FEW = ("anywhere", "checkpoint", "os.rename:result.json.part")


# 5 x 10 kills: 4 minutes of one core.
@pytest.mark.parametrize(
    ("moments", "times"), [(FEW, 1), pytest.param(MOMENTS, 5, marks=pytest.mark.exhaustive)]
)
def test_a_run_that_is_killed_and_restarted_ends_with_the_same_results(
    commands, uninterrupted, tmp_path, moments, times
):
    random = np.random.default_rng(0)
    for i in range(times):
        workdir = tmp_path / f"run{i}"
        argv = [*TINY, f"--workdir={workdir}"]
        for moment in moments:
            killed = kill(commands, argv, workdir, moment, random)
            assert "damaged" not in killed
            if workdir.exists():
                assert_whole(workdir)
            if moment == "checkpoint":
                with (workdir / "metrics.jsonl").open("a") as file:
                    file.write('{"epoch": 9, "repl')  # A kill may tear a line.
        assert re.search(r"resumed after epoch \d+", killed)
        last = commands.run(*argv)
        assert (last.status, last.err) == (0, "") and "damaged" not in last.out
        assert_same_run(workdir, uninterrupted)
        assert not under_way(workdir) and not list(workdir.glob("*.part"))


# A minute of one core; tests/test_main.py has a signal in training, and one before it.
@pytest.mark.exhaustive
def test_a_run_stops_on_sigterm_at_random_moments_and_resumes(commands, uninterrupted, tmp_path):
    workdir = tmp_path / "run"
    argv = [*TINY, f"--workdir={workdir}"]
    random = np.random.default_rng(1)
    for _ in range(10):
        process = commands.start(*argv)
        process.wait_for("workdir ")  # Before, Python itself has not imported all of the program.
        time.sleep(random.uniform(0, 2))
        if process.running():
            process.signal(signal.SIGTERM)
        done = process.finish()
        assert done.status in (0, 128 + signal.SIGTERM) and done.err == ""
        if done.status:
            assert re.search("run the same command to resume", done.out)
        if workdir.exists():
            assert_whole(workdir)
    assert commands.run(*argv).status == 0
    assert_same_run(workdir, uninterrupted)


# Seconds; tests/test_main.py has a second run beside one that trains.
@pytest.mark.exhaustive
def test_the_second_of_two_runs_in_one_workdir_is_refused(commands, uninterrupted, tmp_path):
    workdir = tmp_path / "run"
    both = [commands.start(*TINY, f"--workdir={workdir}") for _ in range(2)]
    refused, done = sorted((process.finish() for process in both), key=lambda ended: -ended.status)
    assert (refused.status, done.status) == (1, 0)
    assert refused.err == f"error: workdir {workdir} is in use by another process\n"
    assert_same_run(workdir, uninterrupted)


def test_a_read_only_workdir_is_reported_and_kept(commands, uninterrupted, mounted):
    disk = mounted("8m")
    shutil.copytree(uninterrupted, disk / "run")
    (disk / "run" / "result.json").unlink()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    argv = [*TINY, f"--workdir={disk / 'run'}"]
    refused = commands.run(*argv)
    assert refused.status == 1
    line = rf"error: {disk}/run\S* cannot be written: Read-only file system\n"
    assert re.fullmatch(line, refused.err)
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    assert commands.run(*argv).status == 0
    assert_same_run(disk / "run", uninterrupted)


@pytest.mark.parametrize("replaced", [pytest.param(False, marks=pytest.mark.exhaustive), True])
def test_a_workdir_deleted_during_a_run_is_reported_and_not_replaced(commands, tmp_path, replaced):
    workdir = tmp_path / "run"
    process = commands.start(*TINY, f"--workdir={workdir}")
    process.wait_for("epoch 3/")
    process.pause()
    shutil.rmtree(workdir)
    if replaced:  # by another run, which must not get this one's lines
        workdir.mkdir()
        (workdir / "lock").touch()
    process.signal(signal.SIGCONT)
    done = process.finish()
    assert done.status == 1
    assert re.match(r"error: [^\n]*(deleted|No such file)[^\n]*\n", done.err), done.err
    assert "Traceback" not in done.err
    assert not (workdir / "metrics.jsonl").exists() and not (workdir / "result.json").exists()


def test_a_run_in_a_folder_with_brackets_resumes_after_a_signal(commands, uninterrupted, tmp_path):
    argv = [*TINY, f"--workdir={tmp_path}/lr[.1]/a\\b"]
    process = commands.start(*argv)
    process.wait_for("\nepoch 3/")
    process.signal(signal.SIGTERM)
    done = process.finish()
    assert done.status == 128 + signal.SIGTERM
    epoch = int(re.search(r"stopped after epoch (\d+) of", done.out)[1])
    assert epoch < EPOCHS
    resumed = commands.run(*argv)
    assert (resumed.status, resumed.err) == (0, "")
    assert f"resumed after epoch {epoch}\n" in resumed.out and "damaged" not in resumed.out
    assert [path.name for path in tmp_path.iterdir()] == ["lr[.1]"]
    # Orbax alone, by which the runs are compared, cannot read below such a name.
    plain = shutil.copytree(tmp_path / "lr[.1]" / "a\\b", tmp_path / "plain")
    assert_same_run(plain, uninterrupted)
