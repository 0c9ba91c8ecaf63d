"""The time of compiling: first and second calls of attacks, first and second runs of quick modes.

Each attack is called twice on the same 100 digits, in a process of its own, on a LeNet with its
initial weights: in adv_jax as a user calls it, outside `jit`, without programs kept from before; in
foolbox and torchattacks, if they are installed, as their documentation does. Each config on
embedded digits runs its quick mode twice, first with an empty cache of programs.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

from benchmarks.compile_worker import ATTACKS, PEERS
from benchmarks.tables import Table, console, show
from benchmarks.timing import Worker, arguments, machine, seconds_of, use_cpus, versions, write

TURNS = ("first", "second")
CONFIGS = (
    *("quickstart", "shallow_mnist", "ladder_mnist", "ladder_conv_mnist", "huang_mlp_mnist"),
    *("huang_lenet_mnist", "backprop_mnist", "goodfellow_mnist", "pgd_mnist"),
)


def main() -> None:
    args = _arguments()
    use_cpus(args.threads)
    report = {
        "benchmark": "compile",
        "machine": machine(),
        "versions": versions("adv_jax", "jax", "jaxlib"),
        "threads": args.threads,
        "attacks": {name: _of_attack(name) for name in args.attacks},
        "configs": {name: _of_config(name) for name in args.configs},
    }
    show(tables(report))
    write(args.out, report)


def _arguments() -> argparse.Namespace:
    parser = arguments("compile", __doc__)
    parser.add_argument("--attacks", nargs="*", choices=ATTACKS, default=list(ATTACKS))
    parser.add_argument("--configs", nargs="*", choices=CONFIGS, default=CONFIGS)
    return parser.parse_args()


def _of_attack(name: str) -> dict[str, Any]:
    """Returns side -> {"first", "second": seconds}."""
    console.print(f"attack {name}", style="dim")
    found = {}
    env = {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_COMPILATION_CACHE": "false"}
    for side in ("adv_jax", *PEERS.get(name, ())):
        with Worker("benchmarks.compile_worker", env=env) as worker:
            if worker.call("has", side=side):
                found[side] = worker.call("calls", side=side, name=name)
    return found


def _of_config(name: str) -> dict[str, float]:
    """Returns {"first", "second": seconds of the whole command}."""
    console.print(f"config {name}", style="dim")
    with tempfile.TemporaryDirectory() as folder:
        cache = {"XDG_CACHE_HOME": f"{folder}/cache", "MPLCONFIGDIR": f"{folder}/matplotlib"}
        env = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"} | cache
        command = [sys.executable, "-m", "adv_jax.main", f"--config={name}:quick"]

        def run(workdir: str) -> None:
            argv = [*command, f"--workdir={folder}/{workdir}"]
            subprocess.run(argv, env=env, check=True, stdout=subprocess.DEVNULL)

        return {turn: seconds_of(lambda turn=turn: run(turn)) for turn in TURNS}


def tables(report: Mapping[str, Any]) -> list[Table]:
    """Returns the tables of the calls and of the commands."""
    calls = []
    for name, found in report["attacks"].items():
        for side, seconds in found.items():
            calls.append((name, side, *(f"{seconds[turn]:.2f}" for turn in TURNS)))
            name = ""
    commands = [
        (f"{name}:quick", *(f"{seconds[turn]:.1f}" for turn in TURNS))
        for name, seconds in report["configs"].items()
    ]
    return [
        Table(
            "Seconds of a call, compilation included", ("attack", "side", *TURNS), calls, words=2
        ),
        Table("Seconds of a command, compilation included", ("config", *TURNS), commands),
    ]


if __name__ == "__main__":
    main()
