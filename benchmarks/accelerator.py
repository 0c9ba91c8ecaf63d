"""Checks and times adv_jax on the device at hand: `python -m benchmarks.accelerator`.

A list of stages, each within 90 seconds, its compiling included. The first compares the numbers of
the device with the CPU's, and the program stops if they differ. The others time steps and attacks
beside PyTorch on the same device, and ten seeds in one program beside one. Each is written when it
is done; the same command goes on with those that are missing. On a CPU the sizes are small and only
show that it runs. See benchmarks/README.md for the method.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib import metadata, util
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.tables import Goal, Table, console, goals, show, shown, three_digits
from benchmarks.tasks import TASKS
from benchmarks.timing import (
    ON_ACCELERATOR,
    Worker,
    WorkerError,
    alternate,
    machine,
    ratios,
    spread,
    write,
)

OURS = "adv_jax"
PACKAGES = ("jax", "jaxlib", "flax", "numpy", "optax", "torch", "torchattacks", "foolbox")
LIBRARIES = ("torchattacks", "foolbox")
LIMIT = 90.0  # seconds of a stage; a form of PyTorch that is not ready by then is left out
SEEDS = 10
DIGITS = 100  # under each attack that is compared with the CPU's
COMPARED = ("mlp_10", "lwa")  # tasks whose first steps are compared with the CPU's
ACCURACY_TOLERANCE = 0.02  # absolute; rounding decides ties of a few digits
LOSS_TOLERANCE = 1e-3  # relative, of a training's first steps
REPLICA_TOLERANCE = 1e-3  # relative
# Largest difference of the sides' logits, relative to the largest logit.
LOGITS_TOLERANCE = {"float32": 1e-3, "tf32": 2e-2, "bfloat16": 1e-1}


class Work(NamedTuple):
    """One program and its numbers.

    Attributes:
      kind: "task", steps of a task of `benchmarks.tasks`; "training", of PGD adversarial training;
        "pgd" or "auto_attack".
      precision: of products and convolutions on both sides: "float32"; "tf32"; or "bfloat16", which
        in PyTorch is mixed precision, and TF32 for the rest.
      task: name of the task.
      net: "lenet", trained; "resnet18"; or "resnet", a narrow one.
      rows: images of an attack or of a batch.
      steps: steps per timed block; of an attack, calls.
      seeds: of a task, trained in one program.
      num_steps, eps, step_size: of PGD; the first two also of AutoAttack.
      num_queries: of AutoAttack's Square.
      learning_rate: of adversarial training, with momentum .9.
    """

    kind: str
    precision: str = "float32"
    task: str = ""
    net: str = ""
    rows: int = 0
    steps: int = 1
    seeds: int = 1
    num_steps: int = 0
    eps: float = 0.0
    step_size: float = 0.0
    num_queries: int = 0
    learning_rate: float = 0.1


class Stage(NamedTuple):
    """What is measured in one go.

    Attributes:
      title: title in the tables.
      work: what both sides compute; None for the checks.
      small: its replaced fields on a CPU.
      forms: PyTorch's; () to compare ten seeds with one.
      goal: least times as fast as PyTorch's best form, or as one seed, on a GPU.
      seconds: estimate for `--minutes`.
      once: whether the first call after compiling is what counts.
    """

    title: str
    work: Work | None = None
    small: Mapping[str, Any] = {}
    forms: Sequence[str] = ()
    goal: float | None = None
    seconds: float = LIMIT
    once: bool = False


FORMS = ("eager", "graph", "compiled", "compiled graph")
_LADDER = Work("task", task="ladder", steps=40)
_SMALL_TASK = {"steps": 2}
_LENET = Work("pgd", "tf32", net="lenet", rows=10_000, num_steps=40, eps=0.1, step_size=0.01)
_RESNET = Work(
    "pgd", "bfloat16", net="resnet18", rows=512, num_steps=20, eps=8 / 255, step_size=2 / 255
)
_SMALL_RESNET = {"net": "resnet", "rows": 8, "num_steps": 2}
_TRAINING = _RESNET._replace(kind="training", rows=128, steps=10, num_steps=10)
_AUTO_ATTACK = Work(
    "auto_attack", net="lenet", rows=1000, num_steps=100, eps=0.2, num_queries=5000
)
_SMALL_AUTO_ATTACK = {"rows": 8, "num_steps": 2, "num_queries": 5}


def _resnet(precision: str, goal: float | None = None) -> Stage:
    return Stage(
        f"PGD-20 linf, PreAct-ResNet-18, 512 images, {precision}",
        _RESNET._replace(precision=precision),
        _SMALL_RESNET,
        (*FORMS, "torchattacks"),
        goal,
    )


def _training(precision: str, goal: float | None = None) -> Stage:
    return Stage(
        f"PGD-10 adversarial training, PreAct-ResNet-18, batch 128, {precision}",
        _TRAINING._replace(precision=precision),
        {**_SMALL_RESNET, "steps": 2},
        FORMS,
        goal,
    )


def _lenet(precision: str, goal: float | None = None) -> Stage:
    return Stage(
        f"PGD-40 linf, LeNet, 10,000 digits, {precision}",
        _LENET._replace(precision=precision),
        {"rows": 20, "num_steps": 2},
        (*FORMS, *LIBRARIES),
        goal,
    )


def _seeds(task: str, steps: int, goal: float | None = None) -> Stage:
    work = Work("task", task=task, steps=steps)
    return Stage(f"{SEEDS} seeds, {TASKS[task].title}", work, _SMALL_TASK, goal=goal)


# In order of value, which --minutes follows.
STAGES = {
    "checks": Stage("checks"),
    "ladder": Stage(f"{TASKS['ladder'].title}, float32", _LADDER, _SMALL_TASK, FORMS, 1.0),
    "training_bfloat16": _training("bfloat16", 1.3),
    "pgd_lenet": _lenet("tf32", 2.5),
    "pgd_resnet18_bfloat16": _resnet("bfloat16", 1.1),
    "auto_attack": Stage(
        "AutoAttack linf, LeNet, 1,000 digits, float32",
        _AUTO_ATTACK,
        _SMALL_AUTO_ATTACK,
        ("torchattacks",),
        3.0,
        once=True,
    ),
    "seeds_ladder": _seeds("ladder", 40, 6.0),
    "seeds_mlp_10": _seeds("mlp_10", 500, 5.0),
    "training_tf32": _training("tf32"),
    "pgd_resnet18_tf32": _resnet("tf32"),
    "pgd_resnet18_float32": _resnet("float32"),
    "pgd_lenet_float32": _lenet("float32"),
    "seeds_lwa": _seeds("lwa", 10),
    "auto_attack_resnet18": Stage(
        "AutoAttack linf, PreAct-ResNet-18, 64 images, tf32",
        _AUTO_ATTACK._replace(precision="tf32", net="resnet18", rows=64, eps=4 / 255),
        {**_SMALL_AUTO_ATTACK, "net": "resnet"},
        ("torchattacks",),
        once=True,
    ),
}


class Workers:
    """The processes of both sides, which start when they are needed and live over stages.

    PyTorch's compiled forms have a process of their own, which may be ended when it takes too long.
    """

    def __init__(self, threads: int) -> None:
        self._threads, self._device, self._running = threads, "cpu", dict[str, Worker]()

    def describe(self) -> dict[str, Any]:
        found = self.call(OURS, "describe")
        self._device = "cuda" if found["platform"] == "gpu" else "cpu"
        return found

    def call(self, side: str, request: str, **arguments: Any) -> Any:
        """Calls a side's worker.

        Raises:
          WorkerError: it has ended, or took too long; the next call starts another.
        """
        host = side if side == OURS else "compiled" if side.startswith("compiled") else "torch"
        try:
            return self._worker(host).call(request, **arguments)
        except WorkerError:
            self._running.pop(host).__exit__()
            raise

    def _worker(self, host: str) -> Worker:
        if host in self._running:
            return self._running[host]
        if host == OURS:
            self._running[host] = Worker("benchmarks.accelerator_worker", env=ON_ACCELERATOR)
        else:
            worker = self._running[host] = Worker("benchmarks.accelerator_torch_worker")
            worker.call("describe", within=LIMIT, threads=self._threads, device=self._device)
        return self._running[host]

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._running.values():
            worker.__exit__()


def main() -> None:
    args = _arguments()
    start, threads = time.perf_counter(), args.threads or os.cpu_count() or 1
    with Workers(threads) as workers:
        described = workers.describe()
        report = resumed(
            args.out,
            {
                "benchmark": "accelerator",
                "machine": machine() | described,
                "versions": _installed(PACKAGES),
                "threads": threads,
                "rounds": args.rounds,
            },
        )
        run = partial(_run, workers, rounds=args.rounds, on_gpu=described["platform"] == "gpu")
        failed = run_stages(
            args.stages,
            report,
            run=run,
            save=lambda: write(args.out, report),
            left=lambda: args.minutes * 60 - (time.perf_counter() - start),
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
    run: Callable[[str], Mapping[str, Any]],
    save: Callable[[], None],
    left: Callable[[], float],
) -> list[str]:
    """Runs the stages that the report lacks, and saves it after each -> those that failed.

    Args:
      names: the stages, in order of value; one whose estimate exceeds the time left is passed over.
      run: measures a stage.
      left: the seconds that are left.
    """
    failed = []
    for name in names:
        if name in report["stages"]:
            console.print(f"{name}: measured before", style="dim")
        elif STAGES[name].seconds > left():
            console.print(f"{name}: no time is left", style="dim")
        else:
            console.print(f"{name}: {STAGES[name].title}")
            try:
                start = time.perf_counter()
                found = dict(run(name))
            except WorkerError as error:
                console.print(f"{name}: {error}", markup=False)
                failed.append(name)
                continue
            report["stages"][name] = found | {"seconds": time.perf_counter() - start}
            save()
    return failed


def _run(workers: Workers, name: str, *, rounds: int, on_gpu: bool) -> dict[str, Any]:
    stage = STAGES[name]
    if stage.work is None:
        return checks(workers)
    work = stage.work if on_gpu else stage.work._replace(**stage.small)
    if not stage.forms:
        return seeds(workers, work, rounds=rounds)
    forms = [form for form in stage.forms if on_gpu or not form.endswith("graph")]
    return compare(workers, work, forms, rounds=0 if stage.once else rounds)


def checks(workers: Workers, *, digits: int = DIGITS) -> dict[str, Any]:
    """Compares the device with the CPU; exits if they differ by more than the tolerances."""
    call = partial(workers.call, OURS)
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
        if not _apart(both) <= LOSS_TOLERANCE:
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
    workers: Workers, work: Work, forms: Sequence[str], *, rounds: int
) -> dict[str, Any]:
    """Times a work beside PyTorch's forms; rounds 0 takes the first call after compiling."""
    end = time.perf_counter() + LIMIT
    left = lambda: max(end - time.perf_counter(), 1.0)
    fields = work._asdict()
    prepared, left_out = {OURS: workers.call(OURS, "prepare", within=left(), work=fields)}, {}
    with tempfile.TemporaryDirectory() as exchange:
        installed = [form for form in forms if _needs(form) is None]
        left_out |= {form: _needs(form) for form in forms if form not in installed}
        if installed:
            workers.call(OURS, "export", within=left(), work=fields, exchange=exchange)
        for form in installed:
            asked = {"work": fields, "form": form, "exchange": exchange}
            try:
                found = workers.call(form, "prepare", within=left(), **asked)
            except WorkerError as error:
                found = {"failed": str(error)}
            fault = found.get("failed") or _fault(work, found)
            if fault:
                left_out[form] = fault
            else:
                prepared[form] = found
    for form, why in left_out.items():
        console.print(f"  {form} is left out: {why}", markup=False)
    seconds = {side: [facts["first_seconds"]] for side, facts in prepared.items()}
    if rounds:
        run = {side: {} if side == OURS else {"form": side} for side in prepared}
        blocks = {
            side: partial(workers.call, side, "run", work=fields, **form)
            for side, form in run.items()
        }
        seconds = alternate({"": blocks}, rounds=rounds)[""]
    return {"work": fields, "prepared": prepared, "left_out": left_out, **_summary(work, seconds)}


def _summary(work: Work, seconds: Mapping[str, list[float]]) -> dict[str, Any]:
    """Returns the milliseconds of each side, PyTorch's best form and how much faster we are."""
    found: dict[str, Any] = {"ms": _per_step(work, seconds)}
    theirs = [side for side in seconds if side != OURS]
    if not theirs:
        return found
    best = min(theirs, key=lambda side: found["ms"][side]["median"])
    return found | {"best": best, "times_as_fast": ratios(seconds[best], seconds[OURS])}


def _per_step(work: Work, seconds: Mapping[str, list[float]]) -> dict[str, Any]:
    """Returns milliseconds of a step, or of an attack."""
    ms = {side: [1000 * value / work.steps for value in seconds[side]] for side in seconds}
    return {side: {**spread(values), "rounds": values} for side, values in ms.items()}


def seeds(workers: Workers, work: Work, *, rounds: int) -> dict[str, Any]:
    """Times the steps of ten seeds in one program beside those of one."""
    works = {f"{count} seeds": work._replace(seeds=count)._asdict() for count in (SEEDS, 1)}
    call = partial(workers.call, OURS)
    prepared = {side: call("prepare", within=LIMIT, work=one) for side, one in works.items()}
    blocks = {side: partial(call, "run", work=one) for side, one in works.items()}
    seconds = alternate({"": blocks}, rounds=rounds)[""]
    at_once, alone = seconds.values()
    return {
        "work": work._asdict(),
        "prepared": prepared,
        "ms": _per_step(work, seconds),
        "times_as_fast": ratios([SEEDS * value for value in alone], at_once),
    }


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


def _installed(packages: Sequence[str]) -> dict[str, str]:
    found = {}
    for package in packages:
        if util.find_spec(package):
            found[package] = metadata.version(package)
    return found


def tables(report: Mapping[str, Any]) -> list[Table]:
    """Returns the tables of the checks, of what is timed beside PyTorch, of the seeds and goals."""
    done = {name: found for name, found in report["stages"].items() if name in STAGES}
    beside = {name: found for name, found in done.items() if STAGES[name].forms}
    at_once = {
        name: found
        for name, found in done.items()
        if STAGES[name].work and not STAGES[name].forms
    }
    tables = [_checks(report, done["checks"])] if "checks" in done else []
    if beside:
        tables.append(_beside(beside))
    if at_once:
        tables.append(_at_once(at_once))
    on_gpu = report["machine"]["platform"] == "gpu"
    met = list(_goals(done))
    return [*tables, goals(met)] if on_gpu and met else tables


def _beside(done: Mapping[str, Any]) -> Table:
    columns = ("work", "side", "ms", "best / adv_jax", "compiled, s", "first call, s")
    rows = []
    for name, found in done.items():
        title = STAGES[name].title
        for side, ms in found["ms"].items():
            facts = found["prepared"][side]
            is_best = side == found.get("best")
            rows.append(
                [
                    title,
                    side if side == OURS else f"PyTorch, {side}",
                    three_digits(ms["median"]),
                    shown(found["times_as_fast"]) if is_best else "",
                    f"{facts['compile_seconds']:.1f}",
                    f"{facts['first_seconds']:.2f}",
                ]
            )
            title = ""
    note = (
        "Milliseconds of a step or of an attack. A ratio is that of the best of PyTorch's forms. "
        "The first call of a compiled form of PyTorch includes its compiling."
    )
    return Table("Beside PyTorch on the same device", columns, rows, words=2, note=note)


def _at_once(done: Mapping[str, Any]) -> Table:
    columns = ("task", f"{SEEDS} seeds, ms", "1 seed, ms", "times as fast", "compiled, s")
    rows = []
    for name, found in done.items():
        ms = [three_digits(values["median"]) for values in found["ms"].values()]
        compiled = [f"{facts['compile_seconds']:.1f}" for facts in found["prepared"].values()]
        title = TASKS[found["work"]["task"]].title
        rows.append([title, *ms, shown(found["times_as_fast"]), " and ".join(compiled)])
    return Table(f"A step of {SEEDS} seeds in one program, and of one", columns, rows)


def _goals(done: Mapping[str, Any]) -> Iterator[Goal]:
    for name, found in done.items():
        goal = STAGES[name].goal
        if goal and "times_as_fast" in found:
            ratio = f"{found['best']} / {OURS}" if "best" in found else "one after another / at once"
            yield Goal(STAGES[name].title, ratio, found["times_as_fast"], goal, at_least=True)


def _checks(report: Mapping[str, Any], found: Mapping[str, Any]) -> Table:
    rows = [
        [f"accuracy under {name}", f"{both['device']:.1%}", f"{both['cpu']:.1%}"]
        for name, both in found["attacks"].items()
    ]
    rows += [
        [f"loss after {len(both['cpu'])} steps, {TASKS[name].title}"]
        + [f"{both[side][-1]:.6g}" for side in ("device", "cpu")]
        for name, both in found["trainings"].items()
    ]
    apart = max(both["replicas"] for both in found["trainings"].values())
    note = f"Vmapped replicas and single runs differ by at most {apart:.1e}."
    return Table(f"{report['machine']['device']} and CPU", ("", "device", "CPU"), rows, note=note)


def _apart(both: Mapping[str, list[float]]) -> float:
    """Returns the largest relative difference of the losses."""
    pairs = zip(both["device"], both["cpu"], strict=True)
    return max(abs(device - cpu) / abs(cpu) for device, cpu in pairs)


def _names(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in STAGES]
    if unknown:
        allowed = ", ".join(STAGES)
        raise argparse.ArgumentTypeError(f"must be of {allowed}, got {unknown[0]!r}")
    return names


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accelerator", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/accelerator.json"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, help="of PyTorch's side; all by default")
    parser.add_argument("--stages", type=_names, default=list(STAGES), help="NAME,NAME")
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="begin no stage that may outlast these"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
