"""Memory and speed of a run over processes and devices: `python -m benchmarks.hosts`.

See benchmarks/README.md for the method.
"""

import argparse
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from benchmarks.tables import Table, console, show, shown, three_digits
from benchmarks.timing import (
    Worker,
    WorkerError,
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

# Import no JAX here: the ru_maxrss of a child includes the memory of its parent at its start.
REPLICAS, PROCESSES, DEVICES = (4, 64), (1, 4), (1, 2, 4, 8, 16)
# field of config.replicas -> its title
PATTERNS = {"seeds": "a replica each", "shards": "a shard of each batch each"}
COMMAND = (
    *("-m", "adv_jax.main", "--config=shallow_mnist:quick,model=A", "--config.epochs=2"),
    *("--config.checkpoint_every=1", "--config.batch_size=500", "--config.evaluation.attacks={}"),
)


def main() -> None:
    args = _arguments()
    threads = use_cpus(args.threads)
    report = {
        "benchmark": "hosts",
        "machine": machine(),
        "versions": versions("adv_jax", "jax", "jaxlib", "orbax-checkpoint"),
        "threads": threads,
        "rounds": args.rounds,
        "peaks": {
            str(processes): {
                str(replicas): _peaks(replicas, processes, max(args.processes))
                for replicas in args.replicas
            }
            for processes in args.processes
        },
        "devices": _speeds(args.devices, rounds=args.rounds),
    }
    show(tables(report))
    write(args.out, report)


def _arguments() -> argparse.Namespace:
    parser = arguments("hosts", __doc__, rounds=3)
    parser.add_argument("--replicas", nargs=2, type=int, default=REPLICAS)
    parser.add_argument("--processes", nargs="+", type=int, default=PROCESSES)
    parser.add_argument("--devices", nargs="+", type=int, default=DEVICES)
    return parser.parse_args()


def _peaks(replicas: int, processes: int, devices: int) -> list[int]:
    """Trains on that many devices in all -> the peak resident bytes of each process."""
    console.print(f"{replicas} replicas in {processes} processes", style="dim")
    with tempfile.TemporaryDirectory() as folder:
        env = cpu_devices(devices // processes) | {"JAX_COMPILATION_CACHE_DIR": f"{folder}/jax"}
        command = [sys.executable, *COMMAND, f"--workdir={folder}/run"]
        command += [f"--config.replicas.seeds={replicas}"]
        started = [
            subprocess.Popen(
                [*command, *flags], env={**os.environ, **env}, stdout=subprocess.DEVNULL
            )
            for flags in _connecting(processes)
        ]
        return [_peak(process) for process in started]


def _connecting(processes: int) -> list[list[str]]:
    """Returns the flags of each process, as launch/hosts.sh gives them."""
    if processes == 1:
        return [[]]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = [f"--coordinator=127.0.0.1:{port}", f"--num_processes={processes}"]
    return [[*shared, f"--process_id={i}"] for i in range(processes)]


def _peak(process: subprocess.Popen) -> int:
    """Waits for a process -> its peak resident bytes.

    Raises:
      WorkerError: the process failed.
    """
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise WorkerError(f"adv_jax.main ended with {process.returncode}")
    return 1024 * used.ru_maxrss


def _speeds(devices: Sequence[int], *, rounds: int) -> dict[str, dict[str, Any]]:
    """Times epochs on simulated devices -> {devices: {pattern: what was found}}."""
    with ExitStack() as stack:
        workers = {
            str(n): stack.enter_context(Worker("benchmarks.hosts_worker", env=cpu_devices(n)))
            for n in devices
        }
        found = {
            n: {pattern: worker.call("prepare", pattern=pattern) for pattern in PATTERNS}
            for n, worker in workers.items()
        }
        seconds = alternate(
            {
                pattern: {
                    n: partial(worker.call, "run", pattern=pattern) for n, worker in workers.items()
                }
                for pattern in PATTERNS
            },
            rounds=rounds,
        )
    for pattern, sides in seconds.items():
        rates = {n: [found[n][pattern]["steps"] / s for s in sides[n]] for n in sides}
        for n, own in rates.items():
            found[n][pattern] |= {
                "steps_per_second": {**spread(own), "rounds": own},
                "over_the_first": ratios(own, rates[str(devices[0])]),
            }
    return found


def tables(report: Mapping[str, Any]) -> list[Table]:
    """Returns the tables of the peaks and of the speeds."""
    return [_memory(report["peaks"]), *(_speed(report["devices"], name) for name in PATTERNS)]


def _memory(peaks: Mapping[str, Mapping[str, Sequence[int]]]) -> Table:
    rows, alone = [], 0
    for processes, found in peaks.items():
        few, many = found.values()
        growth = max(after - before for before, after in zip(few, many, strict=True))
        alone = alone or growth
        sizes = (f"{size / 2**20:,.0f}" for size in (max(few), max(many), growth))
        rows.append((processes, *sizes, f"{growth / alone:.2f}"))
    few, many = next(iter(peaks.values()))
    columns = ("processes", f"{few} replicas, MiB", f"{many} replicas, MiB", "growth, MiB")
    note = (
        "Each number is the largest over the processes, so the growth is that of the process that "
        "grows most and may exceed the difference of the two before it."
    )
    columns += (f"growth over that of {rows[0][0]}",)
    return Table("Peak memory of a process that trains with checkpoints", columns, rows, note=note)


def _speed(devices: Mapping[str, Mapping[str, Any]], pattern: str) -> Table:
    rows = []
    for count, patterns in devices.items():
        found = patterns[pattern]
        rate, ratio = found["steps_per_second"]["median"], shown(found["over_the_first"])
        kinds = [f"{number} {kind}" for kind, number in found["collectives"].items()]
        size = f"{found['communicated'] / 1e6:.2f}"
        rows.append((count, three_digits(rate), ratio, ", ".join(kinds) or "none", size))
    columns = ("devices", "steps / s", f"over {rows[0][0]}", "collectives in a step", "MB")
    return Table(f"Simulated CPU devices with {PATTERNS[pattern]}", columns, rows)


if __name__ == "__main__":
    main()
