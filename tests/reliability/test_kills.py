"""Kills of runs with several replicas and shards, and of other commands; see `test_crashes.py`.

Also runs that resume with another number of devices, other versions or another processor.
"""

import json
import re
import shutil
import signal
import time
from collections import Counter
from functools import partial

import numpy as np
import pytest
from command_line import xla_flags
from fabricated import finish
from short_run import QUICK, TINY, assert_same_run, result_of

from adv_jax import train
from adv_jax.runner.store.workdir import read_metrics
from papers.running.budget import BUDGETS
from papers.running.trainings import plan
from papers.running.works import TARGETS

pytestmark = pytest.mark.slow

EPOCHS = 6
# Two replicas of two shards each: four devices.
SHARED = [
    *TINY[:-2],
    f"--config.epochs={EPOCHS}",
    "--config.replicas.seeds=2",
    "--config.replicas.shards=2",
    "--config.evaluation.eps=(0.0, 0.1)",
]


@pytest.fixture(scope="module")
def shared(commands, tmp_path_factory):
    """Returns the workdir of the run without a kill."""
    workdir = tmp_path_factory.mktemp("shared") / "run"
    done = commands.run(*SHARED, f"--workdir={workdir}", XLA_FLAGS=xla_flags(4))
    assert (done.status, done.err) == (0, "")
    return workdir


def has_trained(process):
    """Returns whether the process has trained an epoch, or has no epoch left to train."""
    return re.search(r"\nepoch |after epoch 6\n", process.printed())


# 30 kills: 4 minutes of one core.
@pytest.mark.parametrize("times", [3, pytest.param(30, marks=pytest.mark.exhaustive)])
def test_killed_runs_with_replicas_and_shards_end_with_the_same_results(
    commands, shared, tmp_path, times
):
    """Each process trains at least one more epoch; the last one evaluates."""
    random = np.random.default_rng(0)
    argv = [*SHARED, f"--workdir={tmp_path / 'run'}"]
    ended = Counter()
    for i in range(times):
        process = commands.start(*argv, XLA_FLAGS=xla_flags(4))
        process.wait_until(partial(has_trained, process))
        time.sleep(random.uniform(0, 1))
        if process.running():
            process.signal((signal.SIGKILL, signal.SIGTERM)[i % 2])
        done = process.finish()
        assert done.status in (0, -signal.SIGKILL, 128 + signal.SIGTERM) and done.err == ""
        ended[done.status, "6/6" in done.out or "after epoch 6" in done.out] += 1
        if done.status == 0:
            assert_same_run(tmp_path / "run", shared, epochs=EPOCHS)
            shutil.rmtree(tmp_path / "run")
    print("(status, whether in the evaluation): times", dict(ended))
    last = commands.run(*argv, XLA_FLAGS=xla_flags(4))
    assert (last.status, last.err) == (0, "")
    assert_same_run(tmp_path / "run", shared, epochs=EPOCHS)


@pytest.mark.parametrize("devices", [1, pytest.param(2, marks=pytest.mark.exhaustive)])
def test_a_resumed_run_reports_another_number_of_devices(commands, tmp_path, devices):
    argv = [*TINY[:-2], "--config.epochs=4", "--config.replicas.seeds=4"]
    argv += ["--config.evaluation.eps=(0.0,)"]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    commands.run(*argv, f"--workdir={whole}", XLA_FLAGS=xla_flags(4))
    process = commands.start(*argv, f"--workdir={stopped}", XLA_FLAGS=xla_flags(4))
    process.wait_for("epoch 1/")
    process.signal(signal.SIGTERM)
    assert process.finish().status == 128 + signal.SIGTERM
    done = commands.run(*argv, f"--workdir={stopped}", XLA_FLAGS=xla_flags(devices))
    assert (done.status, done.err) == (0, "")
    line = f"rounding may differ from now on: devices was 4 and is {devices}\n"
    assert line in done.out
    # Measured: the same bits but for the last one of a confidence. Asserted: rounding.
    numbers = [
        [line[name] for line in read_metrics(path) for name in ("loss", "test_confidence")]
        + [replica["test_error"] for replica in result_of(path)["replicas"]]
        for path in (stopped, whole)
    ]
    np.testing.assert_allclose(*numbers, rtol=1e-5)


def test_a_resumed_run_reports_another_version_and_processor(commands, uninterrupted, tmp_path):
    workdir = shutil.copytree(uninterrupted, tmp_path / "run")
    (workdir / "result.json").unlink()
    for notes in (workdir / "checkpoints").glob("*/notes/metadata"):
        written = json.loads(notes.read_text())
        written["environment"] |= {"jax": "0.9.1", "cpu": "an abacus"}
        notes.write_text(json.dumps(written))
    flags = f"{xla_flags()} --xla_cpu_max_isa=AVX2"
    done = commands.run(*TINY, f"--workdir={workdir}", XLA_FLAGS=flags)
    assert (done.status, done.err) == (0, "")
    (line,) = re.findall("rounding may differ from now on: (.*)", done.out)
    assert "jax was '0.9.1' and is " in line and "cpu was 'an abacus' and is " in line
    assert "--xla_cpu_max_isa=AVX2" in line


@pytest.fixture(scope="module")
def seeds(commands, tmp_path_factory):
    """Returns the arguments of a join of finished runs, and the joined run."""
    folder = tmp_path_factory.mktemp("seeds")
    for seed in (3, 4):
        argv = [QUICK, *TINY[1:4], "--config.epochs=2", f"--config.seed={seed}"]
        done = commands.run(*argv, f"--workdir={folder / str(seed)}")
        assert (done.status, done.err) == (0, "")
    argv = [str(folder / "3"), str(folder / "4")]
    done = commands.run(*argv, f"--into={folder / 'joined'}", module="launch.join")
    assert (done.status, done.err) == (0, "")
    (joined,) = (folder / "joined").iterdir()
    return argv, joined


@pytest.mark.parametrize(
    "moment",
    [
        "os.rename:config.json.part",
        "os.rename:data.json.part",
        "os.rename:metrics.jsonl.part",
        "os.rename:2.part",
        "open:learning.png",
        "os.rename:result.json.part",
    ],
)
def test_a_killed_join_resumes_with_the_same_command(commands, seeds, tmp_path, moment):
    argv, joined = seeds
    argv = [*argv, f"--into={tmp_path}"]
    killed = commands.run(*argv, module="launch.join", KILLED_AT=moment)
    assert (killed.status, killed.err) == (-signal.SIGKILL, "")
    done = commands.run(*argv, module="launch.join")
    assert (done.status, done.err) == (0, "")
    assert_same_run(tmp_path / joined.name, joined, epochs=2)
    assert not list((tmp_path / joined.name).rglob("*.part"))


def contents(folder):
    """{name: bytes} of the files of a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_killed_comparison_is_made_again(commands, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "run", lambda *_: pytest.fail("it trains"))
    name, runs = "maronas2016.table17", tmp_path / "runs"
    for training in plan(TARGETS[name], BUDGETS["paper"], runs=runs, data={}).values():
        finish(training, lambda replica, eps: 0.005)

    def made(folder, *moments):
        """Returns the results after kills at those moments."""
        argv = [name, f"--runs={runs}", f"--results={folder}"]
        for moment in moments:
            killed = commands.run(*argv, module="launch.reproduce", KILLED_AT=moment)
            assert (killed.status, killed.err) == (-signal.SIGKILL, "")
        done = commands.run(*argv, module="launch.reproduce")
        assert (done.status, done.err) == (0, "")
        return contents(folder)

    kinds = ("csv", "png", "json")
    moments = [f"os.rename:table17.{kind}.part" for kind in kinds]
    assert made(tmp_path / "killed", *moments) == made(tmp_path / "whole")
