"""Compares adversarial back-propagation at batch 10 with PyTorch and with back-propagation.

    python -m benchmarks.backprop

See benchmarks/README.md for the method.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.timing import console, ratios, shown, write
from benchmarks.training import OURS, compare, show

PLAIN, ADVERSARIAL = "backprop", "adversarial"
OVERHEAD = 1.7  # largest adversarial / plain time of a step; [nokland2015]: "roughly 70 %" more
# smallest PyTorch time / our time
GOALS = {PLAIN: 4.0, ADVERSARIAL: 3.0}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.backprop", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/backprop.json"))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2, help="of each side")
    args = parser.parse_args()
    report = compare([PLAIN, ADVERSARIAL], rounds=args.rounds, threads=args.threads)
    report["adversarial_over_plain"] = _over_plain(report["tasks"])
    report["times_as_fast"] = {name: _times_as_fast(report["tasks"][name]) for name in GOALS}
    report["goals"] = {"times_as_fast": GOALS, "adversarial_over_plain": OVERHEAD}
    show(report)
    _show_goals(report)
    write(args.out, {"benchmark": "backprop", **report})


def _over_plain(tasks: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Returns {side: adversarial / plain time of a step in the same round}."""
    plain, adversarial = (tasks[name]["ms_per_step"] for name in (PLAIN, ADVERSARIAL))
    return {side: ratios(adversarial[side]["rounds"], plain[side]["rounds"]) for side in plain}


def _times_as_fast(task: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Returns {side: its time / our time in the same round}."""
    rounds = {side: values["rounds"] for side, values in task["ms_per_step"].items()}
    return {side: ratios(values, rounds[OURS]) for side, values in rounds.items() if side != OURS}


def _show_goals(report: Mapping[str, Any]) -> None:
    table = Table(title="Goals", title_justify="left")
    for column in ("what", "side", "measured", "goal"):
        table.add_column(column, justify="right" if column == "measured" else "left")
    for name, goal in GOALS.items():
        for side, values in report["times_as_fast"][name].items():
            what = f"{name}: times as fast as"
            table.add_row(what, side, shown(values, 2), f"at least {goal:g}")
    for side, values in report["adversarial_over_plain"].items():
        goal = f"at most {OVERHEAD:g}" if side == OURS else ""
        table.add_row("adversarial / plain step of", side, shown(values, 2), goal)
    console.print(table)


if __name__ == "__main__":
    main()
