"""Several processes that share the examples of `adv_jax.evaluate`."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import ROOT, environment, free_port, xla_flags
from short_run import TINY

from adv_jax.runner.host.processes import shares
from adv_jax.types import UserError

MODULE = "adv_jax.evaluate"
ATTACKS = ["--attacks=pgd,gaussian_noise,fgsm", "--norm=linf", "--eps=0,.1,.2"]


def by_hosts(*argv, count):
    """Runs `launch/hosts.sh` with processes of one device on this machine."""
    env = environment(
        MODULE=MODULE,
        HOSTS=" ".join(["localhost"] * count),
        PORT=str(free_port()),
        XLA_FLAGS=xla_flags(1),
        PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    )
    command = ["launch/hosts.sh", *argv]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def two(commands, *argvs, devices=(1, 1)):
    """Runs two processes, each with its arguments and number of devices."""
    coordinator = f"--coordinator=127.0.0.1:{free_port()}"
    started = [
        commands.start(
            *argv,
            coordinator,
            "--num_processes=2",
            f"--process_id={i}",
            module=MODULE,
            XLA_FLAGS=xla_flags(devices[i]),
        )
        for i, argv in enumerate(argvs)
    ]
    return [process.finish(seconds=500) for process in started]


def files(folder):
    return {str(path.relative_to(folder)): path for path in folder.rglob("*.*")}


@pytest.mark.parametrize(
    ("rows", "processes", "sizes"),
    [(4, 1, [4]), (4, 2, [2, 2]), (5, 3, [1, 2, 2]), (3, 3, [1, 1, 1]), (10000, 7, None)],
)
def test_shares_are_contiguous_and_differ_by_at_most_one_row(rows, processes, sizes):
    divided = shares(rows, processes)
    assert [row for share in divided for row in share] == list(range(rows))
    found = [len(share) for share in divided]
    assert found == sizes or sizes is None
    assert len(found) == processes and max(found) - min(found) <= 1


def test_more_processes_than_examples_are_refused():
    with pytest.raises(UserError, match=r"num_processes must be 1 to 2, .*, got 3$"):
        shares(2, 3)


@pytest.mark.slow
def test_two_processes_write_the_files_of_one_process(commands, uninterrupted, tmp_path):
    """Also those of random attacks. Two devices of one process have the same batches."""
    shutil.copytree(uninterrupted, tmp_path / "other")
    argv = [f"--workdir={uninterrupted},{tmp_path / 'other'}", *ATTACKS, "--minimal_eps"]
    argv += ["--num_examples=100"]
    alone = commands.run(*argv, f"--out={tmp_path / 'one'}", module=MODULE, XLA_FLAGS=xla_flags(2))
    assert (alone.status, alone.err) == (0, "")
    printed = by_hosts(*argv, f"--out={tmp_path / 'two'}", count=2)
    assert printed.count("100 examples") == 1  # One speaks for all.
    ours, theirs = files(tmp_path / "two"), files(tmp_path / "one")
    assert ours.keys() == theirs.keys() and len(ours) == 11
    for name, path in ours.items():
        if path.suffix == ".json":  # The commit may change while the tests run.
            documents = [json.loads(file.read_text()) for file in (path, theirs[name])]
            our, their = (json.dumps(document | {"git": None}) for document in documents)
            assert our == their
        else:
            assert path.read_bytes() == theirs[name].read_bytes()


@pytest.mark.exhaustive
def test_uneven_shares_measure_what_one_process_measures(commands, uninterrupted, tmp_path):
    argv = [f"--workdir={uninterrupted}", *ATTACKS, "--num_examples=20"]
    alone = commands.run(*argv, f"--out={tmp_path / 'one'}", module=MODULE, XLA_FLAGS=xla_flags(1))
    assert (alone.status, alone.err) == (0, "")
    by_hosts(*argv, f"--out={tmp_path / 'three'}", count=3)
    ours, theirs = (
        np.genfromtxt(tmp_path / name / "evaluation.csv", delimiter=",", skip_header=1)
        for name in ("three", "one")
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_processes_with_other_weights_are_refused_in_one_line(commands, uninterrupted, tmp_path):
    other = tmp_path / uninterrupted.name
    trained = commands.run(*TINY, "--config.epochs=1", "--config.seed=7", f"--workdir={other}")
    assert trained.status == 0, trained.err
    workdirs = ([f"--workdir={path}"] for path in (uninterrupted, other))
    first, second = two(commands, *workdirs)
    assert (first.status, second.status) == (1, 1)
    assert first.err.endswith("error: another process failed; see its error message\n")
    message = r"error: workdir must be the same runs .+, got run with other weights .+\n$"
    assert re.search(message, second.err)
    assert not (uninterrupted / "evaluation").exists()


@pytest.mark.slow
def test_an_error_in_one_process_ends_the_other(commands, uninterrupted, tmp_path):
    workdirs = ([f"--workdir={path}"] for path in (uninterrupted, tmp_path))
    first, second = two(commands, *workdirs)
    assert (first.status, second.status) == (1, 1)
    assert first.err.endswith("error: another process failed; see its error message\n")
    assert re.search(r"error: .+no config\.json\n$", second.err)


@pytest.mark.slow
def test_processes_with_different_numbers_of_devices_are_refused(commands, uninterrupted):
    argv = [f"--workdir={uninterrupted}"]
    for done in two(commands, argv, argv, devices=(1, 2)):
        assert done.status == 1
        message = r"error: the number of devices must be that of all processes .+, got 1, 2\n$"
        assert re.search(message, done.err)
