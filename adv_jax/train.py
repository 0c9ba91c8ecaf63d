"""The experiment: reads data, runs epochs, logs, saves, resumes, evaluates.

All side effects of a run start here.
"""

import importlib.metadata
import os
import platform
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from adv_jax import __version__, data
from adv_jax.checkpoint import Checkpoints
from adv_jax.config import ConfigError, Replica, leaves, replicas, validate, with_values
from adv_jax.experiment import Experiment, Run, rows_of
from adv_jax.log import Log, print_table, require_tensorboard
from adv_jax.program import Program
from adv_jax.report import figures
from adv_jax.types import UserError
from adv_jax.workdir import Workdir, writing

Metrics = dict[str, np.ndarray]  # name -> f[R]


class Diverged(UserError):
    """A loss or a measure that is not finite."""


class Interrupted(Exception):
    """A signal asked the run to stop, and what can be resumed is saved.  signum: the signal."""

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
    if config["tensorboard"]:
        require_tensorboard()
    with _on_signals(_stop_at_once):
        source = config["data"]
        dataset = data.load(source["name"], source=source["source"], dir=source["dir"])
        rows = rows_of(config, dataset, runs)
        _check_fit(config, dataset)
        _check_parts(config, dataset, rows, runs[0])
        with Workdir(workdir, config) as files:
            if (finished := files.result()) is not None:
                print(f"{files.path} holds the finished run")
                return finished
            files.write_rows(rows)
            return _run(config, dataset, rows, runs, files)


def _run(
    config: Mapping[str, Any],
    dataset: data.Dataset,
    rows: dict[str, np.ndarray],
    runs: list[Replica],
    files: Workdir,
) -> dict[str, Any]:
    """`run`, once all is known to be in order -> what result.json holds."""
    experiment = Experiment(config, dataset)
    program = Program(experiment, dataset, rows, runs, shards=config["replicas"]["shards"])
    state, seconds = _train(config, runs, program, files)
    result = {
        "experiment": config["experiment"],
        "data": _data_document(dataset, rows),
        **_measures(config, runs, state, program, files, num_test=len(dataset.test.y)),
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
    if not 1 <= shards <= len(jax.local_devices()):
        devices = f"allowed are 1 to {len(jax.local_devices())}, the devices here"
        raise ConfigError(f"replicas.shards is {shards}; {devices}")
    if batch_size % shards:
        raise ConfigError(f"replicas.shards is {shards}; it must divide batch_size, {batch_size}")
    if config["evaluation"]["attacks"] and not config["evaluation"]["eps"]:
        raise ConfigError("evaluation.eps is (); allowed are one or more numbers of at least 0")
    low = min(dataset.train.x.min(), dataset.test.x.min())
    high = max(dataset.train.x.max(), dataset.test.x.max())
    for path, bounds in leaves(config):
        if path.endswith(".bounds") and bounds is not None:
            if len(bounds) != 2 or not all(isinstance(bound, int | float) for bound in bounds):
                raise ConfigError(f"{path} is {bounds!r}; allowed are two numbers, or None")
            if not bounds[0] <= low <= high <= bounds[1]:
                raise ConfigError(f"{path} is {bounds!r}; the images go from {low:g} to {high:g}")


def _check_parts(
    config: Mapping[str, Any],
    dataset: data.Dataset,
    rows: Mapping[str, np.ndarray],
    replica: Replica,
) -> None:
    """Traces all that a replica will run: what a part refuses shows before anything is written.

    Raises:
      ConfigError: an unknown name or setting, or the part's own words.
    """
    # A shard has to ask which one it is, and only knows on its device.
    experiment = Experiment(with_values(config, {"replicas.shards": 1}), dataset)
    (x, y), (test_x, test_y) = dataset.train, dataset.test
    arrays = {"x": x, "y": y, "test_x": test_x, "test_y": test_y}
    mine = {name: values[0] for name, values in rows.items()}
    hyper = {path: np.float32(value) for path, value in replica.overrides.items()}
    epoch = np.int32(1)
    try:
        run = jax.eval_shape(experiment.init, np.int32(replica.seed), hyper)
        run, _ = jax.eval_shape(experiment.epoch, run, arrays, mine)
        run, _ = jax.eval_shape(experiment.monitor, run, epoch, arrays, mine)
        jax.eval_shape(experiment.evaluate, run, arrays, mine)
    except (TypeError, ValueError) as error:
        raise ConfigError(str(error).partition("\n")[0]) from error


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
        _held_signals() as signals,
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
            elif restored.warnings:
                log.say("no checkpoint is intact: starting anew")
            epoch, running = restored.epoch, ~program.fetch(state.stopped)
            while epoch < epochs and running.any():
                epoch += 1
                try:
                    state, metrics = _epoch(config, epoch, state, program, runs, running)
                except Diverged as error:
                    checkpoints.finish()
                    latest = checkpoints.latest()
                    raise Diverged(f"{error}; last good checkpoint: {latest}") from error
                log.epoch(epoch, metrics, running=running, steps=steps)
                running = ~program.fetch(state.stopped)
                last = epoch == epochs or not running.any()
                if epoch % config["checkpoint_every"] == 0 or last or signals:
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
    running: np.ndarray,
) -> tuple[Run, Metrics]:
    """One epoch, and the errors after it if they are due -> (state, metrics f[R]).

    Raises:
      Diverged: a running replica's loss, or what is measured after it, is not finite.
    """
    state, steps = program.epoch(state)
    loss = steps["loss"].T
    for step, i in np.argwhere(~np.isfinite(loss) & running):
        number = (epoch - 1) * len(loss) + step + 1
        raise _diverged(f"loss is {loss[step, i]} at step {number} (epoch {epoch})", i, runs)
    metrics = {name: values.mean(1) for name, values in steps.items()}
    if epoch % config["monitor_every"] == 0 or epoch == config["epochs"]:
        state, monitored = program.monitor(state, epoch)
        for name, values in monitored.items():
            for i in np.flatnonzero(~np.isfinite(values) & running):
                raise _diverged(f"{name} is {values[i]} after epoch {epoch}", int(i), runs)
        metrics |= monitored
    return state, metrics


@contextmanager
def _on_signals(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """SIGINT and SIGTERM go to the handler. Only a main thread may have one: others go without."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handled = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(signum, handler) for signum in handled]
    try:
        yield
    finally:
        for signum, earlier in zip(handled, before, strict=True):
            signal.signal(signum, earlier)


def _stop_at_once(signum: int, _: object) -> None:
    name = signal.Signals(signum).name
    raise Interrupted(signum, f"stopped by {name}; the same command goes on from what is saved")


@contextmanager
def _held_signals() -> Iterator[list[int]]:
    """A list that SIGINT and SIGTERM are put on; the second one stops the process at once."""
    received: list[int] = []

    def hold(signum: int, _: object) -> None:
        received.append(signum)
        # `print` may be what the signal interrupts, and cannot be entered twice.
        os.write(1, b"\nstopping after this epoch; the same signal again stops at once\n")
        signal.signal(signum, signal.SIG_DFL)

    with _on_signals(hold):
        yield received


def _diverged(what: str, replica: int, runs: list[Replica]) -> Diverged:
    overrides = "".join(f", {path} {value:g}" for path, value in runs[replica].overrides.items())
    return Diverged(f"{what} of replica {replica} (seed {runs[replica].seed}{overrides})")


def _measures(
    config: Mapping[str, Any],
    runs: list[Replica],
    state: Run,
    program: Program,
    files: Workdir,
    *,
    num_test: int,
) -> dict[str, Any]:
    """The entries "replicas" and "evaluation" of result.json."""
    measured = program.evaluate(state)
    best_epoch = program.fetch(state.best_epoch)
    # Not what the state has counted: a replica that stopped early is carried on with the others.
    epochs = Counter(line["replica"] for line in files.metrics())

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
            "epochs": epochs[i],
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
    with writing(files.figures):
        files.figures.mkdir(exist_ok=True)
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
    spread = f" (sd {np.std(errors, ddof=1):.3f})" if len(errors) > 1 else ""
    print_table(
        f"{result['experiment']}: test error {np.mean(errors):.3f} %{spread} on "
        f"{result['data']['sizes']['test']} examples of {result['data']['name']} "
        f"({result['data']['source']})",
        ["replica", "seed", "settings", "error %", "confidence", "epochs", "best epoch"],
        rows,
    )
    print(f"results in {files.path}")
