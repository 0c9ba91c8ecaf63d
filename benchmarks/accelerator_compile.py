"""Compiles the stages of `benchmarks.accelerator` for a GPU without one.

    python -m benchmarks.accelerator_compile --topology=h100:1 --stages=ladder,training_bfloat16

It needs `pip install -e '.[cuda]'` and no driver. It prints for each program the kernels of a step
or of an attack by kind, their time at the peaks as XLA estimates it, the memory of temporaries, and
the seconds of compiling, as `launch.compile` counts them and with its options.
"""

import argparse
import os
from collections.abc import Mapping, Sequence
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"  # Else JAX looks for a GPU.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # XLA logs that there is no driver.

from adv_jax.runner.host.ending import without_traceback
from benchmarks.accelerator_stages import SEEDS, STAGES, Work, stage_names
from benchmarks.accelerator_worker import lowered
from benchmarks.tables import Table, console, show, three_digits
from launch.compiling.cells import by_kind, gb, kernels
from launch.compiling.programs import compiled
from launch.compiling.topologies import target

COLUMNS = ("work", "kernels by kind", "kernels", "ms at the peaks", "temporaries, GB")
COLUMNS += ("compiled, s", "of processors, s")


def programs(names: Sequence[str]) -> dict[str, Work]:
    """Returns the works of some stages by their titles; a stage of seeds has two."""
    found = {}
    for name in names:
        stage = STAGES[name]
        if stage.work is None:
            continue
        found[stage.work.title] = stage.work
        if not stage.forms:
            found[f"{SEEDS} seeds, {stage.work.title}"] = stage.work._replace(seeds=SEEDS)
    return found


def cells(work: Work, program: Mapping[str, Any]) -> list[str]:
    """Returns what a step, or an attack, launches, of the fields of `programs.Compiled`."""
    call = program["launched"]["call"]
    return [
        by_kind(call["kinds"], work.steps),
        kernels(program["kernels"] / work.steps, call),
        three_digits(1e3 * call["peak"] / work.steps) if call["peak"] else "",
        gb(program["temporaries"]),
        f"{program['seconds']:.1f}",
        f"{program['processor_seconds']:.1f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accelerator_compile", description=__doc__
    )
    parser.add_argument("--topology", default="h100:1", help="one card, as in launch.compile")
    parser.add_argument("--stages", type=stage_names, default=list(STAGES), help="NAME,NAME")
    args = parser.parse_args()
    rows = []
    there = target(args.topology)
    for title, work in programs(args.stages).items():
        console.print(title)
        program = compiled(lowered(work._asdict(), there.devices[0]), there)
        rows.append([title, *cells(work, program._asdict())])
    show([Table(f"Of a step or an attack on {args.topology}", COLUMNS, rows, words=2)])


if __name__ == "__main__":
    with without_traceback():
        main()
