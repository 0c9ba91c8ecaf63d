"""Compares the speed of attacks with other libraries: `python -m benchmarks.attacks`.

See benchmarks/README.md for the method.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

from benchmarks.attacks_works import TOLERANCE, WORKS, Work
from benchmarks.tables import UNLOCKED, Table, console, show, shown, shown_peak, three_digits, yes
from benchmarks.tasks import peak_of
from benchmarks.timing import (
    OURS,
    PLAIN,
    Block,
    Worker,
    alternate,
    arguments,
    beside_torch,
    cpu_devices,
    machine,
    ratios,
    spread,
    use_cpus,
    versions,
    write,
)

_UNLOCKED = " unlocked"  # suffix of a peer that runs on the unlocked PyTorch
PACKAGES = ("jax", "jaxlib", "flax", "numpy", "scipy", "torch", "torchattacks", "foolbox")
PACKAGES += ("adversarial-robustness-toolbox", "advertorch")
LOGITS_TOLERANCE = 1e-4  # largest difference


def main() -> None:
    args = _arguments()
    works = {name: with_rows(WORKS[name], args.digits) for name in args.works}
    report = compare(works, rounds=args.rounds, threads=args.threads, tuned=not args.untuned)
    show(tables(report))
    write(args.out, report)


def compare(
    works: Mapping[str, Work],
    *,
    rounds: int,
    threads: int,
    tuned: bool = True,
) -> dict[str, Any]:
    """Checks that the sides find alike examples, then times them -> the report.

    tuned: whether PyTorch's nets are channels last and need no gradients of their weights.
    """
    threads = use_cpus(threads)
    nets = sorted({work.net for work in works.values()})
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        ours = Worker("benchmarks.attacks_worker", env=cpu_devices(threads))
        all_sides = beside_torch(
            ours, "benchmarks.attacks_torch_worker", threads=threads, folder=folder
        )
        workers = {side: stack.enter_context(worker) for side, worker in all_sides.items()}
        report = {
            "benchmark": "attacks",
            "machine": machine(),
            "versions": versions(*PACKAGES),
            "rounds": rounds,
            "workers": _start(workers, folder, threads=threads, tuned=tuned, nets=nets),
        }
        return report | _measured(workers, works, rounds=rounds)


def _arguments() -> argparse.Namespace:
    parser = arguments("attacks", __doc__, rounds=5, of="of each side")
    parser.add_argument("--digits", type=int, help="at most so many for each attack, to try it")
    parser.add_argument("--untuned", action="store_true", help="PyTorch's nets as it makes them")
    in_rounds = [name for name, work in WORKS.items() if work.rounds]
    parser.add_argument("--works", nargs="+", choices=WORKS, default=in_rounds)
    return parser.parse_args()


def with_rows(work: Work, most: int | None) -> Work:
    return work if most is None else work._replace(rows=min(work.rows, most))


def _start(
    workers: Mapping[str, Worker], exchange: str, *, nets: list[str], **options: Any
) -> dict[str, Any]:
    """Exits if the nets differ between sides; `options` are of PyTorch's workers."""
    common = {"exchange": exchange, "nets": nets}
    described = {OURS: workers[OURS].call("start", **common)}
    for side in workers.keys() - {OURS}:
        described[side] = workers[side].call("start", **common, **options)
        for net, apart in described[side]["logits_apart"].items():
            console.print(f"{net}, {side}: logits apart by {apart:.1e}")
            if not apart <= LOGITS_TOLERANCE:
                sys.exit(f"{net}: the nets are not the same, so nothing is timed")
    return described


class Contender(NamedTuple):
    """One side of a work: its name in the worker and its digits."""

    worker: Worker
    peer: str
    rows: int
    target: float = 1.0
    tolerance: float = 0.0

    def call(self, request: str, name: str, **arguments: Any) -> Any:
        return self.worker.call(request, name=name, peer=self.peer, **arguments)


Field = Mapping[str, Contender]


def _field(workers: Mapping[str, Worker], work: Work) -> Field:
    """Returns {side: contender}, adv_jax first; PyTorch libraries as installed and unlocked."""
    field = {OURS: Contender(workers[OURS], OURS, work.rows)}
    for name, peer in work.peers.items():
        rows = min(peer.rows or work.rows, work.rows)
        tolerance = peer.tolerance or TOLERANCE[work.measure]
        hosts = {"": OURS} if peer.local else {"": PLAIN, _UNLOCKED: UNLOCKED}
        for suffix, host in hosts.items():
            if host in workers:
                fields = workers[host], name, rows, peer.target, tolerance
                field[name + suffix] = Contender(*fields)
    return field


def _measured(
    workers: Mapping[str, Worker], works: Mapping[str, Work], *, rounds: int
) -> dict[str, Any]:
    fields = {name: _field(workers, work) for name, work in works.items()}
    prepared, first, equality = {}, {}, {}
    for name, work in works.items():
        console.print(f"preparing {work.title}, {work.net}", style="dim")
        checked = work._replace(options={**work.options, **work.checked_with})
        prepared[name] = _prepared(name, checked, fields[name])
        first[name] = _first(name, checked, fields[name])
        equality[name] = _equality(name, checked, fields[name], among=first[name])
        if work.checked_with:
            prepared[name] = _prepared(name, work, fields[name])
    peak = peak_of(alternate({"peak": _peak_blocks(workers)}, rounds=rounds)["peak"])
    seconds = {name: first[name] for name, work in works.items() if not work.rounds}
    for count in sorted({work.rounds for work in works.values() if work.rounds}):
        alike = {name: work for name, work in works.items() if work.rounds == count}
        seconds |= alternate(_blocks(alike, fields), rounds=min(count, rounds))
    return {
        "equality": equality,
        "peak": peak,
        "prepared": prepared,
        "compilations": _compilations(workers[OURS], works),
        "jsma_bytes": workers[OURS].call("peak_memory", name="jsma") if "jsma" in works else None,
        "works": {
            name: _summary(work, fields[name], seconds[name], peak["gflops"])
            for name, work in works.items()
        },
    }


def _prepared(name: str, work: Work, field: Field) -> dict[str, Any]:
    """Returns each side's choices."""
    return {
        side: contender.call("prepare", name, work=work._asdict(), rows=contender.rows)
        for side, contender in field.items()
    }


def _first(name: str, work: Work, field: Field) -> dict[str, list[float]]:
    """Returns the seconds of one call; skips locked PyTorch libraries if more calls follow."""
    return {
        side: [contender.call("run", name, calls=1)]
        for side, contender in field.items()
        if not work.rounds or side + _UNLOCKED not in field
    }


def _equality(name: str, work: Work, field: Field, *, among: Iterable[str]) -> dict[str, Any]:
    """Returns the results of adv_jax and each peer; exits if they differ."""
    found = {}
    for side in among:
        contender = field[side]
        if side == OURS:
            continue
        if contender.worker is not field[OURS].worker:
            contender.call("save", name)
        judge = field[OURS]._replace(peer=contender.peer)
        found[side] = judge.call("compare", name, work=work._asdict())
        here, there, apart = found[side].values()
        console.print(f"  {work.measure}: adv_jax {here:.4g}, {side} {there:.4g}")
        if not apart <= contender.tolerance:
            sys.exit(f"{name}: adv_jax and {side} are apart by {apart:.2g}, so nothing is timed")
    return found


def _peak_blocks(workers: Mapping[str, Worker]) -> dict[str, Block]:
    return {
        side: partial(worker.call, "run", name="peak", peer="", calls=1)
        for side, worker in workers.items()
    }


def _blocks(works: Mapping[str, Work], fields: Mapping[str, Field]) -> dict[str, dict[str, Block]]:
    return {
        name: {
            side: partial(contender.call, "run", name, calls=work.calls)
            for side, contender in fields[name].items()
        }
        for name, work in works.items()
    }


def _compilations(ours: Worker, works: Mapping[str, Work]) -> dict[str, int]:
    """Returns how often each program compiled; exits if real-valued options recompile one."""
    counts = {name: ours.call("compilations", name=name) for name in works}
    if set(counts.values()) != {1}:
        sys.exit(f"a program was compiled again for other numbers: {counts}")
    return counts


def _summary(
    work: Work, field: Field, seconds: Mapping[str, list[float]], peak: float
) -> dict[str, Any]:
    per_digit = {side: [v / field[side].rows for v in seconds[side]] for side in seconds}
    sides = {}
    for side, values in per_digit.items():
        gflops = work.flops and work.flops / min(values) / 1e9
        sides[side] = {
            "rows": field[side].rows,
            "seconds": {**spread(seconds[side]), "rounds": seconds[side]},
            "digits_per_second": {"median": 1 / statistics.median(values), "best": 1 / min(values)},
            "gflops": gflops,
            "share_of_peak": gflops and gflops / peak,
        }
    return {
        "title": work.title,
        "net": work.net,
        "flops_per_digit": work.flops,
        "sides": sides,
        "adv_jax_times_as_fast": {
            side: {
                **ratios(values, per_digit[OURS]),
                "of_least": min(values) / min(per_digit[OURS]),
                "target": field[side].target,
            }
            for side, values in per_digit.items()
            if side != OURS
        },
    }


def tables(report: Mapping[str, Any]) -> list[Table]:
    """Returns the table of the works, with a row for each peer."""
    rows = [
        row
        for name, work in report["works"].items()
        for row in _rows(work, report["prepared"][name][OURS]["layout"])
    ]
    columns = ("work", "peer", "adv_jax, digits/s", "of peak", "cores x rows")
    columns += ("as installed", "unlocked", "goal, at least", "met")
    nets = "tuned" if report["workers"][PLAIN]["tuned"] else "as PyTorch makes them"
    title = f"How many times as fast adv_jax is as each peer, PyTorch's nets {nets}; "
    size = report["jsma_bytes"]
    note = f"JSMA's program needs {size / 2**20:.0f} MiB." if size else ""
    return [Table(title + shown_peak(report["peak"]), columns, rows, words=2, note=note)]


def _rows(work: Mapping[str, Any], layout: str) -> Iterator[list[str]]:
    ours, times = work["sides"][OURS], work["adv_jax_times_as_fast"]
    share = ours["share_of_peak"]
    title = f"{work['title']}, {work['net']}, {ours['rows']:,} digits"
    speed = [
        three_digits(ours["digits_per_second"]["median"]),
        f"{share:.0%}" if share else "",
        layout,
    ]
    for peer in (side for side in times if not side.endswith(_UNLOCKED)):
        digits = work["sides"][peer]["rows"]
        both = times[peer], times.get(peer + _UNLOCKED)
        yield [
            title,
            peer if digits == ours["rows"] else f"{peer}, {digits:,} digits",
            *speed,
            *(shown(values) if values else "" for values in both),
            f"{times[peer]['target']:.2f}",
            " / ".join(yes(v["median"] >= v["target"]) for v in both if v),
        ]
        title, speed = "", [""] * len(speed)


if __name__ == "__main__":
    main()
