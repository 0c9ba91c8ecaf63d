"""What the targets of `launch.reproduce` cost on these cores: `python -m benchmarks.targets`.

See benchmarks/README.md for what is timed and how.
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
from rich.table import Table

from adv_jax.data import Arrays, Dataset, split
from adv_jax.runner import inputs
from adv_jax.runner.config import Replica, replicas, with_values
from adv_jax.runner.devices import use_cores
from adv_jax.runner.experiment import Experiment, initial, rows_of
from adv_jax.runner.program import Program
from adv_jax.types import LogitsFn, UserError
from benchmarks.timing import console, machine, use_cpus, versions, write
from papers.budget import BUDGETS, PAPER
from papers.reproduction import chosen
from papers.target import Target
from papers.trainings import Training, cost, plan

EVALUATED = 500  # Images of each set that the errors after a short epoch are taken of.
FEW, ENOUGH = 2, 0.25  # Steps at first; more if a round of them takes fewer seconds than that.
ROUNDS, LONG = 3, 5.0  # One round is enough if it takes more seconds than that.
_OF_DATA = ("name", "source", "dir", "preprocess", "crop")


class Seconds(NamedTuple):
    """Of as many seeds at once as there are cores: a step, and an image in an epoch's errors.

    program: the training that was timed; others are as fast.
    has_statistics: each epoch also goes through the labelled images, for batch statistics.
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
        # After each, as all of them take an hour.
        report["programs"] = [seconds._asdict() for seconds in programs.values()]
        write(args.out, report)
    _show(report["targets"])
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
    """Epochs of all replicas of the paper's budget, and the hours that they take here."""
    trainings = plan(target, BUDGETS[PAPER], runs="runs/reproduce", data=data)
    hours = 0.0
    for training in trainings.values():
        config = training.config
        dataset = _dataset(json.dumps({key: config["data"].get(key, 0) for key in _OF_DATA}))
        key = program(config)
        if key not in programs:
            programs[key] = _timed(training, dataset, _sources(training, trainings, dataset))
            milliseconds = 1000 * programs[key].step
            told = f"{training.run.key}: {milliseconds:.3g} ms a step"
            console.print(told, style="dim", highlight=False)
        epoch = _seconds_of_epoch(config, dataset, programs[key])
        hours += math.ceil(len(replicas(config)) / cpus) * config["epochs"] * epoch / 3600
    return {"epochs": sum(map(cost, trainings.values())), "hours": hours}


@functools.lru_cache(maxsize=1)  # Gigabytes; targets of the same data follow each other.
def _dataset(settings: str) -> Dataset:
    """That of a config's `data`, as JSON."""
    given = {key: value for key, value in json.loads(settings).items() if value}
    config = {"data": {"dir": ""} | given | {"num_valid": 0, "num_labels": 0}}
    return inputs.load(config, [Replica(seed=1, overrides={})], Path("none")).dataset


def program(config: Mapping[str, Any]) -> str:
    """The same for configs whose steps differ in numbers only, or in how images were scaled."""

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
    """The net that a training needs, by its workdir: untrained, which takes no less time."""
    if training.run.source is None:
        return {}
    source = trainings[training.run.source.key]
    experiment = Experiment(source.config, dataset)
    seeds, hyper = initial(replicas(source.config)[:1])
    run = experiment.init(seeds[0], {path: value[0] for path, value in hyper.items()})
    return {str(source.workdir): lambda x: experiment.apply(run.state.variables, x).logits}


def _timed(training: Training, dataset: Dataset, sources: Mapping[str, LogitsFn]) -> Seconds:
    seconds = _short_epochs(training, dataset, sources, steps=FEW)
    if FEW * seconds.step < ENOUGH:
        steps = min(500, math.ceil(ENOUGH / seconds.step))
        seconds = _short_epochs(training, dataset, sources, steps=steps)
    # Some sixty compiled programs take all the memory maps that Linux gives a process.
    jax.clear_caches()
    return seconds


def _short_epochs(
    training: Training, dataset: Dataset, sources: Mapping[str, LogitsFn], *, steps: int
) -> Seconds:
    """The program as a run has it, on as many images as that many steps need."""
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
        state, _ = program.epoch(state)
        epochs.append(time.perf_counter() - began)
        state, _ = program.monitor(state)
        errors.append(time.perf_counter() - began - epochs[-1])
    has_statistics = "batch_stats" in state.state.variables
    # The first of each was compiled.
    return Seconds(
        training.run.key,
        step=statistics.median(epochs[1:]) / steps,
        image=statistics.median(errors[1:]) / _images(small, cut, has_statistics),
        has_statistics=has_statistics,
    )


def few(dataset: Dataset, count: int) -> Dataset:
    """`count` images to train on, evenly of all classes, as a run may need labels; few to test."""
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
    """How many the errors after an epoch need."""
    num_valid = config["data"]["num_valid"]
    train = len(dataset.train.y) - num_valid
    images = len(dataset.test.y) + num_valid
    if config.get("stop") or config.get("monitor_train"):
        images += train
    return images + (config["data"]["num_labels"] or train if has_statistics else 0)


def _show(found: Mapping[str, Mapping[str, float]]) -> None:
    table = Table(title="The paper's budget, on these CPUs", title_justify="left")
    for column in ("target", "epochs in all", "hours"):
        table.add_column(column, justify="left" if column == "target" else "right")
    for name, row in found.items():
        table.add_row(name, f"{row['epochs']}", f"{row['hours']:.1f}")
    console.print(table)


if __name__ == "__main__":
    main()
