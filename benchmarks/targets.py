"""Estimates the cost of the targets of `launch.reproduce`: `python -m benchmarks.targets`.

See benchmarks/README.md for the method.
"""

import argparse
import functools
import json
import math
import statistics
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from adv_jax.data import Arrays, Dataset, split
from adv_jax.runner.config.document import with_values
from adv_jax.runner.config.replicas import Replica, replicas
from adv_jax.runner.host.devices import use_cores
from adv_jax.runner.run import inputs
from adv_jax.runner.run.experiment import Experiment, initial
from adv_jax.runner.run.inputs import rows_of
from adv_jax.runner.run.program import Program
from adv_jax.types import LogitsFn, UserError
from benchmarks.tables import Table, console, show
from benchmarks.timing import machine, use_cpus, versions, write
from papers.running.budget import BUDGETS, PAPER
from papers.running.reproduction import chosen
from papers.running.target import Target
from papers.running.trainings import Training, cost, plan

EVALUATED = 500  # images per set for the errors after a short epoch
FEW, ENOUGH = 2, 0.25  # FEW steps per round, or more if they take fewer than ENOUGH seconds
ROUNDS, LONG = 3, 5.0  # ROUNDS rounds, or one if it takes more than LONG seconds
_OF_DATA = ("name", "source", "dir", "preprocess", "crop")


class Seconds(NamedTuple):
    """Seconds with one seed per core.

    Attributes:
      program: key of the timed training, which stands for others with the same program.
      step: seconds of a training step.
      image: seconds per image of the errors after an epoch.
      has_statistics: whether each epoch also computes batch statistics on the labeled images.
    """

    program: str
    step: float
    image: float
    has_statistics: bool


def main() -> None:
    args = _arguments()
    cpus = use_cpus(args.threads)
    use_cores((cpus, 1))
    given = {"data.source": args.data_source, "data.dir": args.data_dir}
    data = {path: value for path, value in given.items() if value}
    programs: dict[str, Seconds] = {}
    report: dict[str, Any] = {
        "benchmark": "targets",
        "machine": machine(),
        "cpus_used": cpus,
        "versions": versions("jax", "jaxlib", "flax", "optax", "numpy"),
        "targets": {},
    }
    failures = []
    for target in chosen(args.targets):
        try:
            report["targets"][target.name] = measured(target, data, programs, cpus)
        except UserError as error:
            failures.append(f"{target.name}: {error}")
        # Save after each target, as all of them take an hour.
        report["programs"] = [seconds._asdict() for seconds in programs.values()]
        write(args.out, report)
    show(tables(report))
    if failures:
        sys.exit("\n".join(f"not timed: {line}" for line in failures))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.targets", description=__doc__)
    parser.add_argument("targets", nargs="*", default=["all"], help="as of launch.reproduce")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/targets.json"))
    parser.add_argument("--threads", type=int, default=2, help="CPUs, with a seed on each")
    parser.add_argument("--data_source", help="tfds, files or embedded, for all trainings")
    parser.add_argument("--data_dir", help="folder of the files of all data sets")
    return parser.parse_args()


def measured(
    target: Target, data: Mapping[str, str], programs: dict[str, Seconds], cpus: int
) -> dict[str, float]:
    """Returns the epochs of all replicas with the budget `paper`, and their hours here."""
    trainings = plan(target, BUDGETS[PAPER], runs="runs/reproduce", data=data)
    hours = 0.0
    for training in trainings.values():
        config = training.config
        dataset = _dataset(json.dumps({key: config["data"].get(key, 0) for key in _OF_DATA}))
        key = program(config)
        if key not in programs:
            programs[key] = _timed(training, dataset, _sources(training, trainings, dataset))
            milliseconds = 1000 * programs[key].step
            line = f"{training.run.key}: {milliseconds:.3g} ms a step"
            console.print(line, style="dim", highlight=False)
        epoch = _seconds_of_epoch(config, dataset, programs[key])
        hours += math.ceil(len(replicas(config)) / cpus) * config["epochs"] * epoch / 3600
    return {"epochs": sum(map(cost, trainings.values())), "hours": hours}


@functools.lru_cache(maxsize=1)  # Data sets take gigabytes; targets are ordered by data set.
def _dataset(settings: str) -> Dataset:
    """Loads the data set of a config's `data`, given as JSON."""
    given = {key: value for key, value in json.loads(settings).items() if value}
    config = {"data": {"dir": ""} | given | {"num_valid": 0, "num_labels": 0}}
    return inputs.load(config, [Replica(seed=1, overrides={})], Path("none")).dataset


def program(config: Mapping[str, Any]) -> str:
    """Returns a key that is equal for configs whose steps differ only in numbers or in scaling."""

    def shape(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: shape(part) for key, part in value.items()}
        if isinstance(value, tuple | list):
            return [shape(part) for part in value]
        return "float" if isinstance(value, float) else value

    parts = ("experiment", "model", "objective", "optimizer", "batch_size", "stop")
    of_data = {key: config["data"].get(key) for key in ("name", "crop", "mirror")}
    return json.dumps(shape({key: config.get(key) for key in parts} | of_data), sort_keys=True)


def _sources(
    training: Training, trainings: Mapping[str, Training], dataset: Dataset
) -> dict[str, LogitsFn]:
    """Returns workdir -> untrained source net, which takes as much time as a trained one."""
    if training.run.source is None:
        return {}
    source = trainings[training.run.source.key]
    experiment = Experiment(source.config, dataset)
    seeds, hyper, _ = initial(replicas(source.config)[:1])
    run = experiment.init(seeds[0], {path: value[0] for path, value in hyper.items()})
    return {str(source.workdir): lambda x: experiment.apply(run.state.variables, x).logits}


def _timed(training: Training, dataset: Dataset, sources: Mapping[str, LogitsFn]) -> Seconds:
    seconds = _short_epochs(training, dataset, sources, steps=FEW)
    if FEW * seconds.step < ENOUGH:
        steps = min(500, math.ceil(ENOUGH / seconds.step))
        seconds = _short_epochs(training, dataset, sources, steps=steps)
    # About sixty compiled programs reach Linux's limit on memory maps.
    jax.clear_caches()
    return seconds


def _short_epochs(
    training: Training, dataset: Dataset, sources: Mapping[str, LogitsFn], *, steps: int
) -> Seconds:
    """Times the program of a run on just enough images for the steps."""
    config = training.config
    num_valid = min(config["data"]["num_valid"], EVALUATED)
    num_labels = config["data"]["num_labels"] and 10 * dataset.num_classes
    small = with_values(config, {"data.num_valid": num_valid, "data.num_labels": num_labels})
    small |= {"replicas": {"seeds": jax.local_device_count(), "grid": {}, "shards": 1}}
    count = num_valid + steps * config["batch_size"]
    cut = few(dataset, count)
    runs = replicas(small)
    experiment = Experiment(small, cut, sources)
    program = Program(experiment, cut, rows_of(small, cut, runs), runs, shards=1)
    state, epochs, errors = program.init(), [], []
    while len(epochs) <= ROUNDS and not (len(epochs) > 1 and epochs[-1] > LONG):
        began = time.perf_counter()
        state, _ = program.epoch(state, 0)
        epochs.append(time.perf_counter() - began)
        state, _ = program.monitor(state)
        errors.append(time.perf_counter() - began - epochs[-1])
    has_statistics = "batch_stats" in state.state.variables
    # The first round includes compilation.
    return Seconds(
        training.run.key,
        step=statistics.median(epochs[1:]) / steps,
        image=statistics.median(errors[1:]) / _images(small, cut, has_statistics),
        has_statistics=has_statistics,
    )


def few(dataset: Dataset, count: int) -> Dataset:
    """Returns `count` training images, evenly of all classes, and EVALUATED test images."""
    _, rows = split(dataset.train.y, num_valid=count, seed=0)
    return dataset._replace(
        train=Arrays(*(part[rows] for part in dataset.train)),
        test=Arrays(*(part[:EVALUATED] for part in dataset.test)),
    )


def _seconds_of_epoch(config: Mapping[str, Any], dataset: Dataset, seconds: Seconds) -> float:
    steps = (len(dataset.train.y) - config["data"]["num_valid"]) // config["batch_size"]
    images = _images(config, dataset, seconds.has_statistics) / config["monitor_every"]
    return steps * seconds.step + images * seconds.image


def _images(config: Mapping[str, Any], dataset: Dataset, has_statistics: bool) -> int:
    """Returns the number of images for the errors after an epoch."""
    num_valid = config["data"]["num_valid"]
    train = len(dataset.train.y) - num_valid
    images = len(dataset.test.y) + num_valid
    if config.get("stop") or config.get("monitor_train"):
        images += train
    return images + (config["data"]["num_labels"] or train if has_statistics else 0)


def tables(report: Mapping[str, Any]) -> list[Table]:
    """Returns the table of the targets' hours."""
    rows = [
        (name, f"{found['epochs']:,}", f"{found['hours']:,.1f}")
        for name, found in report["targets"].items()
    ]
    title = f"Hours with the paper's budget, on {report['cpus_used']} CPUs"
    return [Table(title, ("target", "total epochs", "hours"), rows)]


if __name__ == "__main__":
    main()
