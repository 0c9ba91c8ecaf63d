"""Memory, open files and compilations do not grow with the number of epochs."""

import json
import os
import resource
import threading

import jax
import numpy as np
import pytest
from short_run import document, few_digits, serve

from adv_jax.runner.run import epochs, training

pytestmark = pytest.mark.slow

COMPILED = "/jax/core/compile/backend_compile_duration"


def memory() -> float:
    """Returns the resident memory in MB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6


@pytest.fixture
def watched(monkeypatch):
    """Returns a list of (compilations, MB, open files, threads) after each epoch."""
    compiled, seen = [], []

    def count(event, duration, **_):
        if event == COMPILED:
            compiled.append(duration)

    class Watched(epochs.Log):
        def epoch(self, *args, **kwargs):
            super().epoch(*args, **kwargs)
            files = len(os.listdir("/proc/self/fd"))
            seen.append((len(compiled), memory(), files, threading.active_count()))

    monkeypatch.setattr(epochs, "Log", Watched)
    jax.monitoring.register_event_duration_secs_listener(count)
    yield seen
    jax.monitoring.unregister_event_duration_listener(count)


# 10,000 epochs, each with errors and their line: with as many checkpoints 10 minutes of one core.
@pytest.mark.parametrize(
    ("epochs", "every"),
    [
        (30, 1),
        pytest.param(10_000, 1, marks=pytest.mark.exhaustive),
        pytest.param(10_000, 100, marks=pytest.mark.exhaustive),
    ],
)
def test_memory_files_threads_and_compilations_do_not_grow_with_epochs(
    epochs, every, tmp_path, capsys, monkeypatch, watched
):
    few = few_digits(80, 80)
    serve(monkeypatch, few)
    length = {"epochs": epochs, "checkpoint_every": every, "trackers": ("tensorboard",)}
    training.run(document() | length, tmp_path / "run")
    compiled, resident, files, threads = np.array(watched).T
    begun = max(3, epochs // 10)  # By then all is compiled, and buffers have their size.
    growth = resident[-1] - resident[begun]
    # Checkpoints that are being written hold some files and threads, more when the disk is slow.
    early, late = slice(begun, epochs // 2), slice(-5, None)
    more_files, more_threads = (np.median(n[late]) - np.median(n[early]) for n in (files, threads))
    report = f"{growth:.1f} MB, {more_files} files, {more_threads} threads more"
    print(f"{epochs} epochs: {report} after {compiled[-1]} compilations")
    # Only the evaluation may still be compiling beside the first epochs.
    assert compiled[0] > 0 and compiled[-1] - compiled[2] <= 1
    # TensorStore 0.1.86 keeps 220 bytes of each KvStore.Spec.to_json(), some 7 kB a checkpoint.
    assert growth < 20 + 0.01 * epochs / every and more_files <= 5 and more_threads <= 3, report
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == list(range(1, epochs + 1))
    kept = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert kept == {str(epochs - every), str(epochs)}
