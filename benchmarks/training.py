"""Compares training steps of adv_jax with PyTorch: `python -m benchmarks.training`.

See benchmarks/README.md for the method.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tables import (
    UNLOCKED,
    Goal,
    Table,
    console,
    show,
    shown,
    shown_peak,
    three_digits,
    unfair,
)
from benchmarks.tasks import TASKS, peak_of
from benchmarks.timing import (
    OURS,
    PLAIN,
    Block,
    Worker,
    alternate,
    arguments,
    beside_torch,
    machine,
    per_step,
    ratios,
    use_cpus,
    versions,
    write,
)

NO_ATTACK = "adv_jax, no attack"  # the side of a task's plain step
# task -> side -> largest adv_jax time / time of the side
GOALS = {
    "ladder": {PLAIN: 0.32, UNLOCKED: 0.5},
    "conv_small": {PLAIN: 0.8, UNLOCKED: 1.0},
    "lenet": {PLAIN: 0.7, UNLOCKED: 0.8},
    "lwa": {PLAIN: 0.7, UNLOCKED: 0.8},
    "gan": {PLAIN: 0.5, UNLOCKED: 0.5},
    "ladder_sgn": {NO_ATTACK: 1.5},
    "conv_small_sgn": {NO_ATTACK: 1.5},
}
ON_DEMAND = ("conv_large",)  # takes seconds a step on CPUs
PARTS_OF = "ladder"  # the task that --parts times by parts
# In float64: gradients that the next batch norm cancels are only rounding errors in float32.
LOSS_TOLERANCE = 1e-9  # relative
GRADIENT_TOLERANCE = 1e-6  # relative to the largest entry of each parameter's gradient

Sides = Mapping[str, Worker]


def main() -> None:
    args = _arguments()
    report = compare(args.tasks, rounds=args.rounds, threads=args.threads, parts=args.parts)
    show(tables(report))
    write(args.out, {"benchmark": "training", **report})


def compare(tasks: list[str], *, rounds: int, threads: int, parts: bool = False) -> dict[str, Any]:
    """Checks that the sides compute the same steps, then times them -> the report."""
    threads = use_cpus(threads)
    compared = [name for name in tasks if not TASKS[name].plain]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        ours = Worker("benchmarks.adv_jax_worker", env={"JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""})
        all_sides = beside_torch(ours, "benchmarks.torch_worker", threads=threads, folder=folder)
        sides = {side: stack.enter_context(worker) for side, worker in all_sides.items()}
        report = {
            "machine": machine(),
            "versions": versions("jax", "jaxlib", "flax", "optax", "torch", "numpy"),
            "rounds": rounds,
            "workers": _start(sides, compared, folder, threads),
            "equality": {name: _equality(sides, name, Path(folder)) for name in compared},
        }
        report["choice_seconds"] = {
            side: {name: worker.call("choose", name=name) for name in compared}
            for side, worker in sides.items()
            if side != OURS
        }
        return report | _measured(sides, tasks, rounds=rounds, parts=parts)


def _arguments() -> argparse.Namespace:
    parser = arguments("training", __doc__, rounds=15, of="of each side")
    default = [name for name in TASKS if name not in ON_DEMAND]
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=default)
    parser.add_argument("--parts", action="store_true", help="time the parts of the ladder step")
    return parser.parse_args()


def _start(sides: Sides, names: list[str], exchange: str, threads: int) -> dict[str, Any]:
    sides[OURS].call("export", names=names, exchange=exchange)
    described = {OURS: sides[OURS].call("describe")}
    for side in sides.keys() - {OURS}:
        described[side] = sides[side].call("describe", threads=threads, exchange=exchange)
    return described


def _equality(sides: Sides, name: str, exchange: Path) -> dict[str, dict[str, Any]]:
    """Returns the deviations of the loss and gradients of PyTorch's variants from adv_jax's.

    Exits if a variant does not compute the same step.
    """
    ours = sides[OURS].call("check", name=name, exchange=str(exchange))
    losses = sides[PLAIN].call("check", name=name)
    deviations = {}
    for way, loss in losses.items():
        worst, gradient = _furthest(
            exchange / f"{name}_adv_jax.npz", exchange / f"{name}_{way}.npz"
        )
        deviations[way] = {
            "loss": ours,
            "loss_deviation": abs(ours - loss) / abs(ours),
            "gradient_deviation": gradient,
            "gradient_worst_at": worst,
        }
        console.print(
            f"{name}, {way}: losses apart by {deviations[way]['loss_deviation']:.1e}, "
            f"gradients by at most {gradient:.1e}, at {worst}"
        )
        same = abs(ours - loss) <= LOSS_TOLERANCE * abs(ours) and gradient <= GRADIENT_TOLERANCE
        if not same:
            sys.exit(f"{name}: the sides do not compute the same step, so nothing is timed")
    return deviations


def _furthest(ours: Path, theirs: Path) -> tuple[str, float]:
    """Returns the parameter with the largest relative gradient deviation, and that deviation."""
    with np.load(ours) as a, np.load(theirs) as b:
        if set(a) != set(b):
            sys.exit(f"the sides have different parameters: {set(a) ^ set(b)}")
        apart = {key: float(abs(a[key] - b[key]).max() / abs(a[key]).max()) for key in a}
    # NaN counts as the largest deviation.
    worst = max(apart, key=lambda key: np.nan_to_num(apart[key], nan=np.inf))
    return worst, apart[worst]


def _measured(sides: Sides, names: list[str], *, rounds: int, parts: bool) -> dict[str, Any]:
    comparisons: dict[str, dict[str, Block]] = {
        "peak": _blocks(sides, "peak"),
        **{name: _compared(sides, name) for name in names},
    }
    if parts:
        run = partial(sides[OURS].call, "run", name=PARTS_OF)
        comparisons["parts"] = {part: partial(run, part=part) for part in sides[OURS].call("parts")}
    seconds = alternate(comparisons, rounds=rounds)
    peak = peak_of(seconds["peak"])
    measured = {
        "peak": peak,
        "tasks": {name: _summary(name, seconds[name], peak["gflops"]) for name in names},
    }
    if parts:
        measured["parts"] = {
            part: per_step(values, TASKS[PARTS_OF].steps)
            for part, values in seconds["parts"].items()
        }
    return measured


def _blocks(sides: Sides, name: str) -> dict[str, Block]:
    return {side: partial(worker.call, "run", name=name) for side, worker in sides.items()}


def _compared(sides: Sides, name: str) -> dict[str, Block]:
    plain = TASKS[name].plain
    if not plain:
        return _blocks(sides, name)
    run = partial(sides[OURS].call, "run")
    return {OURS: partial(run, name=name), NO_ATTACK: partial(run, name=plain)}


def _summary(name: str, seconds: Mapping[str, list[float]], peak: float) -> dict[str, Any]:
    task = TASKS[name]
    sides = {}
    for side, values in seconds.items():
        of_step = per_step(values, task.steps)
        flops = TASKS[task.plain].flops if side == NO_ATTACK else task.flops
        gflops = flops / of_step["median"] / 1e6
        sides[side] = {**of_step, "gflops": gflops, "share_of_peak": gflops / peak}
    return {
        "title": task.title,
        "steps_in_a_block": task.steps,
        "flops_per_step": task.flops,
        "ms_per_step": sides,
        "adv_jax_over": {
            side: ratios(seconds[OURS], values) for side, values in seconds.items() if side != OURS
        },
        # The matrix products alone, at peak speed.
        "limit_ms": task.flops / peak / 1e6,
    }


def tables(report: Mapping[str, Any]) -> list[Table]:
    """Returns the tables of a report: the steps by the sides that they are compared with."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, task in report["tasks"].items():
        groups.setdefault(tuple(task["ms_per_step"]), []).append(name)
    found = [_steps(report, sides[1:], names) for sides, names in groups.items()]
    if "parts" in report:
        found.append(_parts(report["parts"]))
    return found


def _steps(report: Mapping[str, Any], others: Sequence[str], names: Sequence[str]) -> Table:
    """Returns the table of tasks that adv_jax is timed with beside the same other sides."""
    short = {side: side.removeprefix(f"{OURS}, ") for side in others}
    columns = ["step", "MFLOP", f"{OURS}, ms"]
    columns += [f"{short[side]}, ms" for side in others]
    columns += [f"{OURS} / {short[side]}" for side in others]
    has_goals = any(name in GOALS for name in names)
    columns += ["goal, at most", "met"] if has_goals else []
    columns += ["at the peak, ms", "of peak"]
    rows, goals = [], []
    for name in names:
        task, bounds = report["tasks"][name], GOALS.get(name, {})
        ms, ratios = task["ms_per_step"], task["adv_jax_over"]
        own = [Goal(name, side, ratios[side], bounds[side]) for side in others if side in bounds]
        demands = " / ".join(f"{goal.bound:g}" for goal in own)
        met = " / ".join(goal.verdict for goal in own)
        rows.append(
            [
                task["title"],
                three_digits(task["flops_per_step"] / 1e6),
                *(three_digits(ms[side]["median"]) for side in (OURS, *others)),
                *(shown(ratios[side]) for side in others),
                *([demands, met] if has_goals else []),
                three_digits(task["limit_ms"]),
                f"{ms[OURS]['share_of_peak']:.0%}",
            ]
        )
        goals += own
    than = "the same step without the attack" if NO_ATTACK in others else "PyTorch's"
    title = f"One training step beside {than}; {shown_peak(report['peak'])}"
    return Table(title, columns, rows, note=unfair(goals))


def _parts(parts: Mapping[str, Mapping[str, Any]]) -> Table:
    """Returns the table of parts, which overlap and do not add up to the whole."""
    whole = next(iter(parts.values()))["median"]
    rows = [
        (
            part,
            three_digits(values["median"]),
            three_digits(values["min"]),
            f"{values['median'] / whole:.0%}",
        )
        for part, values in parts.items()
    ]
    title = f"Parts of one step, {TASKS[PARTS_OF].title}"
    return Table(title, ("part", "ms", "least", "of the whole"), rows)


if __name__ == "__main__":
    main()
