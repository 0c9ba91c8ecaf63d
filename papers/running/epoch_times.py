"""Estimates the time of an epoch from stored runs.

An epoch takes as long as in stored runs on that device of the same workload: config, model,
objective, batch size and data. Without one, a rough guess comes from runs on other devices, scaled,
and from those of the same config that differ in the fewest fields of these. Runs that may stop
early are counted with all their epochs; what follows a training, such as an attack, is not counted.
"""

import json
import math
import statistics
from collections.abc import Mapping
from typing import Any, NamedTuple

from flax.traverse_util import flatten_dict

from papers.running.stored import Results

Json = Mapping[str, Any]
CPU = "cpu"  # as JAX calls the device


class Workload(NamedTuple):
    """The settings that decide the time of an epoch, whatever the source of the data.

    experiment: the config's name.
    fields: the path of each other field and its value, as JSON; none for a single run, whose
      result has no config.
    """

    experiment: str
    fields: frozenset[tuple[str, str]] = frozenset()


def estimate(config: Json, timed: Mapping[Workload, float]) -> float:
    """Returns the seconds of an epoch of one replica; NaN if no run of the config is timed.

    Of runs with another workload, the median of those that differ in the fewest fields counts.
    """
    wanted = workload(config)
    known = [found for found in timed if found.experiment == wanted.experiment]
    if not known:
        return math.nan
    differing = {found: len(found.fields ^ wanted.fields) for found in known}
    fewest = min(differing.values())
    return statistics.median(timed[found] for found in known if differing[found] == fewest)


def workload(config: Json) -> Workload:
    """Returns the workload of a run of this config."""
    parts = {name: config[name] for name in ("model", "objective", "batch_size", "data")}
    fields = frozenset(
        (name, json.dumps(value))
        for name, value in flatten_dict(parts, sep=".").items()
        if name not in ("data.source", "data.dir")
    )
    return Workload(config["experiment"], fields)


def measured(results: Results, device: str) -> dict[Workload, float]:
    """Returns the median seconds of an epoch of one replica, by workload.

    Runs on other devices and those on embedded samples, which have shorter epochs, do not count,
    and a training that several targets share counts once.
    """
    timed: dict[Any, tuple[Json, Workload, int]] = {}
    for document in results.targets.values():
        for key, run in document["trainings"].items():
            timed[key, run.get("seconds")] = run, workload(run["config"]), sum(run["epochs"])
    for path, run in results.runs.items():
        epochs = sum(replica["epochs"] for replica in run["replicas"])
        timed[path, run["seconds"]] = run, Workload(run["experiment"]), epochs
    found: dict[Workload, list[float]] = {}
    for run, of_run, epochs in timed.values():
        is_small = run["data"]["source"] == "embedded"
        if epochs and run.get("seconds") and run["device"] == device and not is_small:
            found.setdefault(of_run, []).append(run["seconds"] / epochs)
    return {of_run: statistics.median(values) for of_run, values in found.items()}


def devices(results: Results) -> list[str]:
    """Returns the devices of stored runs, the CPU first."""
    runs = [run for one in results.targets.values() for run in one["trainings"].values()]
    names = {run["device"] for run in (*runs, *results.runs.values()) if run["device"]}
    return sorted(names, key=lambda name: (name != CPU, name))


def measured_or_guessed(results: Results, device: str) -> dict[Workload, float]:
    """Returns `measured` on a device, and guesses for those that only other devices have timed.

    A guess is the time on the other device, times the median ratio of the workloads that both have
    timed; without any, the other device counts as equally fast. On an accelerator the times of
    other accelerators come before those of a CPU.
    """
    found = measured(results, device)
    cpu_last = sorted(devices(results), key=lambda name: name == CPU)
    for other in (name for name in cpu_last if name != device):
        timed = measured(results, other)
        ratios = [found[each] / seconds for each, seconds in timed.items() if each in found]
        ratio = statistics.median(ratios) if ratios else 1.0
        found = {each: ratio * seconds for each, seconds in timed.items()} | found
    return found
