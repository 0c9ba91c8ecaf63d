"""Checks and times adv_jax on the device at hand: `python -m benchmarks.accelerator`.

A list of stages. The first compares the numbers of the device with the CPU's, and the program stops
if they differ. The others time steps and attacks beside each form of PyTorch on the same device,
and ten seeds in one program beside one. Our side and each form have limits of their own, their
compiling included, and are written when they are done; the same command goes on with what is
missing. On a CPU the sizes are small and only show that it runs. See benchmarks/README.md.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib import util
from pathlib import Path
from typing import Any

from benchmarks.accelerator_stages import LIBRARIES, SEEDS, STAGES, Work, stage_names
from benchmarks.accelerator_tables import apart, tables
from benchmarks.tables import console, show
from benchmarks.timing import (
    ON_ACCELERATOR,
    OURS,
    Worker,
    WorkerError,
    alternate,
    arguments,
    machine,
    per_step,
    ratios,
    versions,
    write,
)

PACKAGES = ("jax", "jaxlib", "flax", "numpy", "optax")
PEERS = ("torch", *LIBRARIES)
# Seconds: of a request to our side, of the start of a process of PyTorch, and of a form of PyTorch
# until its first block is done.
LIMIT, START_LIMIT = 120.0, 60.0
FORM_LIMIT, QUICK_LIMITS = 90.0, {"eager": 45.0, "graph": 45.0}
DIGITS = 100  # under each attack that is compared with the CPU's
COMPARED = ("mlp_10", "lwa")  # tasks whose first steps are compared with the CPU's
ACCURACY_TOLERANCE = 0.02  # absolute; rounding decides ties of a few digits
LOSS_TOLERANCE = 1e-3  # relative, of a training's first steps
REPLICA_TOLERANCE = 1e-3  # relative
# Largest difference of the sides' logits, relative to the largest logit.
LOGITS_TOLERANCE = {"float32": 1e-3, "tf32": 2e-2, "bfloat16": 1e-1}


class Workers:
    """The processes of both sides, which start when they are needed and live over stages.

    Each form of PyTorch has a process of its own, which may be ended when it takes too long. Limits
    hold on a GPU only, as a CPU shows no more than that everything runs.
    """

    def __init__(self, threads: int) -> None:
        self._threads, self._device, self._running = threads, "cpu", dict[str, Worker]()

    def describe(self) -> dict[str, Any]:
        found = self.call(OURS, "describe")
        self._device = "cuda" if found["platform"] == "gpu" else "cpu"
        return found

    def call(
        self, side: str, request: str, *, within: float | None = None, **arguments: Any
    ) -> Any:
        """Calls a side's worker, which has `within` seconds.

        Raises:
          WorkerError: it has ended, or took too long; the next call starts another.
        """
        try:
            return self._worker(side).call(request, within=self._limit(within), **arguments)
        except WorkerError:
            self._running.pop(side).__exit__()
            raise

    def _worker(self, side: str) -> Worker:
        if side in self._running:
            return self._running[side]
        if side == OURS:
            self._running[side] = Worker("benchmarks.accelerator_worker", env=ON_ACCELERATOR)
        else:
            worker = self._running[side] = Worker("benchmarks.accelerator_torch_worker")
            within = self._limit(START_LIMIT)
            worker.call("describe", within=within, threads=self._threads, device=self._device)
        return self._running[side]

    def _limit(self, seconds: float | None) -> float | None:
        return seconds if self._device == "cuda" else None

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._running.values():
            worker.__exit__()


def main() -> None:
    args = _arguments()
    end, threads = time.perf_counter() + args.minutes * 60, args.threads or os.cpu_count() or 1
    left = lambda: end - time.perf_counter()
    with Workers(threads) as workers:
        head = {
            "benchmark": "accelerator",
            "machine": machine() | workers.describe(),
            "versions": versions(*PACKAGES, optional=PEERS),
            "threads": threads,
            "rounds": args.rounds,
        }
        report = resumed(args.out, head)
        failed = run_stages(
            args.stages,
            report,
            measure=partial(_measure, workers, report, rounds=args.rounds, left=left),
            save=lambda: write(args.out, report),
            left=left,
        )
    show(tables(report))
    if failed:
        sys.exit(f"not measured: {', '.join(failed)}")


def resumed(path: Path, head: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the report of a file of this device and these versions, else a new one."""
    if path.exists():
        found = json.loads(path.read_text())
        if _measures_on(found) == _measures_on(head):
            return found
        console.print(f"{path} is of another device or of other versions: starting afresh")
    return {**head, "stages": {}}


def _measures_on(report: Mapping[str, Any]) -> tuple[Any, ...]:
    of = report["machine"]
    return of.get("device"), of["cpu"], of["cpus"], of["python"], report["versions"]


def run_stages(
    names: Sequence[str],
    report: dict[str, Any],
    *,
    measure: Callable[[str], Iterator[Mapping[str, Any]]],
    save: Callable[[], None],
    left: Callable[[], float],
) -> list[str]:
    """Runs what the report lacks of the stages -> those that failed.

    Args:
      names: the stages, in order of value; one whose estimate exceeds the time left is passed over.
      measure: yields what is found of a stage, more each time; it is put into the report.
      save: writes the report.
      left: the seconds that are left.
    """
    failed = []
    for name in names:
        known = report["stages"].get(name)
        if known and not missing(name, report):
            console.print(f"{name}: measured before", style="dim")
        elif STAGES[name].seconds > left():
            console.print(f"{name}: no time is left", style="dim")
        else:
            console.print(name)
            start, before = time.perf_counter(), known["seconds"] if known else 0.0
            try:
                for found in measure(name):
                    seconds = before + time.perf_counter() - start
                    report["stages"][name] = {**found, "seconds": seconds}
                    save()
            except WorkerError as error:
                console.print(f"{name}: {error}", markup=False)
                failed.append(name)
    return failed


def missing(name: str, report: Mapping[str, Any]) -> list[str]:
    """Returns the forms of PyTorch that a stage lacks and that this machine can run.

    All of them if the stage is new, so that the report says which are not installed.
    """
    on_gpu, found = report["machine"]["platform"] == "gpu", report["stages"].get(name)
    forms = [form for form in STAGES[name].forms if on_gpu or not form.endswith("graph")]
    if not found:
        return forms
    return [form for form in forms if form not in found["forms"] and _needs(form) is None]


def _measure(
    workers: Workers,
    report: Mapping[str, Any],
    name: str,
    *,
    rounds: int,
    left: Callable[[], float],
) -> Iterator[dict[str, Any]]:
    """Yields what is found of a stage, more each time."""
    stage = STAGES[name]
    if stage.work is None:
        yield checks(workers)
        return
    on_gpu = report["machine"]["platform"] == "gpu"
    work = stage.work if on_gpu else stage.work._replace(**stage.small)
    console.print(work.title)
    if stage.forms:
        known = report["stages"].get(name, {})
        rounds = 0 if stage.once else rounds
        forms = missing(name, report)
        yield from compare(workers, work, forms, known=known, rounds=rounds, left=left)
    else:
        yield seeds(workers, work, rounds=rounds)


def checks(workers: Workers, *, digits: int = DIGITS) -> dict[str, Any]:
    """Compares the device with the CPU; exits if they differ by more than the tolerances."""
    call = partial(workers.call, OURS, within=LIMIT)
    found = {
        "attacks": call("attacked", digits=digits),
        "trainings": {name: call("trained", name=name, seeds=3) for name in COMPARED},
    }
    faults = [
        f"{name}: accuracy {both['device']:.3f} on the device, {both['cpu']:.3f} on the CPU"
        for name, both in found["attacks"].items()
        if not abs(both["device"] - both["cpu"]) <= ACCURACY_TOLERANCE
    ]
    for name, both in found["trainings"].items():
        if not _largest_change(both) <= LOSS_TOLERANCE:
            faults.append(
                f"{name}: losses {both['device']} on the device, {both['cpu']} on the CPU"
            )
        if not both["replicas"] <= REPLICA_TOLERANCE:
            apart = f"{both['replicas']:.1e}"
            faults.append(f"{name}: vmapped replicas differ from single ones by {apart}")
    for fault in faults:
        console.print(fault, markup=False)
    if faults:
        sys.exit("the device does not compute the same numbers, so nothing is timed")
    return found


def compare(
    workers: Workers,
    work: Work,
    forms: Sequence[str],
    *,
    known: Mapping[str, Any],
    rounds: int,
    left: Callable[[], float],
) -> Iterator[dict[str, Any]]:
    """Times a work beside each of some forms of PyTorch; yields what is found after each.

    A form that fails, or that takes longer than its limit, is left out.

    Args:
      known: what was found before, of other forms.
      rounds: 0 to take the first call after compiling.
      left: the seconds that are left; a form whose limit exceeds them is left out.
    """
    fields = work._asdict()
    ours = workers.call(OURS, "prepare", within=LIMIT, work=fields)
    found = {"work": fields, "forms": {}, "left_out": {}, **known, OURS: ours}
    with tempfile.TemporaryDirectory() as exchange:
        workers.call(OURS, "export", within=LIMIT, work=fields, exchange=exchange)
        for form in forms:
            timed, left_out = dict(found["forms"]), dict(found["left_out"])
            left_out.pop(form, None)
            try:
                if why := _needs(form) or (_limit(form) > left() and "no time was left"):
                    raise WorkerError(why)
                timed[form] = _beside(workers, work, form, ours, exchange, rounds=rounds)
                if fault := apart(work, ours, timed[form]):
                    console.print(f"  {form} differs: {fault}", markup=False)
            except WorkerError as error:
                left_out[form] = str(error)
                console.print(f"  {form} is left out: {error}", markup=False)
            found = {**found, "forms": timed, "left_out": left_out}
            yield found


def _beside(
    workers: Workers,
    work: Work,
    form: str,
    ours: Mapping[str, float],
    exchange: str,
    *,
    rounds: int,
) -> dict[str, Any]:
    """Prepares a form of PyTorch and times it in turns with our side -> its facts and both times.

    Raises:
      WorkerError: it fails, takes too long, or its net is not ours.
    """
    asked = {"work": work._asdict(), "form": form}
    limit = _limit(form)
    facts = workers.call(form, "prepare", within=limit, exchange=exchange, **asked)
    if fault := facts.get("failed") or _fault(work, facts):
        raise WorkerError(fault)
    seconds = {OURS: [ours["first_seconds"]], form: [facts["first_seconds"]]}
    if rounds:
        blocks = {
            OURS: partial(workers.call, OURS, "run", work=asked["work"]),
            form: partial(workers.call, form, "run", within=limit, **asked),
        }
        seconds = alternate({"": blocks}, rounds=rounds)[""]
    ms = {side: per_step(values, work.steps) for side, values in seconds.items()}
    return facts | {"ms": ms, "times_as_fast": ratios(seconds[form], seconds[OURS])}


def seeds(workers: Workers, work: Work, *, rounds: int) -> dict[str, Any]:
    """Times the steps of ten seeds in one program beside those of one."""
    works = {"at_once": work._replace(seeds=SEEDS)._asdict(), "alone": work._asdict()}
    call = partial(workers.call, OURS)
    prepared = {side: call("prepare", within=LIMIT, work=one) for side, one in works.items()}
    blocks = {side: partial(call, "run", work=one) for side, one in works.items()}
    seconds = alternate({"": blocks}, rounds=rounds)[""]
    timed = {side: prepared[side] | {"ms": per_step(seconds[side], work.steps)} for side in works}
    one_after_another = [SEEDS * value for value in seconds["alone"]]
    times_as_fast = ratios(one_after_another, seconds["at_once"])
    return {"work": work._asdict(), **timed, "times_as_fast": times_as_fast}


def _needs(form: str) -> str | None:
    """Returns what a form lacks, in words."""
    packages = ("torch", form) if form in LIBRARIES else ("torch",)
    missing = [package for package in packages if util.find_spec(package) is None]
    return f"{missing[0]} is not installed" if missing else None


def _fault(work: Work, facts: Mapping[str, Any]) -> str | None:
    """Returns in words how a form's net differs from ours."""
    apart = facts.get("logits_apart", 0.0)
    if apart <= LOGITS_TOLERANCE[work.precision]:
        return None
    return f"its logits are apart by {apart:.1e} of the largest"


def _limit(form: str) -> float:
    return QUICK_LIMITS.get(form, FORM_LIMIT)


def _largest_change(both: Mapping[str, list[float]]) -> float:
    """Returns the largest relative difference of the losses."""
    pairs = zip(both["device"], both["cpu"], strict=True)
    return max(abs(device - cpu) / abs(cpu) for device, cpu in pairs)


def _arguments() -> argparse.Namespace:
    parser = arguments(
        "accelerator", __doc__, rounds=5, threads=None, of="of PyTorch's side; all by default"
    )
    parser.add_argument("--stages", type=stage_names, default=list(STAGES), help="NAME,NAME")
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="begin nothing that may outlast these"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
