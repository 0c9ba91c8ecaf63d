"""Compares adversarial back-propagation at batch 10 with PyTorch and with back-propagation.

    python -m benchmarks.backprop

See benchmarks/README.md for the method.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks import training
from benchmarks.tables import Goal, Table, goals, show
from benchmarks.timing import arguments, ratios, write

PLAIN, ADVERSARIAL = "backprop", "adversarial"
OVERHEAD = 1.7  # largest adversarial / plain time of a step; [nokland2015]: "roughly 70 %" more
# smallest PyTorch time / our time
GOALS = {PLAIN: 4.0, ADVERSARIAL: 3.0}


def main() -> None:
    args = arguments("backprop", __doc__, rounds=15, of="of each side").parse_args()
    report = training.compare([PLAIN, ADVERSARIAL], rounds=args.rounds, threads=args.threads)
    report["adversarial_over_plain"] = _over_plain(report["tasks"])
    report["times_as_fast"] = {name: _times_as_fast(report["tasks"][name]) for name in GOALS}
    report["goals"] = {"times_as_fast": GOALS, "adversarial_over_plain": OVERHEAD}
    show(tables(report))
    write(args.out, {"benchmark": "backprop", **report})


def _over_plain(tasks: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Returns {side: adversarial / plain time of a step in the same round}."""
    plain, adversarial = (tasks[name]["ms_per_step"] for name in (PLAIN, ADVERSARIAL))
    return {side: ratios(adversarial[side]["rounds"], plain[side]["rounds"]) for side in plain}


def _times_as_fast(task: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Returns {side: its time / our time in the same round}."""
    rounds = {side: values["rounds"] for side, values in task["ms_per_step"].items()}
    ours = rounds.pop(training.OURS)
    return {side: ratios(values, ours) for side, values in rounds.items()}


def tables(report: Mapping[str, Any]) -> list[Table]:
    """Returns the tables of the steps and of the goals."""
    return [*training.tables(report), goals(_goals(report))]


def _goals(report: Mapping[str, Any]) -> Iterator[Goal]:
    bounds = report["goals"]
    for name, sides in report["times_as_fast"].items():
        for side, values in sides.items():
            bound = bounds["times_as_fast"][name]
            title = report["tasks"][name]["title"]
            yield Goal(title, f"{side} / {training.OURS}", values, bound, at_least=True)
    title = report["tasks"][ADVERSARIAL]["title"]
    for side, values in report["adversarial_over_plain"].items():
        bound = bounds["adversarial_over_plain"] if side == training.OURS else None
        yield Goal(title, f"adversarial / plain, {side}", values, bound)


if __name__ == "__main__":
    main()
