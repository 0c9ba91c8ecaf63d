"""Times epochs of batches from an iterator beside data in memory: `python -m benchmarks.streams`.

Both train 784-800-10 on 60,000 digits in batches of 200: the embedded digits, fifteen times. The
iterator gathers the rows of each batch with NumPy; it is also timed alone, without training.
"""

import argparse
import collections
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from adv_jax import data
from adv_jax.configs.common import base
from adv_jax.data import Dataset
from adv_jax.runner.config.replicas import replicas
from adv_jax.runner.run.experiment import Experiment
from adv_jax.runner.run.inputs import rows_of
from adv_jax.runner.run.program import Program
from benchmarks.tables import Goal, Table, goals, show, three_digits
from benchmarks.timing import (
    Block,
    alternate,
    arguments,
    machine,
    ratios,
    seconds_of,
    spread,
    use_cpus,
    versions,
    write,
)

COPIES, BATCH = 15, 200
MEMORY, STREAM, ALONE = "in memory", "iterator", "iterator alone, no training"
GOAL = 1.1  # the largest time of the iterator over that in memory


def main() -> None:
    args = _arguments()
    threads = use_cpus(args.threads)
    in_memory = _digits(args.copies)
    streamed = _streamed(in_memory)
    blocks = {MEMORY: _epoch(in_memory), STREAM: _epoch(streamed), ALONE: _alone(streamed)}
    seconds = alternate({"epoch": blocks}, rounds=args.rounds)["epoch"]
    report = {
        "benchmark": "streams",
        "machine": machine(),
        "versions": versions("jax", "jaxlib", "flax", "optax", "numpy"),
        "threads": threads,
        "rounds": args.rounds,
        "rows": len(in_memory.train.y),
        "seconds": {side: {**spread(values), "rounds": values} for side, values in seconds.items()},
        "iterator_over_memory": ratios(seconds[STREAM], seconds[MEMORY]),
    }
    show(tables(report))
    write(args.out, report)


def _arguments() -> argparse.Namespace:
    parser = arguments("streams", __doc__, rounds=10)
    parser.add_argument("--copies", type=int, default=COPIES, help="of the 4,000 digits")
    return parser.parse_args()


def _digits(copies: int) -> Dataset:
    digits = data.load("mnist", source="embedded")
    x, y = digits.train
    many = data.Arrays(np.tile(x, (copies, 1, 1, 1)), np.tile(y, copies))
    return digits._replace(train=many)


def _streamed(digits: Dataset) -> Dataset:
    x, y = digits.train

    def train(epoch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        order = np.random.default_rng(epoch).permutation(len(y))
        return ((x[rows], y[rows]) for rows in order.reshape(-1, BATCH))

    return data.from_batches(
        "digits",
        train=train,
        num_batches=len(y) // BATCH,
        test=digits.test,
        num_classes=digits.num_classes,
        bounds=digits.bounds,
    )


def _epoch(dataset: Dataset) -> Block:
    """Returns a function that trains for one epoch and returns its seconds."""
    config = base("streams", {"name": "mnist", "source": "embedded"})
    config.model = {"name": "mlp", "features": (800,), "num_classes": 10}
    config.objective = {"name": "cross_entropy"}
    config.optimizer = {"name": "sgd", "learning_rate": 0.05, "momentum": 0.5}
    config.batch_size = BATCH
    config = config.to_dict()
    runs = replicas(config)
    experiment = Experiment(config, dataset)
    program = Program(experiment, dataset, rows_of(config, dataset, runs), runs, shards=1)
    carried = [program.init()]

    def train() -> None:
        carried[0], _ = program.epoch(carried[0], 0)

    return lambda: seconds_of(train)


def _alone(dataset: Dataset) -> Block:
    """Returns a function that draws the batches of an epoch and returns its seconds."""
    stream = dataset.stream
    assert stream is not None
    return lambda: seconds_of(lambda: collections.deque(stream.batches(0), maxlen=0))


def tables(report: Mapping[str, Any]) -> list[Table]:
    """Returns the table of the epochs and that of the goal."""
    rows = [[side, three_digits(found["median"])] for side, found in report["seconds"].items()]
    title = f"An epoch of {report['rows']:,} digits, 784-800-10, batch {BATCH}"
    goal = Goal(
        "784-800-10, batch 200", "iterator / in memory", report["iterator_over_memory"], GOAL
    )
    return [Table(title, ("data", "seconds"), rows), goals([goal])]


if __name__ == "__main__":
    main()
