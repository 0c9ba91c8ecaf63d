"""Runs the trials of a sweep: Optuna chooses their points and stops some early, Ray runs them.

Ray owns their resources and the retries after a kill. A trial runs in a child process of its Ray
worker: Ray ends a worker without a signal on which the trial could save its epoch, and a process
cannot change JAX's devices or give back the memory of a GPU.
"""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import ray
from optuna import distributions, pruners, samplers
from ray.exceptions import RayError

from adv_jax.runner.run import trackers
from adv_jax.types import UserError
from launch import _space, _trials
from launch._trials import Settings

_POLL = 0.1  # seconds between two looks at the trials that run
_RETRIES = 3  # of a trial whose process or worker was killed
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_kill_child_processes_on_worker_exit": "0",  # Else a trial could not save its epoch.
    "RAY_enable_output_error_log_if_still_retry": "0",
    "RAY_task_oom_retries": str(_RETRIES),  # By default Ray retries forever.
}
Resources = dict[str, float]  # {"CPU": cores, "GPU": GPUs} of a trial


@contextmanager
def cluster(address: str | None, *, cpus: int, gpus: float | None) -> Iterator[Resources]:
    """Joins a cluster, or starts Ray on this machine; yields the resources of a trial.

    Raises UserError if Ray does not start or breaks down, or if no machine has room for a trial.
    """
    os.environ.update({**_ENVIRONMENT, **os.environ})
    logging.disable(logging.CRITICAL)  # The sweep's table reports errors; silence Ray and Optuna.
    # Trials keep no objects in Ray's store, so it has the least size that Ray allows.
    local = {"address": "local", "include_dashboard": False, "object_store_memory": 100 * 2**20}
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**{"address": address} if address else local, log_to_driver=False)
        signal.signal(signal.SIGTERM, on_sigterm)  # Ray's own handler would abort.
    # Ray raises a bare Exception if its processes do not start in time.
    except Exception as error:
        raise UserError(f"Ray did not start: {type(error).__name__}: {_line(error, 0)}") from error
    try:
        resources = {"CPU": cpus, "GPU": min(1.0, _most("GPU")) if gpus is None else gpus}
        for name, amount in resources.items():
            if amount > _most(name) or (amount > 1 and amount % 1):
                legal = f"at most {_most(name):g}, the {name}s of a machine, and whole above 1"
                raise UserError(f"--{name.lower()}s must be {legal}, got {amount:g}")
        yield resources
    except RayError as error:
        raise UserError(f"Ray gave up: {_line(error, -1)}") from error
    finally:
        ray.shutdown()


def create_study(
    points: Iterable[Mapping[str, Any]], *, seed: int, min_epochs: int
) -> optuna.Study:
    """Returns a study by TPE whose first trials are at `points`.

    ASHA stops the worse two thirds of its trials after `min_epochs`, and again after each three
    times as many; 0: it stops none.
    """
    pruner = pruners.SuccessiveHalvingPruner(min_epochs, 3) if min_epochs else pruners.NopPruner()
    created = optuna.create_study(sampler=samplers.TPESampler(seed=seed), pruner=pruner)
    for point in points:
        created.enqueue_trial(dict(point))
    return created


def run_trials(
    settings: Settings,
    study: optuna.Study,
    domains: Mapping[str, tuple],
    num_trials: int,
    resources: Resources,
    signals: list[int],
) -> None:
    """Runs trials of a study, or reports settled ones, until all have ended.

    Stops the trials early if a handler puts a signal into `signals`: an exception from the handler
    would be lost in Ray's C code.
    """
    process = ray.remote(run_process).options(
        num_cpus=resources["CPU"],
        num_gpus=resources["GPU"],
        max_retries=_RETRIES,
        retry_exceptions=[RuntimeError],
    )
    space = {field: distribution(*domain) for field, domain in domains.items()}
    running: dict[Any, Trial] = {}
    begun = 0
    while (begun < num_trials or running) and not signals:
        while begun < num_trials and len(running) < _room(resources):
            begun += 1
            trial = Trial(settings, study.ask(space))
            if _trials.is_settled(trial.path):
                trial.end(study)
            else:
                running[process.remote(trial.path, settings, resources)] = trial
        for task, trial in running.items():
            if epoch := trial.report():
                _trials.note_stop(trial.path, epoch)
                ray.cancel(task)
        for task in ray.wait([*running], timeout=_POLL)[0] if running else ():
            try:
                ray.get(task)
            except RayError as error:
                if _trials.status(running[task].path) == _trials.INTERRUPTED:
                    _trials.note_failure(running[task].path, _line(error, -1).partition(". ")[0])
            running.pop(task).end(study)
    for task in running:
        ray.cancel(task)
    if running:
        ray.wait([*running], num_returns=len(running))


class Trial:
    """A trial of a study, in its directory."""

    def __init__(self, settings: Settings, trial: optuna.Trial) -> None:
        config = settings.config_at(trial.params)
        self.path = settings.path_of(trial.params)
        self._trial, self._metric, self._epochs = trial, settings.metric, config["epochs"]
        self._size = self._epoch = 0
        _trials.prepare(self.path, config)

    def report(self) -> int:
        """Reports new epochs; returns the first at which the study stops the trial, or 0.

        The study compares trials at the same epochs, so it learns each epoch of earlier trials too.
        """
        log = self.path / "metrics.jsonl"
        size = log.stat().st_size if log.exists() else 0
        if size == self._size:  # A long log takes as long to read as the pause is.
            return 0
        self._size, stopped = size, 0
        for epoch, best in _trials.progress(self.path, self._metric):
            if epoch > self._epoch:
                self._epoch = epoch
                self._trial.report(float(best.min()), epoch)
                stops = self._trial.should_prune()  # Always asked, as the study notes the epoch.
                stopped = stopped or (epoch if stops else 0)
        # The evaluation follows the last epoch, so a trial does not stop there.
        is_over = self._epoch >= self._epochs or _trials.is_settled(self.path)
        return 0 if is_over else stopped

    def end(self, study: optuna.Study) -> None:
        """Reports the score of a trial that has ended, and prints it."""
        self.report()
        # The score of a failed trial is inf: its last metrics may be low and attract the search.
        score = float("inf")
        if _trials.is_settled(self.path):
            score = float(_trials.progress(self.path, self._metric)[-1][1].min())
        study.tell(self._trial, score)
        values = _trials.values_of(self.path, self._trial.params)
        about = f"{_trials.status(self.path)}, {self._metric} {score:.4g}"
        print(f"trial {self._trial.number + 1}: {self.path.name} {values}: {about}", flush=True)


def run_process(path: Path, settings: Settings, resources: Resources) -> None:
    """Runs the process of a trial. If Ray cancels the task, the process saves its epoch first.

    Raises:
      RuntimeError: a signal ended the process; Ray then retries the trial.
    """
    with (path / "trial.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "launch._process", str(path)],
            cwd=settings.cwd,
            env=trial_environment(resources, settings.folder.parent, os.environ),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ray kills the process group of a dead worker.
        )
    try:
        while process.poll() is None:  # Ray's KeyboardInterrupt does not end `process.wait()`.
            time.sleep(_POLL)
    finally:
        process.communicate()  # Closes its input, which stops the trial; waits.
    status = process.returncode
    # Negative: killed by a signal. 128 + signal: saved its epoch first, then exited.
    signum = -status if status < 0 else status - 128
    if signum in signal.valid_signals():
        raise RuntimeError(f"ended by signal {signum}")
    if status and not _trials.failure(path):
        _trials.note_failure(path, f"ended with status {status}")


def trial_environment(
    resources: Resources, folder: Path, inherited: Mapping[str, str]
) -> dict[str, str]:
    """Returns the environment of a trial: its share of the cores and of the memory of its GPU.

    On a shared GPU, JAX preallocates nine tenths of the trial's share, so trials cannot exhaust
    each other's memory. Ray has set CUDA_VISIBLE_DEVICES. All trials share one compilation cache,
    in the sweep's folder, and are one experiment of a tracker.
    """
    changed = {**trackers.shared(folder), **inherited, "PYTHONUNBUFFERED": "1"}
    changed.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder / "compiled"))
    flags = inherited.get("XLA_FLAGS", "")
    if "xla_force_host_platform_device_count" not in flags:
        count = f"--xla_force_host_platform_device_count={resources['CPU']:.0f}"
        changed["XLA_FLAGS"] = f"{flags} {count}".strip()
    if not resources["GPU"]:
        changed["CUDA_VISIBLE_DEVICES"] = ""
    elif resources["GPU"] < 1:
        changed["XLA_CLIENT_MEM_FRACTION"] = f"{0.9 * resources['GPU']:.3f}"
        changed.pop("XLA_PYTHON_CLIENT_MEM_FRACTION", None)  # The old name; JAX refuses both.
    return changed


def distribution(kind: str, *values: Any) -> distributions.BaseDistribution:
    """Returns Optuna's form of a domain of --search."""
    if kind == "choice":
        return distributions.CategoricalDistribution([*map(_space.encode, values)])
    low, high = values
    if kind.endswith("randint"):
        return distributions.IntDistribution(low, high - 1, log=kind.startswith("log"))
    return distributions.FloatDistribution(low, high, log=kind.startswith("log"))


def _machines() -> list[Resources]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _most(name: str) -> float:
    return max(machine.get(name, 0.0) for machine in _machines())


def _room(resources: Resources) -> int:
    """Returns the number of trials that the machines can run at once, at least 1."""
    needed = {name: amount for name, amount in resources.items() if amount}
    return max(1, sum(int(min(m.get(k, 0.0) // needed[k] for k in needed)) for m in _machines()))


def _line(error: Exception, index: int) -> str:
    return (str(error).strip().splitlines() or [""])[index]
