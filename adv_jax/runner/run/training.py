"""Runs a config: prepares, trains, evaluates, and writes the result."""

import contextlib
import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from adv_jax.runner.config.fields import check
from adv_jax.runner.host.numerics import same_numerics
from adv_jax.runner.host.processes import fail_together, from_first, is_first, raise_on_all
from adv_jax.runner.host.signals import on_signals, stop_at_once
from adv_jax.runner.run import figures, sources, trackers
from adv_jax.runner.run.epochs import train
from adv_jax.runner.run.experiment import Experiment
from adv_jax.runner.run.log import print_table
from adv_jax.runner.run.preparing import Prepared, prepared
from adv_jax.runner.store.result import audited, document, remarks, summary, under_attack
from adv_jax.runner.store.workdir import Workdir, is_finished
from adv_jax.runner.store.writing import scratch
from adv_jax.types import UserError


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
    trackers.check(config["trackers"])
    with (
        same_numerics(),
        on_signals(stop_at_once),
        fail_together(),
        _out_of_memory_as_user_error(),
        ExitStack() as opened,
    ):
        with raise_on_all():
            ready = prepared(config, Path(workdir))
            files = opened.enter_context(_files(workdir, ready.config))
            finished = files.result()
        if from_first(finished is not None):
            print(f"{files.path} holds the finished run")
            if finished:
                _show(finished, Experiment(ready.config, ready.inputs.dataset), files.path)
            return finished or {}
        with raise_on_all():
            files.record_data(ready.inputs.document, ready.inputs.rows, ready.inputs.fitted)
            sources.record(files.path, ready.sha256)
            if ready.config["model"].get("weights"):
                files.record_weights({name: a[0] for name, a in ready.starts.items()})
        return _trained_and_evaluated(ready, files, ends)


def _trained_and_evaluated(ready: Prepared, files: Workdir, ends: float) -> dict[str, Any]:
    """Trains and evaluates -> the contents of result.json."""
    config, data = ready.config, ready.inputs.document
    experiment, program = ready.program()
    program.compile()
    state, seconds = train(config, ready.runs, program, files, ends)
    under = f" under {', '.join(experiment.attacks)}" if experiment.attacks else ""
    print(f"evaluating {data['sizes']['test']:,} test examples{under}", flush=True)
    measured = program.evaluate(state)
    result = document(
        config,
        data,
        ready.runs,
        measured,
        epochs=program.layout.fetch(state.state.step) // program.steps_per_epoch,
        best_epochs=program.layout.fetch(state.best_epoch),
        seconds=seconds,
    )
    if result["evaluation"]:
        eps, y = config["evaluation"]["eps"], ready.inputs.dataset.test[1]
        result["warnings"] = audited(experiment.attacks, measured, eps, y)
    figures.draw(files, config, result)
    files.write_result(result)
    _show(result, experiment, files.path)
    print(f"results in {files.path}")
    return result


def _show(result: Mapping[str, Any], experiment: Experiment, workdir: Path) -> None:
    """Prints the tables of a result, and what to read beside them."""
    print_table(*summary(result, experiment.predicts))
    if result["evaluation"]:
        print_table(*under_attack(result, experiment.attacks))
        for line in remarks(result, experiment.attacks, workdir):
            print(line)


def compile_ahead(config: Mapping[str, Any], workdir: Path) -> None:
    """Compiles the programs of a run, for JAX's cache of compiled programs; writes nothing else.

    A run that has ended is left alone, and so is one that cannot start: `run` says why.
    """
    if is_finished(workdir):
        return
    with (
        same_numerics(),
        contextlib.suppress(UserError),
        _out_of_memory_as_user_error(),
    ):
        _, program = prepared(config, workdir).program()
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
        with scratch() as folder, Workdir(folder, config) as files:
            files.checkpoints = Path(workdir) / "checkpoints"  # Each process writes its replicas.
            yield files
