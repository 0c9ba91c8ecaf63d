"""Checks and times adv_jax on the device at hand: `python -m benchmarks.accelerator`.

First the numbers of the device are compared with the CPU's; the program stops if they differ. Then
attacks and training steps are timed beside PyTorch on the same device, and ten seeds at once beside
ten in turn. See benchmarks/README.md for the method.
"""

import argparse
import os
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import attacks, training
from benchmarks.accelerator_worker import ATTACKS, SEEDS
from benchmarks.tables import Goal, Table, console, goals, show, shown, three_digits
from benchmarks.tasks import TASKS
from benchmarks.timing import (
    ON_ACCELERATOR,
    Worker,
    alternate,
    machine,
    ratios,
    spread,
    versions,
    write,
)

STEPS = ("ladder", "conv_small", "conv_large", "lwa", "mlp_10")  # beside PyTorch's
COMPARED = ("ladder", "conv_small", "lwa")  # with the CPU's first steps
SEEDED = "mlp_10"
SEEDS_GOAL = 5.0  # least speedup of all seeds at once on a GPU
MINUTES_GOAL = 9.0  # most minutes of the whole program on a GPU
RESNET_EPS = 4 / 255
# Many steps through 18 layers amplify rounding: the tolerances allow a few images.
_RESNET18 = attacks.Work(
    title="PGD-40 linf",
    attack="pgd",
    net="resnet18",
    rows=500,
    peers={"torchattacks": attacks.Peer(1.0, tolerance=0.02)},
    measure="accuracy",
    passes=(40, 40),
    options={
        "norm": "linf",
        "eps": RESNET_EPS,
        "step_size": 1 / 255,
        "num_steps": 40,
        "returns": "last",  # as torchattacks; the best point fools more often
    },
    split=(False,),
)
WORKS = {
    "pgd_lenet": attacks.WORKS["pgd_lenet"]._replace(
        peers={"torchattacks": attacks.Peer(1.0)}, rows=1000, chunks=()
    ),
    "auto_attack": attacks.WORKS["auto_attack"],
    "pgd_resnet18": _RESNET18,
    "auto_attack_resnet18": _RESNET18._replace(
        title="AutoAttack linf",
        attack="auto_attack",
        rows=64,
        peers={"torchattacks": attacks.Peer(1.0, tolerance=0.05)},
        passes=None,
        options={"eps": RESNET_EPS},
        rounds=0,
    ),
}
DIGITS = 100  # under each attack that is compared with the CPU's
ACCURACY_TOLERANCE = 0.02  # absolute; rounding decides ties of a few digits
LOSS_TOLERANCE = 1e-3  # relative, of a training's first steps
REPLICA_TOLERANCE = 1e-3  # relative
TOGETHER, IN_TURN = "all seeds, vmap", "one after another"


def main() -> None:
    args = _arguments()
    threads, start = args.threads or os.cpu_count() or 1, time.perf_counter()
    with Worker("benchmarks.accelerator_worker", env=ON_ACCELERATOR) as worker:
        described = worker.call("describe")
        report = {
            "benchmark": "accelerator",
            "machine": machine() | described,
            "versions": versions(*attacks.PACKAGES, "optax"),
            "threads": threads,
            "rounds": args.rounds,
            "checks": checks(worker, digits=args.digits),
            "seeds": seeds(worker, rounds=args.rounds),
        }
    works = {name: attacks.with_rows(WORKS[name], args.digits) for name in args.works}
    device = "cuda" if described["platform"] == "gpu" else "cpu"
    both = {"rounds": args.rounds, "threads": threads, "device": device}
    report["training"] = training.compare(args.tasks, **both)
    report["attacks"] = attacks.compare(works, **both) if works else None
    report["minutes"] = (time.perf_counter() - start) / 60
    show(tables(report))
    write(args.out, report)


def checks(worker: Worker, *, digits: int | None) -> dict[str, Any]:
    """Compares the device with the CPU; exits if they differ by more than the tolerances."""
    count = min(digits or DIGITS, DIGITS)
    found = {
        "attacks": {name: worker.call("attacked", name=name, digits=count) for name in ATTACKS},
        "trainings": {name: worker.call("trained", name=name) for name in COMPARED},
        "replicas": worker.call("replicas", name=SEEDED, seeds=3),
    }
    faults = [
        f"{name}: accuracy {both['device']:.3f} on the device, {both['cpu']:.3f} on the CPU"
        for name, both in found["attacks"].items()
        if not abs(both["device"] - both["cpu"]) <= ACCURACY_TOLERANCE
    ]
    faults += [
        f"{name}: losses {both['device']} on the device, {both['cpu']} on the CPU"
        for name, both in found["trainings"].items()
        if not _apart(both) <= LOSS_TOLERANCE
    ]
    if not found["replicas"] <= REPLICA_TOLERANCE:
        faults.append(f"vmapped replicas differ from single ones by {found['replicas']:.1e}")
    for fault in faults:
        console.print(fault, markup=False)
    if faults:
        sys.exit("the device does not compute the same numbers, so nothing is timed")
    return found


def seeds(worker: Worker, *, rounds: int) -> dict[str, Any]:
    """Times ten seeds of one task at once and in turn."""
    run = partial(worker.call, "seeds", name=SEEDED)
    sides = {TOGETHER: partial(run, vmapped=True), IN_TURN: partial(run, vmapped=False)}
    seconds = alternate({SEEDED: sides}, rounds=rounds)[SEEDED]
    return {
        "seeds": SEEDS,
        "seconds": {side: {**spread(values), "rounds": values} for side, values in seconds.items()},
        "times_as_fast": ratios(seconds[IN_TURN], seconds[TOGETHER]),
        "goal": SEEDS_GOAL,
    }


def tables(report: Mapping[str, Any]) -> list[Table]:
    """Returns the tables of the checks, of the steps, of the attacks and of the seeds."""
    found = [_checks(report), *training.tables(report["training"])]
    if report["attacks"]:
        found += attacks.tables(report["attacks"])
    on_gpu = report["machine"]["platform"] == "gpu"
    found.append(_seeds(report["seeds"], on_gpu=on_gpu))
    return [*found, _goals(report)] if on_gpu else found


def _seeds(timed: Mapping[str, Any], *, on_gpu: bool) -> Table:
    """Returns the seconds of both ways; elsewhere than on a GPU the goal is only noted."""
    times, seconds = timed["times_as_fast"], timed["seconds"]
    rows = [[side, three_digits(values["median"])] for side, values in seconds.items()]
    note = f"All at once are {shown(times)} times as fast."
    if not on_gpu:
        note += f" The goal on a GPU is at least {timed['goal']:g}."
    title = f"{timed['seeds']} seeds of {TASKS[SEEDED].title}, a block of steps"
    return Table(title, ("way", "seconds"), rows, note=note)


def _goals(report: Mapping[str, Any]) -> Table:
    timed, minutes = report["seeds"], spread([report["minutes"]])
    task = f"{timed['seeds']} seeds of {TASKS[SEEDED].title}"
    ratio = f"{IN_TURN} / {TOGETHER}"
    return goals(
        [
            Goal(task, ratio, timed["times_as_fast"], timed["goal"], at_least=True),
            Goal("this program", "minutes", minutes, MINUTES_GOAL),
        ]
    )


def _checks(report: Mapping[str, Any]) -> Table:
    found = report["checks"]
    rows = [
        [f"accuracy under {name}", f"{both['device']:.1%}", f"{both['cpu']:.1%}"]
        for name, both in found["attacks"].items()
    ]
    rows += [
        [f"loss after {len(both['cpu'])} steps, {TASKS[name].title}"]
        + [f"{both[side][-1]:.6g}" for side in ("device", "cpu")]
        for name, both in found["trainings"].items()
    ]
    note = f"Vmapped replicas and single runs differ by {found['replicas']:.1e}."
    return Table(f"{report['machine']['device']} and CPU", ("", "device", "CPU"), rows, note=note)


def _apart(both: Mapping[str, list[float]]) -> float:
    """Returns the largest relative difference of the losses."""
    pairs = zip(both["device"], both["cpu"], strict=True)
    return max(abs(device - cpu) / abs(cpu) for device, cpu in pairs)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accelerator", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/accelerator.json"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, help="of each side; all by default")
    parser.add_argument("--digits", type=int, help="at most so many for each attack, to try it")
    parser.add_argument("--tasks", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--works", nargs="*", choices=WORKS, default=list(WORKS))
    return parser.parse_args()


if __name__ == "__main__":
    main()
