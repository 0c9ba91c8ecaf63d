"""Runs an experiment: reads data, trains, logs, saves, resumes and evaluates."""

import contextlib
import math
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from adv_jax.data import Dataset
from adv_jax.runner.config import plugins
from adv_jax.runner.config.fields import check
from adv_jax.runner.config.replicas import Replica, replicas
from adv_jax.runner.host.processes import (
    check_shared,
    fail_together,
    from_first,
    is_first,
    max_over_processes,
    raise_on_all,
)
from adv_jax.runner.host.signals import Interrupted, held_signals, on_signals, stop_at_once
from adv_jax.runner.run import figures, inputs, learning_curves, pretrained, trained
from adv_jax.runner.run.experiment import Experiment, RunState
from adv_jax.runner.run.log import Log, print_table, require_tensorboard
from adv_jax.runner.run.preflight import check_fit, check_parts
from adv_jax.runner.run.program import Program
from adv_jax.runner.store.checkpoint import Checkpoints, Restored
from adv_jax.runner.store.result import document, environment, remarks, summary
from adv_jax.runner.store.workdir import Workdir, check_same_config, is_finished
from adv_jax.runner.store.writing import writing
from adv_jax.types import LogitsFn, UserError

EpochMetrics = dict[str, np.ndarray]  # name -> f[R, steps], or f[R, 1] if measured once an epoch


class Diverged(UserError):
    """A loss or a metric is not finite."""


def run(
    config: Mapping[str, Any], workdir: str | Path, *, ends: float = math.inf
) -> dict[str, Any]:
    """Trains and evaluates all replicas of a config; resumes from the workdir's last checkpoint.

    Collective: all processes call it with the same arguments. Only the first process writes.

    Args:
      config: a nested dict or a ConfigDict, such as the files in configs/ return.
      workdir: a new directory, or one that holds a run of the same config.
      ends: reading of time.monotonic(), in seconds. An epoch does not begin if, taking as long as
        the one before, it would end later. The first epoch of a call always begins.

    Returns:
      The contents of result.json. If the run had already finished, only the first process returns
      them; the others return {}.

    Raises:
      UserError: the config, the data or the workdir is invalid.
      Diverged: a loss or a metric is not finite.
      Lost: another process has ended.
      Interrupted: SIGINT or SIGTERM arrived, or `ends` is near (SIGALRM); all finished epochs are
        saved.
    """
    config = config.to_dict() if isinstance(config, ConfigDict) else config
    check(config)
    return run_checked(config, workdir, ends=ends)


def run_checked(
    config: Mapping[str, Any], workdir: str | Path, *, ends: float = math.inf
) -> dict[str, Any]:
    """Runs a config that has already been checked by `config.fields.check`; see `run`."""
    runs = replicas(config)
    if config["tensorboard"]:
        require_tensorboard()
    # By default accelerators round float32 products to 10 bits or less, which loses eps = .00045.
    with (
        jax.default_matmul_precision("float32"),
        on_signals(stop_at_once),
        fail_together(),
        _out_of_memory_as_user_error(),
        ExitStack() as opened,
    ):
        with raise_on_all():
            config = plugins.recorded(config)
            # Loading data may take minutes: fail first if the workdir holds another config.
            check_same_config(Path(workdir), config)
            dataset, rows, about_data, fitted = inputs.load_to_train(config, runs, Path(workdir))
            sources: Mapping[str, LogitsFn] = {}
            starts, start_sha256 = {}, ""
            if not is_finished(Path(workdir)):
                check_fit(config, dataset)
                sources = trained.sources(config, dataset)
                start_sha256 = pretrained.checked_sha256(config, Path(workdir))
                starts = pretrained.starts(config, runs)
                check_parts(config, dataset, rows, runs[0], sources, starts)
            files = opened.enter_context(_files(workdir, config))
            finished = files.result()
        if from_first(finished is not None):
            print(f"{files.path} holds the finished run")
            return finished or {}
        files.record_data(about_data, rows, fitted)
        pretrained.record(files.path, start_sha256)
        experiment = Experiment(config, dataset, sources)
        return _run(config, experiment, dataset, rows, runs, starts, files, ends)


def compile_ahead(config: Mapping[str, Any], workdir: Path) -> None:
    """Compiles the programs of a run, for JAX's cache of compiled programs; writes nothing else.

    A run that cannot start is left alone: `run` says why.
    """
    runs = replicas(config)
    with jax.default_matmul_precision("float32"), contextlib.suppress(UserError):
        dataset, rows, _, _ = inputs.load(config, runs, workdir)
        sources = trained.sources(config, dataset)
        starts = pretrained.starts(config, runs)
        experiment = Experiment(config, dataset, sources)
        shards = config["replicas"]["shards"]
        program = Program(experiment, dataset, rows, runs, shards=shards, starts=starts)
        program.compile(wait=True)


@contextmanager
def _out_of_memory_as_user_error() -> Iterator[None]:
    """Raises UserError if the device or the host runs out of memory."""
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        line = str(error).partition("\n")[0]
        remedy = "reduce batch_size, the model or the replicas; saved epochs are kept"
        raise UserError(f"out of memory ({line}); {remedy}") from error


@contextmanager
def _files(workdir: str | Path, config: Mapping[str, Any]) -> Iterator[Workdir]:
    """Opens the workdir in the first process and a temporary one in each other process.

    All processes have the same checkpoints.
    """
    if is_first():
        with Workdir(workdir, config) as files:
            yield files
    else:
        with tempfile.TemporaryDirectory() as scratch, Workdir(scratch, config) as files:
            files.checkpoints = Path(workdir) / "checkpoints"  # Each process writes its replicas.
            yield files


def _run(
    config: Mapping[str, Any],
    experiment: Experiment,
    dataset: Dataset,
    rows: dict[str, np.ndarray],
    runs: list[Replica],
    starts: Mapping[str, Any],
    files: Workdir,
    ends: float,
) -> dict[str, Any]:
    """Trains and evaluates after all checks -> the contents of result.json."""
    shards = config["replicas"]["shards"]
    program = Program(experiment, dataset, rows, runs, shards=shards, starts=starts)
    program.compile()
    state, seconds = _train(config, runs, program, files, ends)
    measured = program.evaluate(state)
    # Count logged epochs: the step count of a replica also grows after it has stopped early.
    epochs = Counter(line["replica"] for line in files.metrics())
    result = document(
        config,
        dataset,
        rows,
        runs,
        measured,
        epochs=[epochs[i] for i in range(len(runs))],
        best_epochs=program.fetch(state.best_epoch),
        seconds=seconds,
    )
    draw(files, config, result)
    files.write_result(result)
    print_table(*summary(result, experiment.predicts))
    if result["evaluation"]:
        eps, tested = config["evaluation"]["eps"], len(dataset.test.y)
        for line in remarks(experiment.attacks, measured, eps, files.path, tested):
            print(line)
    print(f"results in {files.path}")
    return result


def _train(
    config: Mapping[str, Any],
    runs: list[Replica],
    program: Program,
    files: Workdir,
    ends: float,
) -> tuple[RunState, float]:
    """Runs the remaining epochs -> (state, total seconds).

    Raises:
      Diverged, Interrupted, UserError.
    """
    epochs, state = config["epochs"], program.init()
    with (
        _checkpoints(files.checkpoints, config["checkpoints_kept"], program.saved) as checkpoints,
        held_signals() as signals,
    ):
        restored = _restore(checkpoints, program.shapes(state), program.held)
        if restored.tree is not None:
            state = program.place(restored.tree)
        files.rewind_metrics(restored.epoch)
        stopped = program.fetch(state.stopped)
        if is_first():  # The temporary workdirs hold no earlier lines.
            files.check_metrics(restored.epoch, stopped)
        surroundings = environment(program.num_devices)
        began = time.monotonic() - restored.notes.get("seconds", 0.0)
        epoch, running = restored.epoch, ~stopped
        with Log(files, runs, epochs=epochs, done=epoch, tensorboard=config["tensorboard"]) as log:
            for line in _resume_messages(restored, surroundings):
                log.say(line)
            while epoch < epochs and running.any():
                epoch, started = epoch + 1, time.monotonic()
                state, metrics = _epoch(config, epoch, state, program)
                checkpoints.check()
                _check_finite(metrics, epoch, running, runs, checkpoints)
                means = {name: values.mean(1) for name, values in metrics.items()}
                steps = program.steps_per_epoch * int(running.sum())
                log.epoch(epoch, means, running=running, steps=steps)
                running = ~program.fetch(state.stopped)
                last = epoch == epochs or not running.any()
                now = time.monotonic()
                is_late = not last and 2 * now - started > ends
                stop = signals[0] if signals else signal.SIGALRM if is_late else 0
                signum = max_over_processes(stop)
                if epoch % config["checkpoint_every"] == 0 or last or signum:
                    notes = {"seconds": time.monotonic() - began, "environment": surroundings}
                    with raise_on_all():
                        files.sync_metrics()  # A checkpoint must not be ahead of metrics.jsonl.
                    checkpoints.save(epoch, program.fetch_saved(state), notes)
                if signum:
                    checkpoints.finish()
                    saved = f"stopped after epoch {epoch} of {epochs}, saved in {files.path}"
                    raise Interrupted(signum, f"{saved}; run the same command to resume")
        checkpoints.finish()
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


def _epoch(
    config: Mapping[str, Any], epoch: int, state: RunState, program: Program
) -> tuple[RunState, EpochMetrics]:
    """Trains one epoch and, if due, measures clean errors -> (state, metrics f[R, steps or 1])."""
    state, metrics = program.epoch(state, epoch - 1)
    if epoch % config["monitor_every"] == 0 or epoch == config["epochs"]:
        state, monitored = program.monitor(state)
        metrics |= {name: values[:, None] for name, values in monitored.items()}
    return state, metrics


def _check_finite(
    metrics: EpochMetrics,
    epoch: int,
    running: np.ndarray,
    runs: list[Replica],
    checkpoints: Checkpoints,
) -> None:
    """Raises Diverged if a running replica has a NaN or an infinity in f[R, steps or 1].

    The message names the metric, the step, the replica and the last good checkpoint.
    """
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
        overrides = "".join(f", {path} {value:g}" for path, value in runs[i].overrides.items())
        checkpoints.finish()
        raise Diverged(
            f"{name} is {values[i, step]} {where} of replica {i} (seed {runs[i].seed}"
            f"{overrides}); last good checkpoint: {checkpoints.latest()}"
        )


def draw(files: Workdir, config: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """Writes figures/learning.png and, if attacks were evaluated, figures/evaluation.png.

    Args:
      files: the run's workdir.
      result: the contents of its result.json.

    Raises:
      UserError: a figure cannot be written.
    """
    title = f"{config['experiment']}, {result['data']['name']} ({result['data']['source']})"
    with writing(files.figures):
        files.figures.mkdir(exist_ok=True)
        learning_curves.chart(learning_curves.curves(files.metrics()), title=title).savefig(
            files.figures / "learning.png"
        )
        if result["evaluation"]:
            path = files.figures / "evaluation.png"
            figures.attack_curves(path, result["evaluation"], title=title)
