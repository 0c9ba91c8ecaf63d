"""`python -m launch.sweep`: its refusals, its results, and kills."""

import json
import os
import re
import runpy
import signal
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
from command_line import MODULE, ROOT, call, environment, xla_flags
from full_disk import filled
from marks import exhaustive_after

import launch
from adv_jax.types import UserError
from launch import _trials as trials

needs_ray = pytest.mark.skipif(
    not (find_spec("ray") and find_spec("optuna")),
    reason="needs Ray and Optuna: pip install -e '.[sweep]'",
)

QUICK = [
    "--config=configs/quickstart.py:quick",
    "--config.model.features=(8,)",
    "--config.batch_size=500",
    "--config.evaluation.eps=(0.0, 0.1)",
]
GRID = "--grid={'model.features': ((8,), (16,)), 'objective.attack.eps': (0.1, 0.2)}"


# Refusals: one line, Ray does not start, nothing is written.


@pytest.mark.slow
@pytest.mark.parametrize(
    ("argv", "says"),
    exhaustive_after(
        5,
        [
            ([], ["one of --grid and --search, got neither"]),
            (
                [GRID, "--search={'epochs': ('randint', 1, 9)}"],
                ["--grid and --search, got both"],
            ),
            (["--grid={'model.featurs': ((8,),)}"], ["'model.featurs'", "'model.features'?"]),
            (
                ["--search={'optimizer.learning_rate': ('uniform', .1, .1)}"],
                ["('uniform', 0.1, 0.1)"],
            ),
            (
                ["--grid={'batch_size': ()}"],
                ["--grid['batch_size'] must be a tuple", "got ()"],
            ),
            (
                [GRID, "--metric=valid_eror"],
                ["--metric must be", "valid_error", "got 'valid_eror'"],
            ),
            (
                [GRID, "--metric=accuracy"],
                ["--metric must be to minimize, one of loss, test_error, valid_error, got"],
            ),
            ([GRID, "--num_trials=3"], ["--num_trials must be unset with --grid, got 3"]),
            ([GRID, "--min_epochs=1"], ["--min_epochs must be unset with --grid, got 1"]),
            (
                [GRID, "--config.data.num_valid=0"],
                ["--metric must be", "test_error without data.num_valid, got 'valid_error'"],
            ),
            (
                [GRID, "--config.model.name=mlpp"],
                ["model.name must be", "got 'mlpp'", "did you mean 'mlp'?"],
            ),
            (
                [GRID, "--config.epoch=3"],
                ["a field of --config must be", "got 'epoch'", "did you mean 'epochs'?"],
            ),
            ([GRID, "--address=somewhere"], ["--address must be HOST:PORT", "got 'somewhere'"]),
            ([GRID, "--num_trials=0"], ["num_trials"]),
            ([GRID, "--config.trackers=mlfow"], ["an entry of trackers must be", "got 'mlfow'"]),
            ([GRID, "num_trials=3"], ["must be flags", "did you mean '--num_trials=3'?"]),
            (
                ["--search={'epochs': ('randint', 2, 9)}", "--min_epochs=10"],
                ["--min_epochs must be 1 to 8, got 10"],
            ),
            (
                ["--grid={'objective.attack.eps': (.1, 2.)}"],
                ["objective.attack.eps must be at most 1, the linf width", "got 2"],
            ),
            (["--grid={'batch_size': (50, 9999)}"], ["batch_size must be 1 to 3500", "got 9999"]),
            (
                ["--grid={'model.activation': ('relu', 'relo')}"],
                ["activation must be one of", "got 'relo'; did you mean 'relu'?"],
            ),
            (
                ["--grid={'objective.attack.norm': ('linf', 'l3')}"],
                ["objective.attack.norm must be", "got 'l3'"],
            ),
        ],
    ),
    ids=lambda value: value[-1] if value and value[0].startswith("--") else "",
)
def test_a_bad_flag_is_refused_in_one_line(commands, tmp_path, argv, says):
    done = commands.run(*QUICK, *argv, f"--workdir={tmp_path / 'sweep'}", module="launch.sweep")
    assert done.status == 1
    assert re.fullmatch(r"error: [^\n]+\n", done.err), done.err
    for words in says:
        assert words in done.err
    assert not list(tmp_path.rglob("trials/*"))


@pytest.mark.slow
@pytest.mark.parametrize("extra", exhaustive_after(1, ["ray", "optuna"]))
def test_a_missing_extra_is_named_with_the_command_that_installs_it(commands, tmp_path, extra):
    argv = [*QUICK, GRID, f"--workdir={tmp_path / 'sweep'}"]
    done = commands.run(*argv, module="launch.sweep", BLOCKED=extra)
    # The other package may be missing here, too.
    names = f"(ray|{extra})"
    line = f"error: launch.sweep needs {names}: pip install -e '\\.\\[sweep\\]'\n"
    assert done.status == 1 and re.fullmatch(line, done.err), done.err
    assert not (tmp_path / "sweep").exists()


@pytest.mark.slow
@needs_ray
def test_an_address_without_a_server_is_refused_before_anything_is_written(commands, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    argv = [*QUICK, GRID, f"--address={address}", f"--workdir={tmp_path / 'sweep'}"]
    done = commands.run(*argv, module="launch.sweep")
    # The first line that a sweep prints is its workdir.
    assert (done.status, done.out) == (1, "") and not (tmp_path / "sweep").exists()
    assert done.err == (
        f"error: --address must be the address of a running Ray cluster, got '{address}': "
        "[Errno 111] Connection refused\n"
    )


def test_ray_does_not_start_if_all_trials_are_settled(tmp_path, monkeypatch):
    from launch import sweep

    ray = SimpleNamespace(cluster=lambda *_, **__: pytest.fail("Ray has started"))
    monkeypatch.setattr(launch, "_tuning", ray, raising=False)
    monkeypatch.setattr(sweep, "_SEARCH", SimpleNamespace(value=None))
    for flag in ("_ADDRESS", "_CPUS", "_GPUS"):
        monkeypatch.setattr(sweep, flag, SimpleNamespace(value=None))
    config = runpy.run_path("configs/quickstart.py")["get_config"]("quick").to_dict()
    settings = trials.Settings(config, frozenset(), tmp_path / "trials", "valid_error", ".")
    sizes = {"batch_size": (50, 100)}
    for size, file in zip(sizes["batch_size"], ("result.json", "stopped.json"), strict=True):
        path = settings.path_of({"batch_size": size})
        trials.prepare(path, settings.config_at({"batch_size": size}))
        (path / file).write_text("{}")
    sweep._run(settings, sizes)
    with pytest.raises(pytest.fail.Exception, match="Ray has started"):
        sweep._run(settings, {"batch_size": (50, 200)})


def test_the_points_of_a_trial_that_has_diverged_run_apart_and_replace_it(tmp_path, monkeypatch):
    from launch import sweep

    monkeypatch.setattr(sweep, "_SEARCH", SimpleNamespace(value=None))
    config = runpy.run_path("configs/quickstart.py")["get_config"]("quick").to_dict()
    fields = {"batch_size": (50, 100), "optimizer.learning_rate": (0.1, 0.2)}
    rates, traced = {"optimizer.learning_rate": (0.1, 0.2)}, frozenset({"optimizer.learning_rate"})
    config["replicas"]["grid"] = {"objective.alpha": (0.3,)} | rates
    settings = trials.Settings(config, traced, tmp_path / "trials", "valid_error", ".")
    rounds = sweep._rounds_of_grid(settings, fields)
    first = next(rounds)
    assert first.points == [{"batch_size": 50}, {"batch_size": 100}]
    paths = [settings.path_of(point) for point in first.points]
    for path, point in zip(paths, first.points, strict=True):
        trials.prepare(path, settings.config_at(point))
    trials.note_divergence(paths[0])
    (paths[1] / "result.json").write_text("{}")
    (second,) = rounds
    rest = {"batch_size": 50, "objective.alpha": 0.3}
    assert second.points == [rest | {"optimizer.learning_rate": rate} for rate in (0.1, 0.2)]
    for point in second.points:
        apart = second.settings.config_at(point)
        assert apart["batch_size"] == 50
        assert apart["replicas"]["grid"] == {
            "objective.alpha": (0.3,),
            "optimizer.learning_rate": (point["optimizer.learning_rate"],),
        }
        trials.prepare(second.settings.path_of(point), apart)
    apart = [second.settings.path_of(point) for point in second.points]
    assert sweep._ended(settings.folder) == sorted([paths[1], *apart])
    # The same command again: only a point that is not settled is left.
    (apart[0] / "result.json").write_text("{}")
    (again,) = sweep._rounds_of_grid(settings, fields)
    assert again.points == second.points[1:]


@pytest.mark.parametrize("metric", ["kl", "test_accuracy"])
def test_only_an_error_or_a_loss_is_minimized(metric):
    from launch import sweep

    measured = {"kl", "test_accuracy", "loss", "fgsm_error"}
    with pytest.raises(UserError) as refused:
        sweep._check_metric(metric, measured)
    allowed = "to minimize, one of fgsm_error, loss"
    assert str(refused.value) == f"--metric must be {allowed}, got {metric!r}"
    sweep._check_metric("fgsm_error", measured)


# Whole sweeps; each starts a Ray of its own.


class Sweep:
    """`python -m launch.sweep` in a process of its own."""

    started: list[subprocess.Popen] = []

    def __init__(self, workdir: Path, *argv: str) -> None:
        self.workdir = workdir
        self._command = [sys.executable, "-m", "launch.sweep", *QUICK, *argv]
        self._command += [f"--workdir={workdir}"]

    def start(self) -> subprocess.Popen:
        process = subprocess.Popen(
            self._command,
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.started.append(process)
        return process

    def run(self) -> tuple[int, str]:
        process = self.start()
        out, _ = process.communicate(timeout=1200)
        return process.returncode, out

    def logs(self) -> dict[str, str]:
        return {p.parent.name: p.read_text() for p in self.workdir.glob("trials/*/trial.log")}

    def wait_for(self, text: str) -> str:
        """Waits until a trial has printed text; returns the name of the trial."""
        end, running = time.monotonic() + 600, True
        while running and time.monotonic() < end:
            running = self.started[-1].poll() is None
            for name, log in self.logs().items():
                if text in log:
                    return name
            time.sleep(0.05)
        state = "runs" if running else "has ended"
        raise AssertionError(f"the sweep {state} and no trial has printed {text!r}")

    def points(self) -> list[dict]:
        return json.loads((self.workdir / "result.json").read_text())["points"]

    def metrics(self) -> dict[str, bytes]:
        return {p.parent.name: p.read_bytes() for p in self.workdir.glob("trials/*/metrics.jsonl")}


@pytest.fixture(autouse=True)
def _leave_none_running():
    yield
    while Sweep.started:
        Sweep.started.pop().kill()


@needs_ray
@pytest.mark.exhaustive
def test_a_grid_runs_every_point_and_one_that_diverges_takes_no_other_with_it(tmp_path):
    rates = "--grid={'batch_size': (250, 500), 'optimizer.learning_rate': (0.1, 3e38)}"
    sgd = "--config.optimizer={'name': 'sgd', 'learning_rate': 0.1}"
    sweep = Sweep(tmp_path / "sweep", rates, sgd, "--config.epochs=3")
    status, out = sweep.run()
    assert status == 1
    assert "trials have diverged; their points run apart" in out
    assert "failed: batch_size=250, optimizer.learning_rate=3e+38: loss is " in out
    points = sweep.points()
    found = {(p["batch_size"], p["optimizer.learning_rate"]): p["status"] for p in points}
    assert len(points) == len(found) == 4
    assert found[250, 0.1] == found[500, 0.1] == "finished" and found[250, 3e38] == "failed"
    assert points[0]["valid_error"] <= points[1]["valid_error"]
    assert (sweep.workdir / "figures" / "sweep.png").read_bytes().startswith(b"\x89PNG")
    # A trial is an ordinary run: the same one by hand gives the same numbers.
    is_mine = lambda p: (p["batch_size"], p["optimizer.learning_rate"]) == (250, 0.1)
    (finished,) = {p["trial"] for p in points if is_mine(p)}
    grid = "--config.replicas.grid={'optimizer.learning_rate': (0.1,)}"
    argv = [*QUICK, grid, sgd, "--config.batch_size=250", "--config.epochs=3"]
    alone = f"--workdir={tmp_path / 'run'}"
    done = call(MODULE, *argv, alone, XLA_FLAGS=xla_flags(devices=1))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == sweep.metrics()[finished]


@needs_ray
@pytest.mark.exhaustive
def test_kills_of_driver_and_worker_lose_no_epoch_and_run_none_twice(tmp_path):
    """Checkpoints come at the end only, so a trial resumes from the one that it saved at the kill.

    The trials of a killed driver go on until Ray ends them, some seconds later.
    """
    argv = [GRID, "--config.epochs=240", "--config.checkpoint_every=1000", "--cpus=1"]
    whole, killed = Sweep(tmp_path / "whole", *argv), Sweep(tmp_path / "killed", *argv)
    assert whole.run()[0] == 0
    driver = killed.start()
    killed.wait_for("epoch 3/")
    driver.kill()
    driver.communicate()
    driver = killed.start()
    name = killed.wait_for("resumed after epoch")
    os.kill(worker_of(killed.workdir / "trials" / name), signal.SIGKILL)
    out, _ = driver.communicate(timeout=1200)
    assert driver.returncode == 0, out
    assert "2 trials: 2 finished" in out
    assert killed.metrics() == whole.metrics()
    for name, log in killed.logs().items():
        epochs = re.findall(r"^epoch (\d+)/", log, re.MULTILINE)
        assert epochs == [str(epoch) for epoch in range(1, 241)], name  # each once
    # All trials are settled, so none runs again.
    before = killed.logs()
    assert killed.run()[0] == 0
    assert killed.logs() == before


@needs_ray
@pytest.mark.exhaustive
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_sweep_in_one_line_when_its_trials_have_saved(tmp_path, signum):
    argv = [GRID, "--config.epochs=4000", "--config.checkpoint_every=9999", "--config.patience=0"]
    sweep = Sweep(tmp_path / "sweep", *argv)
    process = sweep.start()
    name = sweep.wait_for("epoch 3/")
    process.send_signal(signum)
    out, _ = process.communicate(timeout=600)
    assert process.returncode == 128 + signum
    last = out.splitlines()[-1]
    assert last == f"stopped by {signum.name}; run the same command to resume"
    assert "Traceback" not in out
    assert "stopped after epoch" in sweep.logs()[name].splitlines()[-1]


def worker_of(trial: Path) -> int:
    """Returns the process that has started the process of a trial."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            argv = (folder / "cmdline").read_bytes().decode().split("\0")
            stat = (folder / "stat").read_text()
        except OSError:  # It has ended.
            continue
        if "launch._process" in argv and str(trial) in argv:
            return int(stat.rpartition(")")[2].split()[1])
    raise AssertionError(f"no process runs {trial}")


@needs_ray
@pytest.mark.exhaustive
def test_a_search_stops_the_worse_trials_early_and_a_larger_one_resumes_it(tmp_path):
    space = "--search={'optimizer.learning_rate': ('loguniform', 1e-6, 1e-1)}"
    argv = [space, "--config.epochs=9", "--min_epochs=1"]
    first = Sweep(tmp_path / "sweep", *argv, "--num_trials=4")
    assert first.run()[0] == 0
    logs, points = first.logs(), first.points()
    assert len(points) == len(logs) == 4
    assert {p["status"] for p in points} <= {"finished", "stopped early"}
    rates = [p["optimizer.learning_rate"] for p in points]
    assert len(set(rates)) == 4 and all(1e-6 <= rate <= 1e-1 for rate in rates)
    more = Sweep(tmp_path / "sweep", *argv, "--num_trials=6")
    assert more.run()[0] == 0
    assert len(more.points()) == 6
    assert {name: more.logs()[name] for name in logs} == logs  # None of them has run again.


@needs_ray
@pytest.mark.exhaustive
def test_a_full_disk_is_named_and_the_sweep_resumes_when_there_is_space(mounted):
    sweep = Sweep(mounted("20m") / "sweep", GRID, "--config.epochs=300", "--config.patience=0")
    process = sweep.start()
    sweep.wait_for("epoch 5/")
    with filled(sweep.workdir.parent):
        out, _ = process.communicate(timeout=1200)
    assert process.returncode == 1
    assert "No space left on device" in out and "Traceback" not in out
    status, out = sweep.run()
    assert status == 0 and "2 trials: 2 finished" in out


@needs_ray
@pytest.mark.exhaustive
def test_a_server_that_is_no_ray_cluster_is_refused(commands, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        argv = [*QUICK, GRID, f"--address={address}", f"--workdir={tmp_path / 'sweep'}"]
        done = commands.run(*argv, module="launch.sweep")
    assert done.status == 1
    says = "error: --address must be the address of a running Ray cluster"
    assert re.fullmatch(rf"{says}, got '{address}': [^\n]+\n", done.err), done.err
