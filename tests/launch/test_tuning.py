"""A sweep starts its trials, and reports their metrics to Optuna."""

import json
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from short_run import document

from launch import _trials as trials

pytestmark = pytest.mark.skipif(
    not (find_spec("ray") and find_spec("optuna")),
    reason="needs Ray and Optuna: pip install -e '.[sweep]'",
)


@pytest.mark.parametrize(
    ("resources", "inherited", "expected"),
    [
        ({"CPU": 2, "GPU": 0}, {}, {"CUDA_VISIBLE_DEVICES": ""}),
        ({"CPU": 2, "GPU": 1}, {"CUDA_VISIBLE_DEVICES": "3"}, {"CUDA_VISIBLE_DEVICES": "3"}),
        # Four trials of .225 each leave a tenth of the memory to CUDA itself.
        ({"CPU": 2, "GPU": 0.25}, {}, {"XLA_CLIENT_MEM_FRACTION": "0.225"}),
        # JAX refuses both names of the variable.
        (
            {"CPU": 2, "GPU": 0.25},
            {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.5"},
            {"XLA_CLIENT_MEM_FRACTION": "0.225"},
        ),
        ({"CPU": 2, "GPU": 0}, {"XLA_FLAGS": "--a"}, {"CUDA_VISIBLE_DEVICES": ""}),
    ],
)
def test_a_trial_gets_its_share_of_cores_and_memory(resources, inherited, expected):
    from launch import _tuning

    found = _tuning.trial_environment(resources, Path("/sweep"), inherited)
    count = "--xla_force_host_platform_device_count=2"
    flags = f"--a {count}" if "XLA_FLAGS" in inherited else count
    common = {
        "PYTHONUNBUFFERED": "1",
        "JAX_COMPILATION_CACHE_DIR": "/sweep/compiled",
        "XLA_FLAGS": flags,
        "MLFLOW_EXPERIMENT_NAME": "sweep",
        "MLFLOW_TRACKING_URI": "sqlite:////sweep/mlflow.db",
        "WANDB_DIR": "/sweep",
        "WANDB_PROJECT": "sweep",
    }
    assert found == common | expected


@pytest.mark.parametrize(("status", "signum"), [(-9, 9), (-34, 34), (143, 15), (128 + 64, 64)])
def test_a_trial_that_a_signal_has_ended_is_tried_again(settings, monkeypatch, status, signum):
    with pytest.raises(RuntimeError, match=f"^ended by signal {signum}$"):
        end_process(settings, monkeypatch, status)


@pytest.mark.parametrize("status", [1, 128, 128 + 65, 255])
def test_a_trial_that_ends_by_itself_has_failed_whatever_its_status(settings, monkeypatch, status):
    trial, study = asked(settings)
    end_process(settings, monkeypatch, status)
    assert trials.failure(trial.path) == f"ended with status {status}"
    monkeypatch.setattr(trials, "progress", lambda *_: [(3, np.array([0.1]))])
    trial.end(study)
    assert [t.value for t in study.trials] == [np.inf]


@pytest.fixture
def settings(tmp_path):
    return trials.Settings(document(), frozenset(), tmp_path, "valid_error", ".")


def asked(settings, min_epochs=0):
    """Returns the only trial of a study, and the study."""
    from launch import _tuning

    study = _tuning.create_study([{}], seed=0, min_epochs=min_epochs)
    return _tuning.Trial(settings, study.ask({})), study


def end_process(settings, monkeypatch, status):
    """Runs the process of the trial, which ends with a status."""
    from launch import _tuning

    process = SimpleNamespace(poll=lambda: status, communicate=lambda: None, returncode=status)
    monkeypatch.setattr(_tuning.subprocess, "Popen", lambda *_, **__: process)
    path = settings.path_of({})
    trials.prepare(path, settings.config)
    _tuning.run_process(path, settings, {"CPU": 1, "GPU": 0})


def test_the_log_of_a_trial_is_read_only_when_it_has_grown(settings, monkeypatch):
    trial, _ = asked(settings)
    log, read = trial.path / "metrics.jsonl", []

    def progress(path, metric):
        read.append((path / "metrics.jsonl").stat().st_size)
        return [(0, np.array([np.inf]))]

    monkeypatch.setattr(trials, "progress", progress)
    for size in (0, 0, 9, 9, 9, 15, 15):
        log.write_bytes(b"x" * size)
        assert trial.report() == 0
    assert read == [9, 15]


def test_an_epoch_is_reported_once_with_the_best_point(settings, monkeypatch):
    trial, study = asked(settings)
    log = trial.path / "metrics.jsonl"
    best = lambda path, metric: [(i, [0.5, 1 / i]) for i in range(1, 1 + log.stat().st_size)]
    monkeypatch.setattr(trials, "progress", lambda *of: [(i, np.array(b)) for i, b in best(*of)])
    for epoch in (1, 2, 2, 4):
        log.write_bytes(b"x" * epoch)
        trial.report()
    expected = {1: 0.5, 2: 0.5, 3: pytest.approx(1 / 3), 4: 0.25}
    assert study.trials[0].intermediate_values == expected


def test_a_search_stops_a_trial_that_is_worse_than_earlier_ones_but_not_at_its_end(tmp_path):
    from launch import _tuning

    config = document() | {"epochs": 9}
    settings = trials.Settings(config, frozenset(), tmp_path, "valid_error", ".")
    study = _tuning.create_study([{"seed": i} for i in range(5)], seed=0, min_epochs=1)
    found = []
    for error in (0.3, 0.2, 0.1, 0.4, 0.05):
        domain = _tuning.distribution("randint", 0, 5)
        trial, stopped = _tuning.Trial(settings, study.ask({"seed": domain})), 0
        for epoch in range(1, 10):
            line = {"epoch": epoch, "replica": 0, "valid_error": error}
            with (trial.path / "metrics.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
            if stopped := trial.report():
                break
        found.append(stopped)
    assert found == [0, 0, 0, 1, 0]


def test_an_earlier_trial_is_compared_at_the_same_epochs_as_one_that_runs(tmp_path):
    from launch import _tuning

    settings = trials.Settings(document() | {"epochs": 9}, frozenset(), tmp_path, "valid_error", "")
    study = _tuning.create_study([{"seed": i} for i in range(4)], seed=0, min_epochs=1)
    domain = _tuning.distribution("randint", 0, 4)
    earlier = [0.4, 0.3, 0.25, 0.2, 0.15, 0.12, 0.1, 0.08, 0.05]
    line = lambda epoch, error: {"epoch": epoch, "replica": 0, "valid_error": error}
    logged = lambda errors: [json.dumps(line(i, e)) + "\n" for i, e in enumerate(errors, 1)]
    for _ in range(3):
        trial = _tuning.Trial(settings, study.ask({"seed": domain}))
        (trial.path / "metrics.jsonl").write_text("".join(logged(earlier)))
        (trial.path / "result.json").write_text("{}")
        trial.end(study)
    trial = _tuning.Trial(settings, study.ask({"seed": domain}))
    for text in logged(error / 2 for error in earlier):
        with (trial.path / "metrics.jsonl").open("a") as log:
            log.write(text)
        assert trial.report() == 0  # It is better at each epoch, and worse than the others' ends.


def test_a_settled_trial_is_reported_without_a_process(settings, monkeypatch):
    from launch import _tuning

    trial, _ = asked(settings)
    monkeypatch.setattr(trials, "progress", lambda *_: [(7, np.array([0.3, 0.2]))])
    monkeypatch.setattr(_tuning.ray, "remote", lambda _: SimpleNamespace(options=no_process))
    monkeypatch.setattr(_tuning.ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 1.0}}])
    trials.note_stop(trial.path, 7)
    study = _tuning.create_study([{}], seed=0, min_epochs=1)
    _tuning.run_trials(settings, study, {}, 1, {"CPU": 1, "GPU": 0}, [])
    assert [t.value for t in study.trials] == [0.2]


def no_process(**_):
    return SimpleNamespace(remote=lambda *_: pytest.fail("a process has started"))


@pytest.mark.parametrize(
    ("domain", "values"),
    [
        (("randint", 2, 4), {2, 3}),
        (("lograndint", 2, 4), {2, 3}),
        (("choice", (8,), None, 0.5), {"(8,)", "None", 0.5}),
    ],
)
def test_a_search_draws_each_value_of_a_domain(domain, values):
    from launch import _tuning

    study = _tuning.create_study([], seed=0, min_epochs=0)
    distributions = {"x": _tuning.distribution(*domain)}
    assert {study.ask(distributions).params["x"] for _ in range(40)} == values


def test_a_search_begins_with_the_points_of_earlier_commands():
    from launch import _tuning

    points = [{"x": 0.25}, {"x": 0.5}]
    study = _tuning.create_study(points, seed=0, min_epochs=1)
    distributions = {"x": _tuning.distribution("loguniform", 0.1, 1.0)}
    assert [study.ask(distributions).params for _ in points] == points
