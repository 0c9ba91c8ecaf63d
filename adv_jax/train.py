"""The experiment: reads data, runs epochs, logs, saves, resumes, evaluates.

All side effects of a run start here.
"""

import importlib.metadata
import math
import platform
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from adv_jax import __version__, data
from adv_jax.checkpoint import Checkpoints
from adv_jax.config import ConfigError, Replica, leaves, replicas, validate
from adv_jax.experiment import Experiment, Run, rows_of
from adv_jax.log import Log, print_table
from adv_jax.program import Program
from adv_jax.report import figures
from adv_jax.types import UserError
from adv_jax.workdir import Workdir

Metrics = dict[str, np.ndarray]  # name -> f[R]


class Diverged(UserError):
    """A loss that is not finite."""


class Interrupted(Exception):
    """A signal asked the run to stop, and all of it is saved.  signum: the signal."""

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.signum = signum


def run(config: Mapping[str, Any], workdir: str | Path) -> dict[str, Any]:
    """Trains and evaluates all replicas of a config, going on where the workdir stopped.

    Args:
      config: a nested dict, as the files in configs/ give it.
      workdir: a new directory, or one that holds a run of the same config.

    Returns:
      What result.json holds.

    Raises:
      UserError: a mistake in the config, the data or the workdir, or a loss that is not finite.
      Interrupted: SIGINT or SIGTERM came; the epochs that were finished are saved.
    """
    validate(config)
    runs = replicas(config)
    source = config["data"]
    dataset = data.load(source["name"], source=source["source"], dir=source["dir"])
    _check_fit(config, dataset)
    rows = rows_of(config, dataset, runs)
    experiment = Experiment(config, dataset)
    files = Workdir(workdir, config)
    if (finished := files.result()) is not None:
        print(f"{files.path} holds the finished run")
        return finished
    files.write_rows(rows)
    program = Program(experiment, dataset, rows, runs, shards=config["replicas"]["shards"])
    state, seconds = _train(config, runs, program, files)
    result = {
        "experiment": config["experiment"],
        "data": _data_document(dataset, rows),
        **_measures(config, runs, state, program, num_test=len(dataset.test.y)),
        "seconds": round(seconds, 1),
        **_provenance(),
    }
    _draw(files, config, result)
    files.write_result(result)
    _print(files, result)
    return result


def _check_fit(config: Mapping[str, Any], dataset: data.Dataset) -> None:
    """Refuses sizes and bounds that do not fit the data.

    Raises:
      ConfigError: names the field.
    """
    train = len(dataset.train.y) - config["data"]["num_valid"]
    batch_size, shards = config["batch_size"], config["replicas"]["shards"]
    if not batch_size <= train:
        raise ConfigError(f"batch_size is {batch_size}; allowed are 1 to {train}, the training set")
    if batch_size % shards:
        raise ConfigError(f"replicas.shards is {shards}; it must divide batch_size, {batch_size}")
    low = min(dataset.train.x.min(), dataset.test.x.min())
    high = max(dataset.train.x.max(), dataset.test.x.max())
    for path, bounds in leaves(config):
        if path.endswith(".bounds") and bounds and not bounds[0] <= low <= high <= bounds[1]:
            raise ConfigError(f"{path} is {bounds!r}; the images go from {low:g} to {high:g}")


def _train(
    config: Mapping[str, Any], runs: list[Replica], program: Program, files: Workdir
) -> tuple[Run, float]:
    """Runs the epochs that are not done yet -> (state, seconds in all).

    Raises:
      Diverged, Interrupted, UserError.
    """
    epochs, steps = config["epochs"], program.steps_per_epoch * len(runs)
    state = program.init()
    with (
        Checkpoints(files.checkpoints, kept=config["checkpoints_kept"]) as checkpoints,
        _stop_signals() as signals,
    ):
        restored = checkpoints.restore(program.fetch(state))
        if restored.tree is not None:
            state = program.place(restored.tree)
        files.rewind_metrics(restored.epoch)
        began = time.monotonic() - restored.notes.get("seconds", 0.0)
        tensorboard = config["tensorboard"]
        with Log(files, runs, epochs=epochs, done=restored.epoch, tensorboard=tensorboard) as log:
            for warning in restored.warnings:
                log.say(warning)
            if restored.epoch:
                log.say(f"resumed after epoch {restored.epoch}")
            for epoch in range(restored.epoch + 1, epochs + 1):
                running = ~program.fetch(state.stopped)
                if not running.any():
                    break
                state, metrics = _epoch(config, epoch, state, program, runs, checkpoints)
                log.epoch(epoch, metrics, running=running, steps=steps)
                if epoch % config["checkpoint_every"] == 0 or epoch == epochs or signals:
                    notes = {"seconds": time.monotonic() - began}
                    checkpoints.save(epoch, program.fetch(state), notes)
                if signals:
                    checkpoints.finish()
                    saved = f"stopped after epoch {epoch} of {epochs}, saved in {files.path}"
                    raise Interrupted(signals[0], f"{saved}; the same command goes on from there")
        checkpoints.finish()
    return state, time.monotonic() - began


def _epoch(
    config: Mapping[str, Any],
    epoch: int,
    state: Run,
    program: Program,
    runs: list[Replica],
    checkpoints: Checkpoints,
) -> tuple[Run, Metrics]:
    """One epoch, and the errors after it if they are due -> (state, metrics f[R]).

    Raises:
      Diverged: the loss is not finite.
    """
    state, steps = program.epoch(state)
    _check_finite(steps["loss"], runs, epoch, checkpoints)
    metrics = {name: values.mean(1) for name, values in steps.items()}
    if epoch % config["monitor_every"] == 0 or epoch == config["epochs"]:
        state, monitored = program.monitor(state, epoch)
        metrics |= monitored
    return state, metrics


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """A list that SIGINT and SIGTERM are put on; the second one stops the process at once."""
    received: list[int] = []
    handled = (signal.SIGINT, signal.SIGTERM)
    before = {signum: signal.getsignal(signum) for signum in handled}

    def on_signal(signum: int, _: object) -> None:
        received.append(signum)
        print("\nstopping after this epoch; the same signal again stops at once", flush=True)
        signal.signal(signum, signal.SIG_DFL)

    for signum in handled:
        signal.signal(signum, on_signal)
    try:
        yield received
    finally:
        for signum in handled:
            signal.signal(signum, before[signum])


def _check_finite(
    loss: np.ndarray, runs: list[Replica], epoch: int, checkpoints: Checkpoints
) -> None:
    """Refuses to go on from a loss f[R, steps] that is infinite or NaN.

    Raises:
      Diverged: names the replica, the step and the last good checkpoint.
    """
    bad = np.argwhere(~np.isfinite(loss))
    if not len(bad):
        return
    checkpoints.finish()
    replica, step = min(map(tuple, bad), key=lambda where: where[1])
    overrides = "".join(f", {path} {value:g}" for path, value in runs[replica].overrides.items())
    raise Diverged(
        f"loss is {loss[replica, step]} at step {(epoch - 1) * loss.shape[1] + step + 1} (epoch "
        f"{epoch}) of replica {replica} (seed {runs[replica].seed}{overrides}); last good "
        f"checkpoint: {checkpoints.latest()}"
    )


def _measures(
    config: Mapping[str, Any], runs: list[Replica], state: Run, program: Program, *, num_test: int
) -> dict[str, Any]:
    """The entries "replicas" and "evaluation" of result.json."""
    measured = program.evaluate(state)
    best_epoch, steps = program.fetch((state.best_epoch, state.state.step))

    def error(accuracy: np.ndarray) -> np.ndarray:
        """As a fraction with the exact denominator, which float32 has not kept."""
        return np.round((1 - accuracy.astype(float)) * num_test) / num_test

    errors, confidence = error(measured["clean"]["accuracy"]), measured["clean"]["confidence"]
    listed = [
        {
            "seed": replica.seed,
            "overrides": replica.overrides,
            "test_error": errors[i],
            "confidence": float(confidence[i]),
            "epochs": int(steps[i]) // program.steps_per_epoch,
            "best_epoch": int(best_epoch[i]) or None,
        }
        for i, replica in enumerate(runs)
    ]
    evaluation = {
        attack: {
            "eps": list(config["evaluation"]["eps"]),
            "error": error(curve.pop("accuracy")).tolist(),
        }
        | {name: values.tolist() for name, values in curve.items()}
        for attack, curve in measured.get("attacks", {}).items()
    }
    return {"replicas": listed, "evaluation": evaluation}


def _data_document(dataset: data.Dataset, rows: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return {
        "name": dataset.name,
        "source": dataset.source,
        "sha256": dataset.sha256,
        "sizes": {name: int(r.shape[1]) for name, r in rows.items()}
        | {"test": len(dataset.test.y)},
    }


def _provenance() -> dict[str, Any]:
    """What the numbers came from: packages, device, commit (None outside a checkout)."""
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    versions = {name: importlib.metadata.version(name) for name in packages}
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = None
    return {
        "versions": {"python": platform.python_version(), "adv_jax": __version__, **versions},
        "device": jax.devices()[0].device_kind,
        "git": commit,
    }


def _draw(files: Workdir, config: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """figures/learning.png and, if attacks were evaluated, figures/evaluation.png."""
    title = f"{config['experiment']}, {result['data']['name']} ({result['data']['source']})"
    figures.learning_curves(files.figures / "learning.png", files.metrics(), title=title)
    if result["evaluation"]:
        path = files.figures / "evaluation.png"
        figures.attack_curves(path, result["evaluation"], title=title)


def _print(files: Workdir, result: Mapping[str, Any]) -> None:
    """The closing table: a row for each replica, and the mean and sample sd over them."""
    rows = [
        [
            i,
            replica["seed"],
            ", ".join(f"{path}={value:g}" for path, value in replica["overrides"].items()) or "-",
            f"{100 * replica['test_error']:.2f}",
            f"{replica['confidence']:.4f}",
            replica["epochs"],
            replica["best_epoch"] or "-",
        ]
        for i, replica in enumerate(result["replicas"])
    ]
    errors = [100 * replica["test_error"] for replica in result["replicas"]]
    sd = float(np.std(errors, ddof=1)) if len(errors) > 1 else math.nan
    print_table(
        f"{result['experiment']}: test error {np.mean(errors):.3f} % (sd {sd:.3f}) on "
        f"{result['data']['sizes']['test']} examples of {result['data']['name']} "
        f"({result['data']['source']})",
        ["replica", "seed", "settings", "error %", "confidence", "epochs", "best epoch"],
        rows,
    )
    print(f"results in {files.path}")
