"""Ray's part of a sweep: the cluster, the trials' workers, the searcher and the scheduler."""

import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from adv_jax.types import UserError
from launch import space, trials
from launch.trials import Settings

_POLL = 0.05  # seconds between two looks at a trial's log
_RETRIES = 3  # of a trial whose process or worker was killed
_STORE = 100 * 2**20  # bytes of Ray's object store on this machine: trials leave files, no objects
Resources = dict[str, float]  # {"cpu": cores, "gpu": GPUs} of a trial


@contextmanager
def cluster(address: str | None, *, cpus: int, gpus: float | None) -> Iterator[Resources]:
    """Joins a cluster, or starts Ray on this machine -> what a trial asks of it.

    Raises:
      UserError: no cluster is at the address, or none of its machines has room for a trial.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Else a worker whose driver has died kills its trial, which would save its epoch.
    os.environ.setdefault("RAY_kill_child_processes_on_worker_exit", "0")
    quiet = {"logging_level": logging.CRITICAL, "log_to_driver": False}
    for name in ("ray.tune", "ray.train", "ray.air"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # `trials` tells what went wrong.
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        if address:
            _check_cluster(address)
            ray.init(address, **quiet)
        else:
            ray.init("local", include_dashboard=False, object_store_memory=_STORE, **quiet)
    except (UserError, MemoryError):
        raise
    # Ray raises a bare Exception where its processes do not come up in time.
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"Ray did not start: {reason}") from error
    try:
        yield _share(cpus, gpus)
    finally:
        ray.shutdown()


def run_grid(
    settings: Settings, points: Sequence[space.Point], resources: Resources, storage: Path
) -> None:
    """Runs a trial at each point."""
    choice = {"point": tune.grid_search(list(points))}
    _run(settings, choice, resources, storage, tune.TuneConfig())


def run_search(
    settings: Settings,
    domains: Mapping[str, tuple],
    begun: Sequence[space.Point],
    resources: Resources,
    storage: Path,
    *,
    num_trials: int,
    min_epochs: int | None,
) -> None:
    """Runs trials at points that Optuna's TPE chooses; ASHA stops the worse ones early.

    Args:
      domains: field -> range or choice.
      begun: the points of earlier processes, which come first; what they have logged is told to
        searcher and scheduler again.
      num_trials: in all, those included.
      min_epochs: before a trial may be stopped; None: a ninth of all.
    """
    epochs = space.most_epochs(settings.config, domains)
    searcher = OptunaSearch(
        points_to_evaluate=[{f"point/{f}": v for f, v in point.items()} for point in begun],
        # Another one each time, or the points of the first time would be drawn again.
        seed=settings.config["seed"] + len(begun),
    )
    scheduler = ASHAScheduler(
        time_attr="epoch",
        max_t=epochs,
        grace_period=min_epochs or max(1, epochs // 9),
        reduction_factor=3,
        stop_last_trials=False,  # The last epoch is followed by the evaluation.
    )
    choice = {"point": {field: _domain(domain) for field, domain in domains.items()}}
    tuned = tune.TuneConfig(search_alg=searcher, scheduler=scheduler, num_samples=num_trials)
    _run(settings, choice, resources, storage, tuned)


def _run(
    settings: Settings,
    choice: dict[str, Any],
    resources: Resources,
    storage: Path,
    tuned: tune.TuneConfig,
) -> None:
    """Runs Ray Tune.

    Args:
      storage: for what Ray writes; nothing is read from it, the trials' directories tell all.

    Raises:
      UserError: Ray gives up, as on a full disk.
    """
    os.environ |= {
        "RAY_AIR_NEW_OUTPUT": "0",  # It tells of each trial whatever `verbose` says.
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_SIGINT_HANDLER": "1",  # The sweep has its own.
    }
    tuned.metric, tuned.mode, tuned.reuse_actors = "score", "min", True
    tuned.trial_dirname_creator = lambda trial: trial.trial_id
    worker = tune.with_parameters(Worker, settings=settings, resources=resources)
    shutil.rmtree(storage, ignore_errors=True)
    try:
        tune.Tuner(
            tune.with_resources(worker, resources),
            param_space=choice,
            tune_config=tuned,
            run_config=tune.RunConfig(
                storage_path=str(storage),
                name="tune",
                verbose=0,
                callbacks=[_Told(settings)],
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                failure_config=tune.FailureConfig(max_failures=_RETRIES),
            ),
        ).fit()
    except (OSError, tune.TuneError) as error:
        reason = str(error).strip().rpartition("\n")[2]
        raise UserError(f"Ray gave up: {reason}") from error
    finally:
        shutil.rmtree(storage, ignore_errors=True)


class _Told(tune.Callback):
    """Tells the user of each trial that ends, and keeps in its directory what only Ray knows."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._ended = settings, 0

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **_: Any) -> None:
        self._tell(trial, stopped=True)

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **_: Any) -> None:
        self._tell(trial, stopped=False)

    def _tell(self, trial: Any, *, stopped: bool) -> None:
        point = trial.config["point"]
        path = self._settings.path_of(point)
        if trials.status(path) == trials.INTERRUPTED:
            if stopped:
                trials.note_stop(path, trial.last_result["epoch"])
            else:
                trials.note_failure(path, f"its worker died {_RETRIES + 1} times")
        self._ended += 1
        values = trials.values_of(self._settings.config_at(point), point)
        metric, score = self._settings.metric, trial.last_result.get("score", float("inf"))
        about = f"{trials.status(path)}, {metric} {score:.4g}"
        print(f"trial {self._ended}: {path.name} {values}: {about}", flush=True)


class Worker(tune.Trainable):
    """A trial at config["point"]; one that is settled in its directory is only reported."""

    def setup(self, config: Mapping[str, Any], settings: Settings, resources: Resources) -> None:
        self._settings, self._resources = settings, resources
        self._take(config)

    def reset_config(self, new_config: Mapping[str, Any]) -> bool:
        """Takes another trial: starting a worker for each would take seconds."""
        self.cleanup()
        self._take(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Waits for the next epoch with the metric, or the end."""
        while not trials.is_settled(self._path):
            if self._process is None:
                self._process = self._start()
            status = self._process.poll()  # Before the log, which is whole if it has ended.
            if status is not None:
                return self._ended(status)
            # A long log takes as long to read as the pause is: only when it is another one.
            if (size := trials.log_size(self._path)) != self._size:
                self._size, progress = size, self._progress()
                if progress.epoch > self._epoch:
                    self._epoch = progress.epoch
                    return self._report(progress, done=False)
            time.sleep(_POLL)
        return self._report(self._progress(), done=True)

    def cleanup(self) -> None:
        """Ends the process, which saves its epoch first."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait()
            self._process = None

    def _take(self, config: Mapping[str, Any]) -> None:
        self._config = self._settings.config_at(config["point"])
        self._path = self._settings.path_of(config["point"])
        trials.prepare(self._path, self._config)
        self._process: subprocess.Popen | None = None
        self._epoch = self._size = 0

    def _start(self) -> subprocess.Popen:
        command = [sys.executable, "-m", "launch.trial", str(self._path), str(os.getpid())]
        with (self._path / "trial.log").open("ab") as log:
            return subprocess.Popen(
                command,
                cwd=self._settings.cwd,
                env=environment(self._resources, self._settings.folder.parent, os.environ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ray kills the whole group of a worker that died; the trial saves its epoch first.
                start_new_session=True,
            )

    def _ended(self, status: int) -> dict[str, Any]:
        """The last report of a process that has ended by itself.

        Raises:
          RuntimeError: a signal has ended it, so that it can go on.
        """
        self._process = None
        # A shell's 128 + signal, which adv_jax.main gives too; another status above is an error's.
        signum = -status if status < 0 else status - 128
        if status < 0 or signum in signal.valid_signals():
            raise RuntimeError(f"{self._path} was ended by signal {signum}")
        if status and not trials.failure(self._path):
            trials.note_failure(self._path, f"ended with status {status}")
        return self._report(self._progress(), done=True)

    def _progress(self) -> trials.Progress:
        return trials.progress(self._path, self._config, self._settings.metric)

    def _report(self, progress: trials.Progress, *, done: bool) -> dict[str, Any]:
        # A trial that has failed is no good, however good it was before.
        failed = done and not trials.is_settled(self._path)
        score = float("inf") if failed else progress.score(self._config["replicas"]["seeds"])
        return {"score": score, "epoch": progress.epoch, "done": done}


def environment(resources: Resources, folder: Path, inherited: Mapping[str, str]) -> dict[str, str]:
    """The environment of a trial: its share of the cores and of the memory of its GPU.

    Of a fraction of a GPU, JAX takes nine tenths of that fraction at once, so that neighbours never
    run out of each other's memory. Ray has set CUDA_VISIBLE_DEVICES. Compiled programs are kept in
    the sweep's folder: trials that differ in traced numbers only have one.
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


def _domain(domain: tuple) -> Any:
    kind, *values = domain
    if kind == "choice":
        return tune.choice([space.encode(value) for value in values])
    return getattr(tune, kind)(*values)


def _share(cpus: int, gpus: float | None) -> Resources:
    """What a trial asks for, which a machine of the cluster must have.

    Raises:
      UserError: none has it.
    """
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    most = {name: max(machine.get(name, 0.0) for machine in machines) for name in ("CPU", "GPU")}
    if gpus is None:
        gpus = min(1.0, most["GPU"])
    if cpus > most["CPU"]:
        raise UserError(f"--cpus is {cpus}; allowed are 1 to {most['CPU']:g}, those of a machine")
    if not 0 <= gpus <= most["GPU"] or (gpus > 1 and gpus % 1):
        legal = f"0 to {most['GPU']:g}, those of a machine, and above 1 whole numbers"
        raise UserError(f"--gpus is {gpus:g}; allowed are {legal}")
    return {"cpu": cpus, "gpu": gpus}


def _check_cluster(address: str) -> None:
    """Refuses what answers but is no cluster; `ray.init` would try for minutes.

    Raises:
      UserError: Ray's own command finds none there.
    """
    command = [sys.executable, "-m", "ray.scripts.scripts", "status", "--address", address]
    try:
        asked = subprocess.run(command, capture_output=True, timeout=30)
    except subprocess.TimeoutExpired:
        asked = None
    if asked is None or asked.returncode:
        other = f"what answers there is no Ray cluster of version {ray.__version__}"
        raise UserError(f"--address is {address!r}; {other}")
