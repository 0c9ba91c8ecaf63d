"""Times ways to train several seeds in parallel on a CPU: `python -m benchmarks.replicas`.

See benchmarks/README.md for the method.
"""

import argparse
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

from benchmarks.tables import Table, show, shown, three_digits
from benchmarks.tasks import TASKS
from benchmarks.timing import (
    Worker,
    alternate,
    arguments,
    cpu_devices,
    machine,
    ratios,
    spread,
    use_cpus,
    versions,
    write,
)

NAMES = ("mlp_10", "mlp_200", "ladder")
REPLICAS = 5  # the seeds of a table, which two cores cannot share evenly
BASE = "one replica, all threads"


class Way(NamedTuple):
    """A way to train; `name` is its name in benchmarks/replicas_worker.py."""

    name: str
    replicas: int
    devices: int


def main() -> None:
    args = _arguments()
    threads = use_cpus(args.threads)
    ways = {
        BASE: Way("one", 1, 1),
        f"{REPLICAS} replicas, vmap": Way("vmap", REPLICAS, 1),
        f"{REPLICAS} replicas, lax.map": Way("map", REPLICAS, 1),
        f"{threads} replicas, one a device": Way("devices", threads, threads),
        f"{REPLICAS} replicas, one a device": Way("devices", REPLICAS, REPLICAS),
        f"{2 * REPLICAS} replicas on {threads} devices": Way("devices", 2 * REPLICAS, threads),
    }
    with ExitStack() as stack:
        workers = {title: stack.enter_context(_worker(way)) for title, way in ways.items()}
        report = {
            "benchmark": "replicas",
            "machine": machine(),
            "versions": versions("jax", "jaxlib", "flax", "optax", "numpy"),
            "rounds": args.rounds,
            "workers": {
                title: worker.call("describe", way=ways[title].name, replicas=ways[title].replicas)
                for title, worker in workers.items()
            },
        }
        # The first block includes compilation.
        starts = {
            name: {title: worker.call("run", name=name) for title, worker in workers.items()}
            for name in args.tasks
        }
        seconds = alternate(
            {
                name: {
                    title: partial(worker.call, "run", name=name)
                    for title, worker in workers.items()
                }
                for name in args.tasks
            },
            rounds=args.rounds,
        )
    report["tasks"] = {
        name: {**_summary(name, ways, seconds[name]), "start_seconds": starts[name]}
        for name in args.tasks
    }
    show(tables(report))
    write(args.out, report)


def _arguments() -> argparse.Namespace:
    parser = arguments("replicas", __doc__, rounds=9, of="CPUs of each way")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(NAMES))
    return parser.parse_args()


def _worker(way: Way) -> Worker:
    return Worker("benchmarks.replicas_worker", env=cpu_devices(way.devices))


def _summary(
    name: str, ways: Mapping[str, Way], seconds: Mapping[str, list[float]]
) -> dict[str, Any]:
    task = TASKS[name]
    rates = {
        title: [ways[title].replicas * task.steps / value for value in values]
        for title, values in seconds.items()
    }
    return {
        "title": task.title,
        "flops_per_step": task.flops,
        "seed_steps_per_second": {
            title: {
                **spread(values),
                "rounds": values,
                "over_one": ratios(values, rates[BASE]),
            }
            for title, values in rates.items()
        },
    }


def tables(report: Mapping[str, Any]) -> list[Table]:
    """Returns the table of the ways to train."""
    rows = []
    for task in report["tasks"].values():
        title, starts = task["title"], task.get("start_seconds", {})
        for way, rate in task["seed_steps_per_second"].items():
            rows.append(
                [
                    title,
                    way,
                    three_digits(rate["median"]),
                    three_digits(rate["max"]),
                    shown(rate["over_one"]),
                    f"{rate['median'] * task['flops_per_step'] / 1e9:.0f}",
                    f"{starts[way]:.1f}" if way in starts else "",
                ]
            )
            title = ""
    columns = ("step", "way", "median", "most", "over one replica", "GFLOP/s", "start, s")
    return [Table("Steps per second, summed over the replicas", columns, rows, words=2)]


if __name__ == "__main__":
    main()
