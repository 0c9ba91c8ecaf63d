"""Trains epoch by epoch: logs, saves, resumes, and stops on a signal."""

import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from adv_jax.runner.config.replicas import Replica
from adv_jax.runner.host.processes import (
    check_shared,
    from_first,
    is_first,
    max_over_processes,
    raise_on_all,
)
from adv_jax.runner.host.signals import Interrupted, held_signals
from adv_jax.runner.run.experiment import RunState
from adv_jax.runner.run.log import Log
from adv_jax.runner.run.program import Program
from adv_jax.runner.run.trackers import Tracked, Trackers
from adv_jax.runner.store.checkpoint import Checkpoints, Restored
from adv_jax.runner.store.provenance import environment
from adv_jax.runner.store.result import grid_point
from adv_jax.runner.store.workdir import Workdir
from adv_jax.types import UserError

EpochMetrics = dict[str, np.ndarray]  # name -> f[R, steps], or f[R, 1] if measured once an epoch


class Diverged(UserError):
    """A loss or a metric is not finite."""


def train(
    config: Mapping[str, Any],
    runs: list[Replica],
    program: Program,
    files: Workdir,
    ends: float,
) -> tuple[RunState, float]:
    """Runs the remaining epochs, from the newest intact checkpoint on -> (state, total seconds).

    Args:
      ends: as in `training.run`.

    Raises:
      Diverged: a loss or a metric is not finite.
      Interrupted: a signal arrived, or `ends` is near; the last epoch is saved.
      UserError: a file cannot be read or written.
    """
    epochs = config["epochs"]
    with (
        _checkpoints(files.checkpoints, config["checkpoints_kept"], program.saved) as checkpoints,
        held_signals() as signals,
    ):
        state, stopped, restored = _resumed(checkpoints, files, program)
        surroundings = environment(len(program.layout.devices))
        began = time.monotonic() - restored.notes.get("seconds", 0.0)
        epoch, running = restored.epoch, ~stopped
        program.wait()  # The time of an epoch is that of its steps.
        first = time.monotonic()
        tracked = Tracked(files.path, config, runs, epoch)
        names = config["trackers"] if is_first() else ()  # Each process has the same lines.
        with (
            Log(files, runs, epochs=epochs, done=epoch) as log,
            Trackers(names, tracked, log.say) as trackers,
        ):
            for line in _resume_messages(restored, surroundings):
                log.say(line)
            signum = 0
            while epoch < epochs and running.any() and not signum:
                epoch, started = epoch + 1, time.monotonic()
                is_monitored = epoch % config["monitor_every"] == 0 or epoch == epochs
                state, metrics = _trained(program, state, epoch, is_monitored=is_monitored)
                checkpoints.check()
                if found := _not_finite(metrics, epoch, running, runs):
                    checkpoints.finish()
                    raise Diverged(f"{found}; last good checkpoint: {checkpoints.latest()}")
                means = {name: values.mean(1) for name, values in metrics.items()}
                steps = program.steps_per_epoch * int(running.sum())
                trackers.log(log.epoch(epoch, means, running=running, steps=steps))
                running = ~program.layout.fetch(state.stopped)
                last = epoch == epochs or not running.any()
                now = time.monotonic()
                is_late = not last and 2 * now - started > ends
                signum = _stop_signal(signals, is_late=is_late)
                if epoch % config["checkpoint_every"] == 0 or last or signum:
                    notes = {
                        "seconds": now - began,
                        "epoch_seconds": (now - first) / (epoch - restored.epoch),
                        "environment": surroundings,
                    }
                    with raise_on_all():
                        files.sync_metrics()  # A checkpoint must not be ahead of metrics.jsonl.
                    checkpoints.save(epoch, program.layout.fetch_saved(state), notes)
            checkpoints.finish()
            # A signal may also arrive while the last epoch is saved.
            if signum := signum or _stop_signal(signals, is_late=False):
                saved = f"stopped after epoch {epoch} of {epochs}, saved in {files.path}"
                raise Interrupted(signum, f"{saved}; run the same command to resume")
    return state, time.monotonic() - began


def _checkpoints(directory: Path, kept: int, parts: list[range]) -> Checkpoints:
    """Opens the checkpoints in all processes.

    Raises:
      UserError: the directory cannot be used, or the processes do not share it.
    """
    with raise_on_all():
        checkpoints = Checkpoints(directory, kept=kept, parts=parts, together=raise_on_all)
    check_shared(directory)
    return checkpoints


def _resumed(
    checkpoints: Checkpoints, files: Workdir, program: Program
) -> tuple[RunState, np.ndarray, Restored]:
    """Returns the state of the newest intact checkpoint or the first one, and checks its log.

    Beside it bool[R], the replicas that have stopped, and what was restored.
    """
    state = program.init()
    restored = _restore(checkpoints, program.layout.shapes(state), program.held)
    if restored.tree is not None:
        state = program.layout.place(restored.tree)
    files.rewind_metrics(restored.epoch)
    stopped = program.layout.fetch(state.stopped)
    if is_first():  # The temporary workdirs hold no earlier lines.
        files.check_metrics(restored.epoch, stopped)
    return state, stopped, restored


def _restore(checkpoints: Checkpoints, like: RunState, replicas: range) -> Restored:
    """Restores the replicas of each process; the first one finds the newest intact checkpoint."""
    restored = Restored(0, None, {}, [])
    with raise_on_all():
        if is_first():
            restored = checkpoints.restore(like, replicas)
    epoch = int(from_first(np.int32(restored.epoch)))
    with raise_on_all():
        if epoch and not is_first():
            restored = checkpoints.restore_epoch(epoch, like, replicas)
    return restored


def _trained(
    program: Program, state: RunState, epoch: int, *, is_monitored: bool
) -> tuple[RunState, EpochMetrics]:
    """Trains for an epoch, counted from 1, and measures errors after it if it is monitored."""
    state, metrics = program.epoch(state, epoch - 1)
    if is_monitored:
        state, monitored = program.monitor(state)
        metrics |= {name: values[:, None] for name, values in monitored.items()}
    return state, metrics


def _stop_signal(signals: list[int], *, is_late: bool) -> int:
    """Returns what stops the run: one of `signals`, SIGALRM if it is late, or 0. Collective."""
    return max_over_processes(signals[0] if signals else signal.SIGALRM if is_late else 0)


def _resume_messages(restored: Restored, surroundings: Mapping[str, Any]) -> list[str]:
    """Returns the warnings, the changes of environment and the epoch to resume from."""
    if restored.epoch:
        before = restored.notes.get("environment", {})
        differing = [
            f"{name} was {before[name]!r} and is {now!r}"
            for name, now in surroundings.items()
            if name in before and before[name] != now
        ]
        rounding = f"rounding may differ from now on: {'; '.join(differing)}"
        resumed = f"resumed after epoch {restored.epoch}"
        return [*restored.warnings, *([rounding] if differing else []), resumed]
    if restored.warnings:
        return [*restored.warnings, "no checkpoint is intact: restarting from epoch 0"]
    return []


def _not_finite(metrics: EpochMetrics, epoch: int, running: np.ndarray, runs: list[Replica]) -> str:
    """Returns which metric of a running replica is NaN or infinite at which step; else ""."""
    # The loss comes first: the other metrics usually follow it.
    for name in sorted(metrics, key=lambda name: name != "loss"):
        values = metrics[name]
        bad = np.argwhere(~np.isfinite(values.T) & running)
        if not len(bad):
            continue
        step, i = bad[0]
        steps = values.shape[1]
        at = f"at step {(epoch - 1) * steps + step + 1} (epoch {epoch})"
        where = at if steps > 1 else f"after epoch {epoch}"
        settings = filter(None, (f"seed {runs[i].seed}", grid_point(runs[i]._asdict())))
        replica = f"replica {i} ({', '.join(settings)})"
        return f"{name} is {values[i, step]} {where} of {replica}"
    return ""
