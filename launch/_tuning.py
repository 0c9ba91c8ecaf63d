"""Ray's part of a sweep: the cluster, the trials' workers, the searcher and the scheduler.

Ray owns the queue of trials, their resources, the retries after a kill, the search and early
stopping. Ray kills a worker without letting it save. Each trial therefore runs in a child process:
it can save its epoch before it ends, and its errors and signals do not affect the worker.
"""

import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from adv_jax.types import UserError
from launch import _space, _trials
from launch._trials import Settings

_POLL = 0.05  # seconds between two looks at a trial's log
_RETRIES = 3  # of a trial whose process or worker was killed
_STORE = 100 * 2**20  # bytes of Ray's object store on this machine; trials keep no objects there
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_kill_child_processes_on_worker_exit": "0",  # Else a trial could not save its epoch.
    "RAY_AIR_NEW_OUTPUT": "0",  # The new output has lines for each trial even if verbose=0.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # See _OnSignal, which is for SIGTERM too.
}
Resources = dict[str, float]  # {"cpu": cores, "gpu": GPUs} of a trial
Plan = tuple[dict[str, Any], tune.TuneConfig]


@contextmanager
def cluster(address: str | None, *, cpus: int, gpus: float | None) -> Iterator[Resources]:
    """Joins a cluster, or starts Ray on this machine; yields the resources of a trial.

    Raises:
      UserError: no cluster is at the address, or none of its machines has room for a trial.
    """
    os.environ.update({**_ENVIRONMENT, **os.environ})
    logging.disable(logging.CRITICAL)  # The sweep's table reports errors; silence Ray and Optuna.
    where: dict[str, Any] = {"address": address}
    if address:
        _check_cluster(address)
    else:
        where = {"address": "local", "include_dashboard": False, "object_store_memory": _STORE}
    try:
        ray.init(**where, log_to_driver=False)
    # Ray raises a bare Exception if its processes do not start in time.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise UserError(f"Ray did not start: {reason}") from error
    try:
        yield _share(cpus, gpus)
    finally:
        ray.shutdown()


def _check_cluster(address: str) -> None:
    """Raises UserError unless a Ray cluster answers; `ray.init` would hang, then exit."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "status", "--address", address]
    try:
        subprocess.run(command, capture_output=True, timeout=30, check=True)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        # The first sentence of Ray's last line is its reason, as a missing token.
        lines = (error.stderr or b"").decode(errors="replace").strip().splitlines()
        reason = f": {lines[-1].partition('. ')[0]}" if lines else ""
        legal = f"the address of a Ray cluster of version {ray.__version__}"
        raise UserError(f"--address must be {legal}, got {address!r}{reason}") from None


def _share(cpus: int, gpus: float | None) -> Resources:
    """Returns the resources of a trial; refuses more than a machine has: Ray would wait forever."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cores, most = (max(machine.get(name, 0.0) for machine in machines) for name in ("CPU", "GPU"))
    gpus = min(1.0, most) if gpus is None else gpus
    if cpus > cores:
        raise UserError(f"--cpus must be 1 to {cores:g}, the cores of a machine, got {cpus}")
    if not 0 <= gpus <= most or (gpus > 1 and gpus % 1):
        legal = f"0 to {most:g}, the GPUs of a machine, and whole above 1"
        raise UserError(f"--gpus must be {legal}, got {gpus:g}")
    return {"cpu": cpus, "gpu": gpus}


def grid(points: Sequence[_space.Point]) -> Plan:
    """Returns a plan with a trial at each point."""
    return {"point": tune.grid_search(list(points))}, tune.TuneConfig()


def search(
    config: Mapping[str, Any],
    domains: Mapping[str, tuple],
    begun: Sequence[_space.Point],
    *,
    num_trials: int,
    min_epochs: int | None,
) -> Plan:
    """Returns a plan with trials where Optuna's TPE chooses; ASHA stops the worse ones early.

    Args:
      config: the base.
      domains: field -> range or choice.
      begun: the points of earlier commands, which come first, so that Optuna and ASHA get what
        these trials have logged.
      num_trials: total number of trials, including `begun`.
      min_epochs: epochs before ASHA may stop a trial; None: a ninth of the trial's epochs.
    """
    epochs = _space.most_epochs(config, domains)
    searcher = OptunaSearch(
        points_to_evaluate=[{f"point/{f}": v for f, v in point.items()} for point in begun],
        seed=config["seed"] + len(begun),  # The same seed would draw the same points again.
    )
    scheduler = ASHAScheduler(
        time_attr="epoch",
        max_t=epochs,
        grace_period=min_epochs or max(1, epochs // 9),
        reduction_factor=3,
        stop_last_trials=False,  # The evaluation follows the last epoch.
    )
    tuned = tune.TuneConfig(search_alg=searcher, scheduler=scheduler, num_samples=num_trials)
    return {"point": {field: _domain(*domain) for field, domain in domains.items()}}, tuned


def _domain(kind: str, *values: Any) -> Any:
    if kind == "choice":
        return tune.choice([_space.encode(value) for value in values])
    return getattr(tune, kind)(*values)


def run(
    settings: Settings, plan: Plan, resources: Resources, storage: Path, signals: list[int]
) -> None:
    """Runs the trials of a plan until all have ended or a signal number is in `signals`.

    Ray keeps its files in `storage`, which is deleted at the end.

    Raises:
      UserError: Ray has failed, for example because the disk is full.
    """
    choice, tuned = plan
    tuned.metric, tuned.mode, tuned.reuse_actors = "score", "min", True
    tuned.trial_dirname_creator = lambda trial: trial.trial_id
    worker = tune.with_parameters(Worker, settings=settings, resources=resources)
    configured = tune.RunConfig(
        storage_path=str(storage),
        name="tune",
        verbose=0,
        stop=_OnSignal(signals),
        callbacks=[_Ends(settings)],
        checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        failure_config=tune.FailureConfig(max_failures=_RETRIES),
    )
    worker = tune.with_resources(worker, resources)
    shutil.rmtree(storage, ignore_errors=True)
    try:
        tune.Tuner(worker, param_space=choice, tune_config=tuned, run_config=configured).fit()
    except (OSError, tune.TuneError) as error:
        reason = str(error).strip().rpartition("\n")[2]
        raise UserError(f"Ray gave up: {reason}") from error
    finally:
        shutil.rmtree(storage, ignore_errors=True)


class _OnSignal(tune.Stopper):
    """Stops all trials on a signal; an exception from its handler would be lost in Ray's C code."""

    def __init__(self, signals: list[int]) -> None:
        self._signals = signals

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return bool(self._signals)


class _Ends(tune.Callback):
    """Prints a line per ended trial; records early stops and final failures in its directory."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._ended = settings, 0

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **_: Any) -> None:
        path = self._settings.path_of(trial.config["point"])
        if _trials.status(path) == _trials.INTERRUPTED:
            _trials.note_stop(path, trial.last_result["epoch"])
        self._print(path, trial)

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **_: Any) -> None:
        path = self._settings.path_of(trial.config["point"])
        if _trials.status(path) == _trials.INTERRUPTED:
            error = str(trial.get_error()).strip().rpartition("\n")[2].partition(". ")[0]
            _trials.note_failure(path, f"tried {_RETRIES + 1} times: {error}")
        self._print(path, trial)

    def _print(self, path: Path, trial: Any) -> None:
        self._ended += 1
        values = _trials.values_of(path, trial.config["point"])
        score = trial.last_result.get("score", float("inf"))
        about = f"{_trials.status(path)}, {self._settings.metric} {score:.4g}"
        print(f"trial {self._ended}: {path.name} {values}: {about}", flush=True)


class Worker(tune.Trainable):
    """Reports the trial at config["point"] to Ray: each epoch, and the end."""

    def setup(self, config: Mapping[str, Any], settings: Settings, resources: Resources) -> None:
        self._settings, self._resources = settings, resources
        self._path = settings.path_of(config["point"])
        _trials.prepare(self._path, settings.config_at(config["point"]))
        self._reports = reports(self._path, settings.metric, self._start)

    def reset_config(self, new_config: Mapping[str, Any]) -> bool:
        """Takes another trial: a new worker for each would take seconds to start."""
        self.cleanup()
        # Not self.setup, which `with_parameters` has overridden.
        Worker.setup(self, new_config, self._settings, self._resources)
        return True

    def step(self) -> dict[str, Any]:
        return next(self._reports)

    def cleanup(self) -> None:
        """Stops the trial's process, if it has one, and waits until it has saved its epoch."""
        self._reports.close()

    def _start(self) -> subprocess.Popen:
        with (self._path / "trial.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "launch._trials", str(self._path)],
                cwd=self._settings.cwd,
                env=environment(self._resources, self._settings.folder.parent, os.environ),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ray kills the process group of a dead worker.
            )


def reports(path: Path, metric: str, start: Any) -> Generator[dict[str, Any]]:
    """Yields a trial's reports, while the process started by `start` runs it.

    A trial that has finished or was stopped early is not run again; only its last report follows.

    Raises:
      RuntimeError: a signal ended the process; Ray then retries the trial.
    """
    if not _trials.is_settled(path):
        with start() as process:  # Closing it closes its input, which stops the trial.
            yield from _epochs(path, metric, process)
        status = process.returncode
        # Negative: killed by a signal. 128 + signal: saved its epoch first, then exited.
        signum = -status if status < 0 else status - 128
        if signum in signal.valid_signals():
            raise RuntimeError(f"ended by signal {signum}")
        if status and not _trials.failure(path):
            _trials.note_failure(path, f"ended with status {status}")
    epoch, best = _trials.progress(path, metric)
    # Score a failed trial as inf: its last metrics may be low and would attract the search.
    score = best.min() if _trials.is_settled(path) else float("inf")
    yield {"score": float(score), "epoch": epoch, "done": True}


def _epochs(path: Path, metric: str, process: subprocess.Popen) -> Iterator[dict[str, Any]]:
    """Yields a report after each epoch with the metric, until the process ends."""
    log, size, last = path / "metrics.jsonl", 0, 0
    while process.poll() is None:
        # A long log takes as long to read as the pause is, so read it only if it has changed.
        if log.exists() and (found := log.stat().st_size) != size:
            size, (epoch, best) = found, _trials.progress(path, metric)
            if epoch > last:
                last = epoch
                yield {"score": float(best.min()), "epoch": epoch, "done": False}
        time.sleep(_POLL)


def environment(resources: Resources, folder: Path, inherited: Mapping[str, str]) -> dict[str, str]:
    """Returns the environment of a trial: its share of the cores and of the memory of its GPU.

    On a shared GPU, JAX preallocates nine tenths of the trial's share, so trials cannot exhaust
    each other's memory. Ray has set CUDA_VISIBLE_DEVICES. All trials share one compilation cache,
    in the sweep's folder.
    """
    changed = {**inherited, "PYTHONUNBUFFERED": "1"}
    changed.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder / "compiled"))
    flags = inherited.get("XLA_FLAGS", "")
    if "xla_force_host_platform_device_count" not in flags:
        count = f"--xla_force_host_platform_device_count={resources['cpu']:.0f}"
        changed["XLA_FLAGS"] = f"{flags} {count}".strip()
    if not resources["gpu"]:
        changed["CUDA_VISIBLE_DEVICES"] = ""
    elif resources["gpu"] < 1:
        changed["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{0.9 * resources['gpu']:.3f}"
    return changed
