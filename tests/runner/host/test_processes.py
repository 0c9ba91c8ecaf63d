"""Two processes on one machine that share a run, with CPU collectives."""

import json
import os
import re
import shutil
import signal

import numpy as np
import pytest
from command_line import free_port, xla_flags
from marks import exhaustive_after
from short_run import TINY

pytestmark = pytest.mark.slow

EPOCHS = 12
SHORT = [*TINY, "--config.evaluation.eps=(0.0, 0.1)", f"--config.epochs={EPOCHS}"]
# Sums of other parts in another order: a few float32 roundings, which training carries on.
same = {"rtol": 1e-4, "atol": 1e-5}


def start(commands, *argv, devices=1, count=2):
    """Starts `count` processes of one run, each with its devices."""
    coordinator = f"--coordinator=127.0.0.1:{free_port()}"
    return [
        commands.start(
            *SHORT,
            *argv,
            coordinator,
            f"--num_processes={count}",
            f"--process_id={i}",
            XLA_FLAGS=xla_flags(devices),
        )
        for i in range(count)
    ]


def finished(processes):
    """Returns the `Finished` of all processes; each waits for the slowest."""
    return [process.finish(seconds=500) for process in processes]


def assert_same_run(workdir, other):
    lines = [
        [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
        for path in (workdir, other)
    ]
    assert len(lines[0]) == len(lines[1])
    for ours, theirs in zip(*lines, strict=True):
        assert ours.keys() == theirs.keys()
        for name, our in ours.items():
            # A rounding may decide on the class of an example or two.
            close = {"atol": 0.002} if name.endswith(("accuracy", "_error")) else same
            np.testing.assert_allclose(our, theirs[name], **close)
    ours, theirs = (json.loads((p / "result.json").read_text()) for p in (workdir, other))
    for our, their in zip(ours["replicas"], theirs["replicas"], strict=True):
        assert our["epochs"] == their["epochs"] == EPOCHS
        assert our["test_error"] == pytest.approx(their["test_error"], abs=0.002)


@pytest.fixture(scope="module")
def alone(commands, tmp_path_factory):
    """argv -> the workdir of the run of one process with two devices."""
    runs = {}

    def run(*argv):
        if argv not in runs:
            runs[argv] = tmp_path_factory.mktemp("alone") / "run"
            where = f"--workdir={runs[argv]}"
            process = commands.start(*SHORT, *argv, where, XLA_FLAGS=xla_flags(devices=2))
            (done,) = finished([process])
            assert done.status == 0, done.err
        return runs[argv]

    return run


SEEDS, SHARDS = "--config.replicas.seeds=2", "--config.replicas.shards=2"


@pytest.mark.parametrize("argv", exhaustive_after(1, [[SHARDS], [SEEDS]]))
def test_two_processes_equal_one_process_with_two_devices(commands, alone, tmp_path, argv):
    processes = start(commands, *argv, f"--workdir={tmp_path / 'run'}")
    first, second = finished(processes)
    assert (first.status, second.status) == (0, 0), first.err + second.err
    assert f"results in {tmp_path / 'run'}" in first.out
    assert "epoch" not in second.out  # One speaks for all.
    assert_same_run(tmp_path / "run", alone(*argv))
    kept = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert kept == {str(epoch) for epoch in (EPOCHS - 2, EPOCHS - 1, EPOCHS)}


def test_a_signal_to_one_process_stops_both_at_the_same_epoch_and_the_run_resumes(
    commands, alone, tmp_path
):
    argv = [SEEDS, f"--workdir={tmp_path / 'run'}", "--config.checkpoint_every=1000"]
    processes = start(commands, *argv)
    processes[0].wait_for("epoch 3/")
    processes[1].signal(signal.SIGTERM)
    first, second = finished(processes)
    assert (first.status, second.status) == (143, 143), first.err + second.err
    epoch = re.search(r"stopped after epoch (\d+) of", first.out)[1]
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 2 * int(epoch)
    first, second = finished(start(commands, *argv))
    assert (first.status, second.status) == (0, 0), first.err + second.err
    assert f"resumed after epoch {epoch}\n" in first.out
    assert_same_run(tmp_path / "run", alone(SEEDS))


@pytest.mark.parametrize(("before", "after"), exhaustive_after(1, [(2, 1), (1, 2)]))
def test_a_run_resumes_with_another_number_of_processes(commands, alone, tmp_path, before, after):
    argv = [SEEDS, f"--workdir={tmp_path / 'run'}"]
    for done in finished(start(commands, *argv, devices=2 // before, count=before)):
        assert done.status == 0, done.err
    (tmp_path / "run" / "result.json").unlink()
    shutil.rmtree(tmp_path / "run" / "checkpoints" / str(EPOCHS))
    first, *_ = finished(start(commands, *argv, devices=2 // after, count=after))
    assert first.status == 0, first.err
    assert f"resumed after epoch {EPOCHS - 1}\n" in first.out
    parts = {path.name for path in (tmp_path / "run" / "checkpoints" / str(EPOCHS)).iterdir()}
    assert (parts == {"0-1", "1-2"}) == (after == 2)
    assert_same_run(tmp_path / "run", alone(SEEDS))


def test_a_workdir_that_the_processes_do_not_share_is_refused_in_one_line(commands, tmp_path):
    coordinator = f"--coordinator=127.0.0.1:{free_port()}"
    processes = [
        commands.start(
            *SHORT,
            SEEDS,
            coordinator,
            "--num_processes=2",
            f"--process_id={i}",
            f"--workdir={tmp_path / str(i)}",
            XLA_FLAGS=xla_flags(1),
        )
        for i in range(2)
    ]
    first, second = finished(processes)
    assert (first.status, second.status) == (1, 1)
    message = (
        r"error: \S+1/checkpoints must be on a file system that all processes share, got .+\n$"
    )
    assert re.search(message, second.err)


def test_an_error_in_one_process_ends_the_other(commands, alone, tmp_path):
    """Only the first process opens the workdir."""
    shutil.copytree(alone(SEEDS), tmp_path / "run")
    os.truncate(tmp_path / "run" / "result.json", 100)
    first, second = finished(start(commands, SEEDS, f"--workdir={tmp_path / 'run'}"))
    assert (first.status, second.status) == (1, 1)
    assert re.search(r"error: \S+result.json is damaged, .+\n$", first.err)
    assert second.err.endswith("error: another process failed; see its error message\n")


def test_a_killed_process_is_reported_by_the_other_and_the_run_resumes(commands, alone, tmp_path):
    argv = [SEEDS, f"--workdir={tmp_path / 'run'}"]
    processes = start(commands, *argv)
    processes[0].wait_for("epoch 3/")
    processes[1].signal(signal.SIGKILL)
    first, second = finished(processes)
    assert (first.status, second.status) == (1, -signal.SIGKILL), first.err
    assert re.search(r"error: lost contact with another process \(.+\n$", first.err)
    assert "Traceback" not in first.err
    first, second = finished(start(commands, *argv))
    assert (first.status, second.status) == (0, 0), first.err + second.err
    assert "resumed after epoch" in first.out
    assert_same_run(tmp_path / "run", alone(SEEDS))


def test_replicas_that_processes_cannot_share_evenly_are_refused_in_one_line(commands, tmp_path):
    argv = ["--config.replicas.seeds=3", f"--workdir={tmp_path / 'run'}"]
    for process in start(commands, *argv):
        done = process.finish()
        assert done.status == 1
        line = (
            "error: config.replicas: replicas x shards must be a multiple of 2, the number of "
            "processes, that their 2 devices can share evenly, got 3 x 1\n"
        )
        assert done.err.endswith(line)
    assert not (tmp_path / "run").exists()
