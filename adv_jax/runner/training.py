"""The experiment: reads data, runs epochs, logs, saves, resumes, evaluates.

All side effects of a run start here.
"""

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
from adv_jax.runner import figures, inputs, learning, trained
from adv_jax.runner.checkpoint import Checkpoints, Restored
from adv_jax.runner.config import Replica, check, replicas
from adv_jax.runner.experiment import Experiment, Run
from adv_jax.runner.log import Log, print_table, require_tensorboard
from adv_jax.runner.preflight import check_fit, check_parts
from adv_jax.runner.processes import from_first, is_first, needing_all, of_any, refused_by_all
from adv_jax.runner.program import Program
from adv_jax.runner.result import document, environment, summary
from adv_jax.runner.signals import Interrupted, held_signals, on_signals, stop_at_once
from adv_jax.runner.workdir import Workdir, has_config, is_finished, writing
from adv_jax.types import LogitsFn, UserError

Metrics = dict[str, np.ndarray]  # name -> f[R, steps], or f[R, 1] of what is measured once


class Diverged(UserError):
    """A loss or a measure that is not finite."""


def run(config: Mapping[str, Any], workdir: str | Path) -> dict[str, Any]:
    """Trains and evaluates all replicas of a config, going on where the workdir stopped.

    With several processes all call this with the same arguments, and the first one writes.

    Args:
      config: a nested dict or a ConfigDict, as the files in configs/ give it.
      workdir: a new directory, or one that holds a run of the same config.

    Returns:
      What result.json holds; {} in the other processes where the run had finished before.

    Raises:
      UserError: a mistake in the config, the data or the workdir, or a loss that is not finite.
      Lost: of several processes another one has ended.
      Interrupted: SIGINT or SIGTERM came; the epochs that were finished are saved.
    """
    config = config.to_dict() if isinstance(config, ConfigDict) else config
    check(config)
    return run_checked(config, workdir)


def run_checked(config: Mapping[str, Any], workdir: str | Path) -> dict[str, Any]:
    """`run` for a config that `config.check` has passed."""
    runs = replicas(config)
    if config["tensorboard"]:
        require_tensorboard()
    # On accelerators a float32 product is otherwise rounded to 10 bits or less, and with it a
    # perturbation of .00045 to nothing.
    with (
        jax.default_matmul_precision("float32"),
        on_signals(stop_at_once),
        needing_all(),
        _told_of_memory(),
        ExitStack() as opened,
    ):
        with refused_by_all():
            has_config(Path(workdir), config)  # Refuses another one before what may take minutes.
            dataset, rows, about_data, fitted = inputs.load(config, runs, Path(workdir))
            sources: Mapping[str, LogitsFn] = {}
            if not is_finished(Path(workdir)):  # Else nothing is left to do that would need them.
                check_fit(config, dataset)
                sources = trained.sources(config, dataset)
                check_parts(config, dataset, rows, runs[0], sources)
            files = opened.enter_context(_files(workdir, config))
            finished = files.result()
        if from_first(finished is not None):
            print(f"{files.path} holds the finished run")
            return finished or {}
        files.take_data(about_data, rows, fitted)
        experiment = Experiment(config, dataset, sources)
        return _run(config, experiment, dataset, rows, runs, files)


@contextmanager
def _told_of_memory() -> Iterator[None]:
    """What does not fit into the memory of the device or of the host is the config's fault.

    Raises:
      UserError: how much was asked for, as far as the allocator says.
    """
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        line = str(error).partition("\n")[0]
        smaller = "a smaller batch_size or model, or fewer replicas; what was saved stays"
        raise UserError(f"out of memory ({line}); allowed is {smaller}") from error


@contextmanager
def _files(workdir: str | Path, config: Mapping[str, Any]) -> Iterator[Workdir]:
    """The workdir of the first process; the others have one each that is thrown away."""
    if is_first():
        with Workdir(workdir, config) as files:
            yield files
    else:
        with tempfile.TemporaryDirectory() as scratch, Workdir(scratch, config) as files:
            yield files


def _run(
    config: Mapping[str, Any],
    experiment: Experiment,
    dataset: Dataset,
    rows: dict[str, np.ndarray],
    runs: list[Replica],
    files: Workdir,
) -> dict[str, Any]:
    """`run`, once all is known to be in order -> what result.json holds."""
    program = Program(experiment, dataset, rows, runs, shards=config["replicas"]["shards"])
    state, seconds = _train(config, runs, program, files)
    # Not the steps of the state: a replica that stopped early is carried on with the others.
    epochs = Counter(line["replica"] for line in files.metrics())
    result = document(
        config,
        dataset,
        rows,
        runs,
        program.evaluate(state),
        epochs=[epochs[i] for i in range(len(runs))],
        best_epochs=program.fetch(state.best_epoch),
        seconds=seconds,
    )
    draw(files, config, result)
    files.write_result(result)
    print_table(*summary(result))
    print(f"results in {files.path}")
    return result


def _train(
    config: Mapping[str, Any], runs: list[Replica], program: Program, files: Workdir
) -> tuple[Run, float]:
    """Runs the epochs that are not done yet -> (state, seconds in all).

    Raises:
      Diverged, Interrupted, UserError.
    """
    epochs, state = config["epochs"], program.init()
    with (
        Checkpoints(files.checkpoints, kept=config["checkpoints_kept"]) as checkpoints,
        held_signals() as signals,
    ):
        restored = _restore(checkpoints, program.fetch(state))
        if restored.tree is not None:
            state = program.place(restored.tree)
        files.rewind_metrics(restored.epoch)
        stopped = program.fetch(state.stopped)
        if is_first():  # The others keep no lines of earlier processes.
            files.check_metrics(restored.epoch, stopped)
        surroundings = environment(program.num_devices)
        began = time.monotonic() - restored.notes.get("seconds", 0.0)
        epoch, running = restored.epoch, ~stopped
        with Log(files, runs, epochs=epochs, done=epoch, tensorboard=config["tensorboard"]) as log:
            for line in _told(restored, surroundings):
                log.say(line)
            while epoch < epochs and running.any():
                epoch += 1
                state, metrics = _epoch(config, epoch, state, program)
                checkpoints.check()
                _check_finite(metrics, epoch, running, runs, checkpoints)
                means = {name: values.mean(1) for name, values in metrics.items()}
                steps = program.steps_per_epoch * int(running.sum())
                log.epoch(epoch, means, running=running, steps=steps)
                running = ~program.fetch(state.stopped)
                last = epoch == epochs or not running.any()
                signum = of_any(signals[0] if signals else 0)
                if epoch % config["checkpoint_every"] == 0 or last or signum:
                    notes = {"seconds": time.monotonic() - began, "environment": surroundings}
                    tree = program.fetch(state)
                    if is_first():
                        files.sync_metrics()  # A checkpoint must not know of more epochs.
                        checkpoints.save(epoch, tree, notes)
                if signum:
                    checkpoints.finish()
                    saved = f"stopped after epoch {epoch} of {epochs}, saved in {files.path}"
                    raise Interrupted(signum, f"{saved}; the same command goes on from there")
        checkpoints.finish()
    return state, time.monotonic() - began


def _restore(checkpoints: Checkpoints, like: Run) -> Restored:
    """What the first process finds, in all processes."""
    restored = checkpoints.restore(like)
    epoch = int(from_first(np.int32(restored.epoch)))
    if not epoch:
        return restored
    tree = from_first(like if restored.tree is None else restored.tree)
    return restored._replace(epoch=epoch, tree=tree)


def _told(restored: Restored, surroundings: Mapping[str, Any]) -> list[str]:
    """What the user is told about where the run goes on, and whether all is as it was there."""
    if restored.epoch:
        before = restored.notes.get("environment", {})
        differing = [
            f"{name} was {before[name]!r} and is {now!r}"
            for name, now in surroundings.items()
            if name in before and before[name] != now
        ]
        rounding = f"results may be rounded differently from here on: {'; '.join(differing)}"
        resumed = f"resumed after epoch {restored.epoch}"
        return [*restored.warnings, *([rounding] if differing else []), resumed]
    if restored.warnings:
        return [*restored.warnings, "no checkpoint is intact: starting anew"]
    return []


def _epoch(
    config: Mapping[str, Any], epoch: int, state: Run, program: Program
) -> tuple[Run, Metrics]:
    """One epoch, and the errors after it if they are due -> (state, metrics f[R, steps or 1])."""
    state, metrics = program.epoch(state)
    if epoch % config["monitor_every"] == 0 or epoch == config["epochs"]:
        state, monitored = program.monitor(state)
        metrics |= {name: values[:, None] for name, values in monitored.items()}
    return state, metrics


def _check_finite(
    metrics: Metrics,
    epoch: int,
    running: np.ndarray,
    runs: list[Replica],
    checkpoints: Checkpoints,
) -> None:
    """Refuses to go on from a NaN or an infinity among metrics f[R, steps or 1].

    Raises:
      Diverged: names the measure, the step, the replica and the last good checkpoint.
    """
    for name in sorted(metrics, key=lambda name: name != "loss"):  # The cause first.
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
      files: of the run of that config.
      result: what its result.json holds or will hold.

    Raises:
      UserError: the system refuses to write.
    """
    title = f"{config['experiment']}, {result['data']['name']} ({result['data']['source']})"
    with writing(files.figures):
        files.figures.mkdir(exist_ok=True)
        learning.chart(learning.curves(files.metrics()), title=title).savefig(
            files.figures / "learning.png"
        )
        if result["evaluation"]:
            path = files.figures / "evaluation.png"
            figures.attack_curves(path, result["evaluation"], title=title)
