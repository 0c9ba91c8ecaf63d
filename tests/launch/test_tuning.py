"""A sweep's workers: what they start a trial with, and what they report of it to Ray."""

from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from launch import _trials as trials

pytestmark = pytest.mark.skipif(
    not (find_spec("ray") and find_spec("optuna")),
    reason="needs Ray and Optuna: pip install -e '.[sweep]'",
)


@pytest.mark.parametrize(
    ("resources", "inherited", "expected"),
    [
        ({"cpu": 2, "gpu": 0}, {}, {"CUDA_VISIBLE_DEVICES": ""}),
        ({"cpu": 2, "gpu": 1}, {"CUDA_VISIBLE_DEVICES": "3"}, {"CUDA_VISIBLE_DEVICES": "3"}),
        # Four trials of .225 each leave a tenth of the memory to CUDA itself.
        ({"cpu": 2, "gpu": 0.25}, {}, {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.225"}),
        ({"cpu": 2, "gpu": 0}, {"XLA_FLAGS": "--a"}, {"CUDA_VISIBLE_DEVICES": ""}),
    ],
)
def test_a_trial_gets_its_share_of_cores_and_memory(resources, inherited, expected):
    from launch import _tuning

    found = _tuning.environment(resources, Path("/sweep"), inherited)
    count = "--xla_force_host_platform_device_count=2"
    flags = f"--a {count}" if "XLA_FLAGS" in inherited else count
    common = {
        "PYTHONUNBUFFERED": "1",
        "JAX_COMPILATION_CACHE_DIR": "/sweep/compiled",
        "XLA_FLAGS": flags,
    }
    assert found == common | expected


@pytest.mark.parametrize(("status", "signum"), [(-9, 9), (-34, 34), (143, 15), (128 + 64, 64)])
def test_a_trial_that_a_signal_has_ended_is_tried_again(tmp_path, status, signum):
    with pytest.raises(RuntimeError, match=f"^ended by signal {signum}$"):
        ended(tmp_path / "trial", status)


@pytest.mark.parametrize("status", [1, 128, 128 + 65, 255])
def test_a_trial_that_ends_by_itself_has_failed_whatever_its_status(tmp_path, monkeypatch, status):
    monkeypatch.setattr(trials, "progress", lambda *_: (3, np.array([0.1])))
    path = tmp_path / "trial"
    path.mkdir()
    assert ended(path, status) == [{"score": np.inf, "epoch": 3, "done": True}]
    assert trials.failure(path) == f"ended with status {status}"


def ended(path, status):
    """The reports of a trial whose process ends with a status."""
    from launch import _tuning

    process = SimpleNamespace(poll=lambda: status, returncode=status)
    return list(_tuning.reports(path, "valid_error", lambda: nullcontext(process)))


def test_a_worker_that_waits_reads_the_log_only_when_it_has_grown(tmp_path, monkeypatch):
    from launch import _tuning

    log, sizes = tmp_path / "metrics.jsonl", iter([0, 0, 9, 9, 9, 15, 15])
    read = []

    def poll():  # The log grows between two looks; the process ends after the last.
        size = next(sizes, None)
        log.write_bytes(b"x" * (size or 0))
        return 0 if size is None else None

    def progress(path, metric):
        read.append((path / "metrics.jsonl").stat().st_size)
        return 0, np.array([np.inf])

    monkeypatch.setattr(trials, "progress", progress)
    assert list(_tuning._epochs(tmp_path, "valid_error", SimpleNamespace(poll=poll))) == []
    assert read == [9, 15]


def test_an_epoch_is_reported_once_with_the_best_point(tmp_path, monkeypatch):
    from launch import _tuning

    log, polls = tmp_path / "metrics.jsonl", iter([1, 2, 2, 3])

    def poll():
        epoch = next(polls, None)
        log.write_bytes(b"x" * (epoch or 0))
        return None if epoch else 0

    best = lambda path, metric: (log.stat().st_size, np.array([0.5, 1 / log.stat().st_size]))
    monkeypatch.setattr(trials, "progress", best)
    found = list(_tuning._epochs(tmp_path, "valid_error", SimpleNamespace(poll=poll)))
    assert [(report["epoch"], report["score"]) for report in found] == [
        *((1, 0.5), (2, 0.5)),
        (3, pytest.approx(1 / 3)),
    ]


def test_a_settled_trial_is_reported_without_a_process(tmp_path, monkeypatch):
    from launch import _tuning

    monkeypatch.setattr(trials, "progress", lambda *_: (7, np.array([0.3, 0.2])))
    trials.note_stop(tmp_path, 7)
    found = list(_tuning.reports(tmp_path, "valid_error", lambda: pytest.fail("started")))
    assert found == [{"score": 0.2, "epoch": 7, "done": True}]
