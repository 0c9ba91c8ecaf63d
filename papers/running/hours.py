"""Estimates the hours of trainings that no result has in full.

An epoch takes as long as in stored runs on that device of the same steps: config, model, objective,
batch size and data. Without one, the median of all such runs of the config is a rough guess. Runs
that may stop early are counted with all their epochs; what follows a training, such as an attack,
is not counted.
"""

import json
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from adv_jax.runner.config.replicas import replicas
from papers.running.budget import BUDGETS, PAPER
from papers.running.stored import Results
from papers.running.target import Target
from papers.running.trainings import Training, plan

Json = Mapping[str, Any]
CPU = "cpu"  # as JAX calls the device


class Missing(NamedTuple):
    """What a target lacks.

    Attributes:
      target: its name.
      stored: the budget of its result; None without a result.
      hours: of the missing runs, one after another; None if no run of a config is stored.
      is_rough: whether an epoch's time is of other steps.
    """

    target: str
    stored: str | None
    hours: float | None
    is_rough: bool


def missing(targets: Iterable[Target], results: Results) -> Iterator[Missing]:
    """Yields each target whose runs are not all stored in full, with the hours of the rest."""
    timed, full = speeds(results, CPU), _full(results)
    budgets = {one["target"]: one["budget"] for one in results.targets.values()}
    for target in targets:
        trainings = plan(target, BUDGETS[PAPER], runs="runs", data={})
        counts = {key: _epochs(training, full.get(key, 0)) for key, training in trainings.items()}
        configs = {key: trainings[key].config for key, epochs in counts.items() if epochs}
        if configs:
            seconds = sum(counts[key] * speed(config, timed) for key, config in configs.items())
            is_rough = any(same_steps(config) not in timed for config in configs.values())
            hours = None if math.isnan(seconds) else seconds / 3600
            yield Missing(target.name, budgets.get(target.name), hours, is_rough)


def _full(results: Results) -> dict[str, int]:
    """Returns the replicas of each training that are stored in full, for any target."""
    found: dict[str, int] = {}
    for document in results.targets.values():
        if document["budget"] == PAPER:
            for key, stored in document["trainings"].items():
                found[key] = max(found.get(key, 0), stored["replicas"])
    return found


def _epochs(training: Training, stored: int) -> int:
    """Returns the epochs of all replicas but the stored ones."""
    return max(len(replicas(training.config)) - stored, 0) * training.config["epochs"]


def speed(config: Json, timed: Mapping[str, float]) -> float:
    """Returns the seconds of an epoch of one replica; NaN if they are not known."""
    return timed.get(same_steps(config), timed.get(config["experiment"], math.nan))


def same_steps(config: Json) -> str:
    """Returns a name that runs with the same steps share, whatever the source of their data."""
    parts = [config[name] for name in ("experiment", "model", "objective", "batch_size")]
    data = {name: value for name, value in config["data"].items() if name not in ("source", "dir")}
    return json.dumps([*parts, data], sort_keys=True, default=list)


def speeds(results: Results, device: str) -> dict[str, float]:
    """Returns the median seconds of an epoch of one replica, by experiment and by `same_steps`.

    Runs on other devices and those on embedded samples, which have shorter epochs, do not count,
    and a training that several targets share counts once.
    """
    timed: dict[Any, tuple[Json, tuple[str, ...], int]] = {}
    for document in results.targets.values():
        for key, run in document["trainings"].items():
            names = (run["experiment"], same_steps(run["config"]))
            timed[key, run.get("seconds")] = run, names, sum(run["epochs"])
    for path, run in results.runs.items():
        epochs = sum(replica["epochs"] for replica in run["replicas"])
        timed[path, run["seconds"]] = run, (run["experiment"],), epochs
    found: dict[str, list[float]] = {}
    for run, names, epochs in timed.values():
        is_small = run["data"]["source"] == "embedded"
        if epochs and run.get("seconds") and run["device"] == device and not is_small:
            for name in names:
                found.setdefault(name, []).append(run["seconds"] / epochs)
    return {name: statistics.median(values) for name, values in found.items()}


def devices(results: Results) -> list[str]:
    """Returns the devices of stored runs, the CPU first."""
    runs = [run for one in results.targets.values() for run in one["trainings"].values()]
    names = {run["device"] for run in (*runs, *results.runs.values()) if run["device"]}
    return sorted(names, key=lambda name: (name != CPU, name))


def speeds_or_guesses(results: Results, device: str) -> dict[str, float]:
    """Returns `speeds` on a device, and guesses for steps that only other devices have timed.

    A guess is the time on the other device, times the median ratio of the steps that both have
    timed; without any, the other device counts as equally fast. On an accelerator the times of
    other accelerators come before those of a CPU.
    """
    found = speeds(results, device)
    cpu_last = sorted(devices(results), key=lambda name: name == CPU)
    for other in (name for name in cpu_last if name != device):
        timed = speeds(results, other)
        ratios = [found[name] / seconds for name, seconds in timed.items() if name in found]
        ratio = statistics.median(ratios) if ratios else 1.0
        found = {name: ratio * seconds for name, seconds in timed.items()} | found
    return found
