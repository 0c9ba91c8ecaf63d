"""The environment of a run must not change it: the home, the network, JAX's variables."""

import subprocess

import numpy as np
import pytest
from command_line import MODULE, call
from short_run import TINY, assert_same_run, result_of

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "env",
    [
        pytest.param({"HOME": "/proc/nowhere"}, id="home that cannot be written"),
        pytest.param({"JAX_PLATFORMS": ""}, id="any platform", marks=pytest.mark.exhaustive),
    ],
)
def test_environment_variables_do_not_change_a_run(env, uninterrupted, tmp_path, monkeypatch):
    monkeypatch.delenv("MPLCONFIGDIR", raising=False)
    done = call(MODULE, *TINY, f"--workdir={tmp_path / 'run'}", **env)
    assert done.returncode == 0, done.stderr
    assert_same_run(tmp_path / "run", uninterrupted)


@pytest.mark.exhaustive
def test_float64_does_not_change_the_training_of_a_run(uninterrupted, tmp_path):
    done = call(MODULE, *TINY, f"--workdir={tmp_path / 'run'}", JAX_ENABLE_X64="1")
    assert done.returncode == 0, done.stderr
    ours, theirs = tmp_path / "run", uninterrupted
    assert (ours / "metrics.jsonl").read_bytes() == (theirs / "metrics.jsonl").read_bytes()
    ours, theirs = (result_of(folder)["evaluation"]["fgsm"] for folder in (ours, theirs))
    for name in ("error", "confidence"):
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-6)


def test_a_run_without_a_network_gives_the_same_results(uninterrupted, tmp_path):
    alone = ["unshare", "--user", "--map-root-user", "--net"]
    if subprocess.run([*alone, "true"], capture_output=True).returncode:
        pytest.skip("this machine does not let a process give up its network")
    done = call(MODULE, *TINY, f"--workdir={tmp_path / 'run'}", prefix=alone)
    assert (done.returncode, done.stderr) == (0, "")
    assert_same_run(tmp_path / "run", uninterrupted)


@pytest.mark.parametrize("platform", ["cuda", "abc"])
@pytest.mark.parametrize(
    "argv",
    [
        [MODULE, *TINY, "--workdir={}/run"],
        pytest.param(["adv_jax.evaluate", "--workdir={}/run"], marks=pytest.mark.exhaustive),
        pytest.param(
            ["adv_jax.report", "maronas2016.fig26", "--out={}"], marks=pytest.mark.exhaustive
        ),
        pytest.param(
            ["launch.reproduce", "maronas2016.table22", "--runs={}", "--results={}"],
            marks=pytest.mark.exhaustive,
        ),
    ],
    ids=lambda argv: argv[0],
)
def test_a_missing_platform_is_refused_in_one_line(platform, argv, tmp_path):
    argv = [part.format(tmp_path) for part in argv]
    done = call(*argv, JAX_PLATFORMS=platform)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: JAX_PLATFORMS must be cpu or unset, got '{platform}': ")
    assert done.stderr.count("\n") == 1 and not list(tmp_path.iterdir())
