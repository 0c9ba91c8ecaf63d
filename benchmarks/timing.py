"""Fair timing on one machine: workers that take turns, and what is reported of them.

Each side of a comparison lives in a process of its own, so that thread pools do not meet. Only
one works at a time; the others wait for a line on their standard input, asleep.
"""

import contextlib
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console

# Threads of a pool spin for some milliseconds after their last work, then sleep. Nobody is timed
# before those of the previous worker are asleep.
SETTLE_SECONDS = 0.05
UNLOCKED = "int mkl_serv_intel_cpu_true(void) { return 1; }\n"

Block = Callable[[], float]  # runs some steps and returns seconds
console = Console(width=None if sys.stdout.isatty() else 110)  # Elsewhere it would be 80.


class WorkerError(RuntimeError):
    """A worker failed; its own words are on standard error."""


class Worker:
    """A process `python -m MODULE` that answers requests, one JSON line each way."""

    def __init__(self, module: str, *, env: Mapping[str, str] | None = None) -> None:
        self._module = module
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(env or {})},
        )

    def call(self, request: str, **arguments: Any) -> Any:
        """What the worker's handler of that name returns.

        Raises:
          WorkerError: the worker has ended.
        """
        try:
            print(json.dumps([request, arguments]), file=self._process.stdin, flush=True)
            return json.loads(self._process.stdout.readline())
        except (BrokenPipeError, json.JSONDecodeError) as error:
            raise WorkerError(f"{self._module} ended at the request {request!r}") from error

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()  # The worker's loop ends with its input.
        self._process.wait()


def serve(handlers: Mapping[str, Callable[..., Any]]) -> None:
    """Answers the requests of a `Worker` until its input ends."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    sys.stdout = sys.stderr  # What a library prints must not pass for a reply.
    for line in sys.stdin:
        request, arguments = json.loads(line)
        print(json.dumps(handlers[request](**arguments)), file=replies, flush=True)


def seconds_of(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def use_cpus(threads: int) -> int:
    """Leaves this process and its workers that many CPUs, or as many as there are; how many."""
    cpus = sorted(os.sched_getaffinity(0))[:threads]
    os.sched_setaffinity(0, cpus)
    return len(cpus)


def unlock_library(folder: Path) -> Path | None:
    """A library which tells MKL that it runs on Intel, for LD_PRELOAD; None without a compiler."""
    source, library = folder / "unlock.c", folder / "unlock.so"
    source.write_text(UNLOCKED)
    try:
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    return library


def alternate(
    comparisons: Mapping[str, Mapping[str, Block]], *, rounds: int
) -> dict[str, dict[str, list[float]]]:
    """{name: {side: seconds of each round}}: in each round all blocks, sides in a fresh order.

    The blocks that are compared stand next to each other in time, so that whatever else the
    machine does meets them alike, and their ratio is taken round by round.
    """
    order = random.Random(0)
    seconds = {name: {side: [] for side in sides} for name, sides in comparisons.items()}
    for turn in range(-1, rounds):  # The first round warms up and does not count.
        console.print(f"round {turn + 1} of {rounds}", style="dim")
        for name, sides in comparisons.items():
            for side in order.sample(list(sides), len(sides)):
                time.sleep(SETTLE_SECONDS)
                measured = sides[side]()
                if turn >= 0:
                    seconds[name][side].append(measured)
    return seconds


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def ratios(values: list[float], base: list[float]) -> dict[str, float]:
    """Of values taken in the same round."""
    return spread([a / b for a, b in zip(values, base, strict=True)])


def shown(values: Mapping[str, float], digits: int) -> str:
    """`median (min-max)`."""
    return "{median:.{d}f} ({min:.{d}f}-{max:.{d}f})".format(d=digits, **values)


def machine() -> dict[str, Any]:
    return {
        "cpu": _cpu_model(),
        "cpus": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def versions(*packages: str) -> dict[str, str]:
    return {package: metadata.version(package) for package in packages}


def write(path: Path, report: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n")
    console.print(f"written to {path}")
