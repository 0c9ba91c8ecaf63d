"""Times workers in turn on one machine.

Each side of a comparison has its own process, so that thread pools do not compete. One process
works at a time; the others sleep until a line arrives on their standard input.
"""

import argparse
import contextlib
import datetime
import json
import os
import platform
import random
import select
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from adv_jax.runner.store.writing import check_file, write_files
from adv_jax.types import UserError
from benchmarks.tables import UNLOCKED, console

# Thread pools spin for some milliseconds after their last work. Wait until they sleep.
SETTLE_SECONDS = 0.05
# JAX's worker on an accelerator: float32 products, as PyTorch's, and memory left for the others.
ON_ACCELERATOR = {
    "JAX_DEFAULT_MATMUL_PRECISION": "float32",
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
}
_UNLOCK = "int mkl_serv_intel_cpu_true(void) { return 1; }\n"

OURS, PLAIN = "adv_jax", "torch"  # sides of a comparison, beside UNLOCKED

Block = Callable[[], float]  # runs some steps and returns seconds


def arguments(
    name: str, doc: str | None, *, rounds: int | None = None, threads: int | None = 2, of: str = ""
) -> argparse.ArgumentParser:
    """Returns a parser of the arguments that most benchmarks have: --out, --rounds, --threads.

    Args:
      name: of the benchmark, its module and its result file.
      doc: what --help says.
      rounds: the default; None: it has no rounds.
      threads, of: the default, and what they are of.
    """
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=doc)
    parser.add_argument("--out", type=_file, default=Path(f"benchmarks/results/{name}.json"))
    if rounds is not None:
        parser.add_argument("--rounds", type=_count, default=rounds)
    parser.add_argument("--threads", type=_count, default=threads, help=of)
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)


def _file(text: str) -> Path:
    """Returns a path that can be written: else it would show after minutes of measuring."""
    try:
        check_file(Path(text))
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return Path(text)


class WorkerError(RuntimeError):
    """A worker failed; its error is on standard error."""


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

    def call(self, request: str, /, *, within: float | None = None, **arguments: Any) -> Any:
        """Calls the method `request` of what the worker serves, and returns its result.

        Args:
          within: seconds after which the worker is ended; None to wait.

        Raises:
          WorkerError: the worker has ended.
        """
        try:
            print(json.dumps([request, arguments]), file=self._process.stdin, flush=True)
            if within is not None and not select.select([self._process.stdout], [], [], within)[0]:
                self._process.kill()
                raise WorkerError(f"{request!r} took more than {within:g} s")
            return json.loads(self._process.stdout.readline())
        except (BrokenPipeError, json.JSONDecodeError) as error:
            raise WorkerError(f"{self._module} ended at the request {request!r}") from error

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()  # The worker's loop ends with its input.
        self._process.wait()


def serve(side: object) -> None:
    """Answers the requests of a `Worker` by the methods of an object, until its input ends."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    sys.stdout = sys.stderr  # Libraries must not print between the replies.
    for line in sys.stdin:
        request, arguments = json.loads(line)
        print(json.dumps(getattr(side, request)(**arguments)), file=replies, flush=True)


def seconds_of(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def use_cpus(threads: int) -> int:
    """Limits this process and its workers to that many CPUs -> the number available."""
    cpus = sorted(os.sched_getaffinity(0))[:threads]
    os.sched_setaffinity(0, cpus)
    return len(cpus)


def cpu_devices(count: int) -> dict[str, str]:
    """Returns the environment of a process in which JAX has so many CPU devices."""
    flag = f"--xla_force_host_platform_device_count={count}"
    return {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flag}


def beside_torch(ours: Worker, module: str, *, threads: int, folder: str) -> dict[str, Worker]:
    """Returns our worker and those of PyTorch, by side; the unlocked one needs a compiler.

    Args:
      ours: the worker of adv_jax.
      module: that of PyTorch's workers.
      threads: of each side.
      folder: for the library that unlocks MKL.
    """
    # Set the number of threads before the libraries load; the worker sets it again.
    count = {"OMP_NUM_THREADS": str(threads)}
    workers = {OURS: ours, PLAIN: Worker(module, env=count)}
    library = _unlock_library(Path(folder))
    if library:
        workers[UNLOCKED] = Worker(module, env={**count, "LD_PRELOAD": str(library)})
    else:
        console.print("No C compiler `cc` works here: PyTorch is timed only as installed.")
    return workers


def _unlock_library(folder: Path) -> Path | None:
    """Builds an LD_PRELOAD library that makes MKL use its Intel code; None without a compiler."""
    source, library = folder / "unlock.c", folder / "unlock.so"
    source.write_text(_UNLOCK)
    try:
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    return library


def alternate(
    comparisons: Mapping[str, Mapping[str, Block]], *, rounds: int
) -> dict[str, dict[str, list[float]]]:
    """Times all blocks in rounds -> {name: {side: seconds of each round}}.

    The sides of a comparison follow each other directly, in random order, so that other load
    affects them alike and their ratio can be taken round by round.
    """
    order = random.Random(0)
    seconds = {name: {side: [] for side in sides} for name, sides in comparisons.items()}
    for turn in range(-1, rounds):  # Round -1 is the warm-up.
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


def per_step(seconds: Sequence[float], steps: int) -> dict[str, Any]:
    """Returns milliseconds of a step, or of an attack, by the seconds of blocks of steps."""
    rounds = [1000 * value / steps for value in seconds]
    return {**spread(rounds), "rounds": rounds}


def ratios(values: list[float], base: list[float]) -> dict[str, float]:
    """Returns the spread of the ratios of values from equal rounds."""
    return spread([a / b for a, b in zip(values, base, strict=True)])


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


def versions(*packages: str, optional: Sequence[str] = ()) -> dict[str, str]:
    """Returns the versions of installed packages; exits if one is missing that is not optional."""
    found = {}
    for package in (*packages, *optional):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            if package in packages:
                sys.exit(
                    f"error: needs the package {package}; benchmarks/README.md names the extras"
                )
    return found


def write(path: Path, report: Mapping[str, Any]) -> None:
    """Writes the report with today's date, atomically."""
    dated = {**report, "date": datetime.date.today().isoformat()}
    write_files({path: (json.dumps(dated, indent=1) + "\n").encode()})
    console.print(f"written to {path}")
