"""Compiles the stages of `benchmarks.accelerator` for a GPU without one.

    python -m benchmarks.accelerator_compile --topology=h100:1 --stages=ladder,training_bfloat16

It needs `pip install -e '.[cuda]'` and no driver. It prints for each program the kernels of a step
or of an attack by kind, their time at the peaks as XLA estimates it, the memory of temporaries, and
the seconds of compiling, as `launch.compile` counts them and with its options.
"""

import argparse
import os
from collections.abc import Sequence

os.environ["JAX_PLATFORMS"] = "cpu"  # Else JAX looks for a GPU.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # XLA logs that there is no driver.

from adv_jax.runner.host.ending import without_traceback
from benchmarks.accelerator_stages import SEEDS, STAGES, Work, stage_names
from benchmarks.accelerator_worker import lowered
from benchmarks.tables import Table, console, show, three_digits
from launch.compiling.programs import Compiled, compiled
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


def cells(work: Work, program: Compiled) -> list[str]:
    """Returns what a step, or an attack, launches; "+": loops of unknown length count once."""
    assert program.launched is not None  # as on all GPUs
    call = program.launched["call"]
    kinds = ", ".join(f"{count / work.steps:.0f} {kind}" for kind, count in call["kinds"].items())
    return [
        kinds,
        f"{sum(call['kinds'].values()) / work.steps:,.0f}{'+' if call['open_ended'] else ''}",
        three_digits(1e3 * call["peak"] / work.steps) if call["peak"] else "",
        f"{program.temporaries / 1e9:.3f}",
        f"{program.seconds:.1f}",
        f"{program.processor_seconds:.1f}",
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
        rows.append([title, *cells(work, program)])
    show([Table(f"Of a step or an attack on {args.topology}", COLUMNS, rows, words=2)])


if __name__ == "__main__":
    with without_traceback():
        main()
