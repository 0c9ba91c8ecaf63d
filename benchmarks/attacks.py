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
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.tables import Table, console, show, shown, shown_peak, three_digits, yes
from benchmarks.tasks import CLASSES, INPUTS, PEAK_SIZE, PEAK_STEPS, Product
from benchmarks.timing import (
    Block,
    Worker,
    alternate,
    cpu_devices,
    machine,
    ratios,
    spread,
    unlock_library,
    use_cpus,
    versions,
    write,
)

OURS, PLAIN, UNLOCKED = "adv_jax", "torch", "torch unlocked"
_UNLOCKED = " unlocked"  # suffix of a peer that runs on the unlocked PyTorch
PACKAGES = ("jax", "jaxlib", "flax", "numpy", "scipy", "torch", "torchattacks", "foolbox")
PACKAGES += ("adversarial-robustness-toolbox", "advertorch")
LOGITS_TOLERANCE = 1e-4  # largest difference
# Largest difference of two sides: absolute for robust accuracy, relative for the other measures.
TOLERANCE = {"accuracy": 0.005, "values": 1e-3} | dict.fromkeys(("linf", "l2", "l1", "l0"), 0.02)


class Peer(NamedTuple):
    """A library that does the same work.

    Attributes:
      target: required speedup of adv_jax.
      rows: number of digits, the first of the work's; None for all.
      local: whether it is jitted code in adv_jax's process instead of a PyTorch library.
      tolerance: tolerance if its algorithm differs; None for that of the measure.
    """

    target: float
    rows: int | None = None
    local: bool = False
    tolerance: float | None = None


class Work(NamedTuple):
    """One attack on one net.

    Attributes:
      title: title in the tables.
      attack: name of the attack in the workers.
      net: "mlp", 784-1200-1200-10, or "lenet", 20-50-500.
      rows: number of digits per call.
      peers: name -> library to compare with.
      measure: key of `TOLERANCE` that must agree.
      passes: needed (forward, backward) passes per digit; None if they depend on the digit.
      options: keywords of adv_jax's attack.
      targeted: whether to target the class after the digit's own.
      checked_with: replaced options for the comparison of results.
      split: choices of whether adv_jax splits the rows over the cores.
      chunks: choices of adv_jax's chunk size in rows; () for one chunk.
      calls: calls per timed block.
      rounds: most rounds; 0 to time only the first call, on demand.
    """

    title: str
    attack: str
    net: str
    rows: int
    peers: Mapping[str, Peer]
    measure: str
    passes: tuple[int, int] | None = None
    options: Mapping[str, Any] = {}
    targeted: bool = False
    checked_with: Mapping[str, Any] = {}
    split: tuple[bool, ...] = (False, True)
    chunks: tuple[int, ...] = ()
    calls: int = 1
    rounds: int = 100

    @property
    def flops(self) -> int | None:
        """The FLOPs of the matrix products and convolutions of one digit."""
        return self.passes and sum(self.passes) * FORWARD_FLOPS[self.net]


def _convolution(height: int, width: int, inner: int, maps: int) -> Product:
    """Returns the matrix product of a 5 x 5 convolution with output f32[height, width, maps]."""
    return Product(height * width, 25 * inner, maps)


_MLP = [Product(1, a, b) for a, b in pairwise((INPUTS, 1200, 1200, CLASSES))]
_LENET = [_convolution(24, 24, 1, 20), _convolution(8, 8, 20, 50)]
_LENET += [Product(1, a, b) for a, b in pairwise((800, 500, CLASSES))]

# A backward pass to the input has the same FLOPs.
FORWARD_FLOPS = {
    net: sum(product.flops for product in products)
    for net, products in {"mlp": _MLP, "lenet": _LENET}.items()
}

_MLP_PEERS = {"torchattacks": Peer(1.0), "foolbox": Peer(1.4), "ART": Peer(1.6)}
_PGD_LINF = {"norm": "linf", "eps": 0.1, "step_size": 0.01, "num_steps": 40}
_DEEPFOOL = {"num_steps": 3, "overshoot": 0.02}
# torchattacks continues from clipped pixels, while adv_jax and foolbox clip the sum of all steps.
# The norms of the perturbations therefore differ.
_DEEPFOOL_SINGLY = Peer(10.0, rows=50, tolerance=0.15)
# foolbox 3.3.4 does not project onto the l2 ball: its perturbations are longer.
_FMN_L2 = Peer(1.0, tolerance=0.5)
# Robust accuracy of attacks that draw differs between two seeds by about a point.
_DRAWS = Peer(1.0, tolerance=0.02)
_SEARCH = {"search_steps": 5, "num_steps": 200, "learning_rate": 0.02, "initial_const": 0.1}
# With clipping, 3 steps fool hardly any digit.
_CONVERGED = {"num_steps": 50}

WORKS = {
    "fgsm": Work(
        title="FGSM",
        attack="fgsm",
        net="mlp",
        rows=1000,
        peers=_MLP_PEERS,
        measure="accuracy",
        passes=(1, 1),
        options={"eps": 0.1},
        calls=5,
    ),
    "pgd_linf": Work(
        title="PGD-40 linf",
        attack="pgd",
        net="mlp",
        rows=1000,
        peers=_MLP_PEERS,
        measure="accuracy",
        passes=(40, 40),
        options=_PGD_LINF,
    ),
    "pgd_l2": Work(
        title="PGD-40 l2",
        attack="pgd",
        net="mlp",
        rows=1000,
        peers=_MLP_PEERS,
        measure="accuracy",
        passes=(40, 40),
        options={"norm": "l2", "eps": 1.5, "step_size": 0.1, "num_steps": 40},
    ),
    "mi_fgsm": Work(
        title="MI-FGSM-10",
        attack="mi_fgsm",
        net="mlp",
        rows=1000,
        peers={"torchattacks": Peer(1.0)},
        measure="accuracy",
        passes=(10, 10),
        options={"eps": 0.1, "step_size": 0.01, "num_steps": 10, "decay": 1.0},
    ),
    "pgd_lenet": Work(
        title="PGD-40 linf",
        attack="pgd",
        net="lenet",
        rows=100,
        peers={"torchattacks": Peer(1.6), "foolbox": Peer(2.2), "ART": Peer(2.4)}
        | {
            "plain Flax": Peer(1.0, local=True),
            "plain Flax, not rewritten": Peer(10.0, local=True),
        },
        measure="accuracy",
        passes=(40, 40),
        options=_PGD_LINF,
        chunks=(100, 50),
    ),
    "jacobian": Work(
        title="class_jacobian",
        attack="jacobian",
        net="mlp",
        rows=1000,
        peers={"torch": Peer(1.0)},
        measure="values",
        passes=(1, CLASSES - 1),
        chunks=(1000, 200),
    ),
    "jacobian_lenet": Work(
        title="class_jacobian",
        attack="jacobian",
        net="lenet",
        rows=100,
        peers={"torch": Peer(1.5)},
        measure="values",
        passes=(1, CLASSES - 1),
        chunks=(100, 50, 20, 10),
        calls=5,
    ),
    "deepfool": Work(
        title="DeepFool, 3 steps",
        attack="deepfool",
        net="mlp",
        rows=1000,
        peers={"foolbox": Peer(2.5), "torchattacks": _DEEPFOOL_SINGLY},
        measure="l2",
        passes=(3, 3 * (CLASSES - 1)),
        options=_DEEPFOOL,
        checked_with=_CONVERGED,
        chunks=(1000, 200),
    ),
    "deepfool_lenet": Work(
        title="DeepFool, 3 steps",
        attack="deepfool",
        net="lenet",
        rows=100,
        peers={"foolbox": Peer(3.3), "torchattacks": _DEEPFOOL_SINGLY},
        measure="l2",
        passes=(3, 3 * (CLASSES - 1)),
        options=_DEEPFOOL,
        checked_with=_CONVERGED,
        chunks=(100, 50, 20),
    ),
    "fmn_linf": Work(
        title="FMN-100 linf",
        attack="fmn",
        net="mlp",
        rows=1000,
        peers={"foolbox": Peer(1.0)},
        measure="linf",
        passes=(100, 100),
        options={"norm": "linf", "num_steps": 100},
    ),
    "fmn_l2": Work(
        title="FMN-100 l2",
        attack="fmn",
        net="mlp",
        rows=1000,
        peers={"foolbox": _FMN_L2},
        measure="l2",
        passes=(100, 100),
        options={"norm": "l2", "num_steps": 100},
    ),
    "hop_skip_jump": Work(
        title="HopSkipJump l2, 5 steps",
        attack="hop_skip_jump",
        net="mlp",
        rows=50,
        # foolbox divides a direction by its norm over the batch, so that its jumps are short.
        peers={"foolbox": Peer(1.0, tolerance=0.7)},
        measure="l2",
        options={"num_steps": 5, "initial_evals": 100},
    ),
    "jsma": Work(
        title="JSMA",
        attack="jsma",
        net="mlp",
        rows=50,
        peers={"torchattacks": Peer(20.0, rows=10)},
        measure="l0",
        options={"theta": 1.0, "gamma": 0.1},
        targeted=True,
    ),
    "lbfgs": Work(
        title="box L-BFGS",
        attack="lbfgs",
        net="mlp",
        rows=100,
        peers={"jit + SciPy": Peer(3.0, local=True), "advertorch": Peer(7.0)},
        measure="l2",
        options={"num_steps": 50, "search_steps": 5, "initial_const": 0.01},
        rounds=1,
        targeted=True,
    ),
    "bim": Work(
        title="BIM-10",
        attack="bim",
        net="mlp",
        rows=1000,
        peers={"torchattacks": Peer(1.0)},
        measure="accuracy",
        passes=(10, 10),
        options={"eps": 0.1, "step_size": 0.01, "num_steps": 10},
    ),
    "vmi_fgsm": Work(
        title="VMI-FGSM-10, 5 neighbors",
        attack="vmi_fgsm",
        net="mlp",
        rows=1000,
        peers={"torchattacks": _DRAWS},
        measure="accuracy",
        passes=(60, 60),
        options={"eps": 0.1, "step_size": 0.01, "num_steps": 10, "num_neighbors": 5},
    ),
    "apgd": Work(
        title="APGD-50 linf",
        attack="apgd",
        net="mlp",
        rows=1000,
        peers={"torchattacks": _DRAWS},
        measure="accuracy",
        passes=(51, 51),
        options={"eps": 0.1, "num_steps": 50},
    ),
    "fab": Work(
        title="FAB-20 linf",
        attack="fab",
        net="mlp",
        rows=200,
        peers={"torchattacks": _DRAWS},
        measure="accuracy",
        options={"eps": 0.1, "num_steps": 20},
    ),
    "square": Work(
        title="Square linf, 500 queries",
        attack="square",
        net="mlp",
        rows=1000,
        peers={"torchattacks": _DRAWS},
        measure="accuracy",
        options={"eps": 0.1, "num_queries": 500},
    ),
    "carlini_wagner": Work(
        title="Carlini-Wagner l2, 5 x 200",
        attack="carlini_wagner",
        net="mlp",
        rows=100,
        peers={"foolbox": Peer(1.0)},
        measure="l2",
        passes=(1000, 1000),
        options=_SEARCH,
    ),
    "ead": Work(
        title="EAD l1, 5 x 200",
        attack="ead",
        net="mlp",
        rows=100,
        peers={"foolbox": Peer(1.0)},
        measure="l1",
        passes=(1000, 1000),
        options=_SEARCH | {"rule": "l1", "beta": 0.01},
    ),
    "ddn": Work(
        title="DDN-100 l2",
        attack="ddn",
        net="mlp",
        rows=1000,
        peers={"foolbox": Peer(1.0)},
        measure="l2",
        passes=(100, 100),
        options={"num_steps": 100},
    ),
    "boundary": Work(
        title="Boundary l2, 500 steps",
        attack="boundary",
        net="mlp",
        rows=50,
        # Both walk at random; adv_jax's walks end nearer.
        peers={"foolbox": Peer(1.0, tolerance=0.5)},
        measure="l2",
        options={"num_steps": 500},
    ),
    "curve": Work(
        title="FGSM, 10 eps",
        attack="curve",
        net="mlp",
        rows=1000,
        peers={"ten calls": Peer(1 / 1.2, local=True)},
        measure="values",
        # All eps share the gradient; each needs a forward pass for its accuracy.
        passes=(11, 1),
        options={"eps": [0.03 * step for step in range(1, 11)]},
        split=(False,),
    ),
    "auto_attack": Work(
        title="AutoAttack linf",
        attack="auto_attack",
        net="lenet",
        rows=1000,
        peers={"torchattacks": Peer(1.0)},
        measure="accuracy",
        options={"eps": 0.2},
        split=(False,),
        rounds=0,
    ),
}


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
        workers = {
            side: stack.enter_context(worker)
            for side, worker in _workers(Path(folder), threads).items()
        }
        report = {
            "benchmark": "attacks",
            "machine": machine(),
            "versions": versions(*PACKAGES),
            "rounds": rounds,
            "workers": _start(workers, folder, threads=threads, tuned=tuned, nets=nets),
        }
        return report | _measured(workers, works, rounds=rounds)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attacks", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/attacks.json"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2, help="of each side")
    parser.add_argument("--digits", type=int, help="at most so many for each attack, to try it")
    parser.add_argument("--untuned", action="store_true", help="PyTorch's nets as it makes them")
    in_rounds = [name for name, work in WORKS.items() if work.rounds]
    parser.add_argument("--works", nargs="+", choices=WORKS, default=in_rounds)
    return parser.parse_args()


def with_rows(work: Work, most: int | None) -> Work:
    return work if most is None else work._replace(rows=min(work.rows, most))


def _workers(folder: Path, threads: int) -> dict[str, Worker]:
    """Starts the workers; the unlocked one needs a compiler."""
    ours, theirs = "benchmarks.attacks_worker", "benchmarks.attacks_torch_worker"
    # Set the number of threads before the libraries load; the worker sets it again.
    count = {"OMP_NUM_THREADS": str(threads)}
    workers = {
        OURS: Worker(ours, env=cpu_devices(threads)),
        PLAIN: Worker(theirs, env=count),
    }
    library = unlock_library(folder)
    if library:
        workers[UNLOCKED] = Worker(theirs, env={**count, "LD_PRELOAD": str(library)})
    else:
        console.print("No C compiler `cc` works here: PyTorch is timed only as installed.")
    return workers


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
    peak = _peak(alternate({"peak": _peak_blocks(workers)}, rounds=rounds)["peak"])
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


def _peak(seconds: Mapping[str, list[float]]) -> dict[str, Any]:
    """Returns the best of all sides and rounds."""
    flops = PEAK_STEPS * Product(PEAK_SIZE, PEAK_SIZE, PEAK_SIZE).flops
    gflops = {side: [flops / value / 1e9 for value in values] for side, values in seconds.items()}
    return {"gflops": max(map(max, gflops.values())), "size": PEAK_SIZE, "sides": gflops}


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
