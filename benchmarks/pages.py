"""The pages that show measured speed and robustness: `python -m docs.pages` writes them.

benchmarks/RESULTS.md, and the table of attacks in README.md, are made from the JSON files in
benchmarks/results.
"""

import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from adv_jax.types import check_choice
from benchmarks import robustness
from benchmarks.tables import Table
from papers.pages.markup import BEGIN, markdown, with_generated

ROOT = Path(__file__).parents[1]
RESULTS, PAGE = ROOT / "benchmarks" / "results", ROOT / "benchmarks" / "RESULTS.md"
README = ROOT / "README.md"
SPEED = "<!-- Speed. -->"  # docs/index.md splits the part here.
ATTACKS = BEGIN.replace("Generated", "Attacks. Generated")  # README.md has another part.
# `benchmark` of a report, which names the module with its `tables` -> heading, as in README.md
BENCHMARKS = {
    "accelerator": "On an accelerator",
    "training": "One training step beside PyTorch's",
    "backprop": "Adversarial back-propagation at batch 10",
    "replicas": "Several seeds at once",
    "attacks": "Attacks beside torchattacks, foolbox, ART and SciPy",
    "robustness": "What attacks leave of two nets",
    "compile": "What compiling costs",
    "memory": "Memory of an evaluation",
    "hosts": "Over processes and devices",
    "streams": "Training from an iterator",
}
INTRODUCTION = f"""\
# Results of the benchmarks

{BEGIN}

The [guide](README.md) explains how each benchmark measures. Times are medians over the rounds. A
ratio is taken in each round; the table gives its median, with the least and the greatest in
brackets. Compare times only within one table, as the machines differ. The newest results come
first; results that newer ones repeat are folded. *torch* is PyTorch as installed. *torch unlocked*
is PyTorch whose matrix library takes its fast path on every processor. Where there are two goals,
or two answers to whether they are met, the first is for *torch*, the second for *torch unlocked*.
"""


def pages() -> dict[Path, str]:
    """Returns the content of each page by its path."""
    return {PAGE: page(), README: readme()}


def page(results: Path = RESULTS) -> str:
    """Returns the page of the result files in a folder.

    Raises:
      UserError: a file names a benchmark that is not in `BENCHMARKS`.
    """
    reports = {path.name: json.loads(path.read_text()) for path in sorted(results.glob("*.json"))}
    for name, report in reports.items():
        check_choice(f"benchmark of {name}", report["benchmark"], BENCHMARKS)
    parts = [INTRODUCTION]
    for benchmark, heading in BENCHMARKS.items():
        found = {name: one for name, one in reports.items() if one["benchmark"] == benchmark}
        if found:
            parts += [f"## {heading}\n", *_sections(found)]
    return "\n".join(parts)


def _sections(reports: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yields a section for each report, the newest first; folded if newer ones have its rows."""
    shown: set[tuple[str, str]] = set()
    for name, report in sorted(reports.items(), key=lambda item: item[1]["date"], reverse=True):
        tables = list(importlib.import_module(f"benchmarks.{report['benchmark']}").tables(report))
        heading = _heading(report, tables if len(reports) > 1 else [])
        facts = f"{_facts(report)} [{name}](results/{name})\n"
        text = "\n".join([facts, *map(_shown, tables)])
        rows = {(table.title.partition(";")[0], row[0]) for table in tables for row in table.rows}
        if rows <= shown:
            yield f"<details><summary>{heading}</summary>\n\n{text}\n</details>\n"
        else:
            yield f"### {heading}\n\n{text}"
        shown |= rows


def _heading(report: Mapping[str, Any], tables: Sequence[Table]) -> str:
    """Returns the machine, the date and, if there are tables, what they show."""
    machine = report["machine"]
    words = f"{machine.get('device') or machine['cpu']}, {machine['cpus']} CPUs, {report['date']}"
    first, *more = dict.fromkeys(row[0] for table in tables for row in table.rows if row[0]) or [""]
    subject = f"{first} and {len(more)} more" if more else first
    return f"{words}: {subject}" if subject else words


def _facts(report: Mapping[str, Any]) -> str:
    """Returns a line with the processor, the threads, the rounds and the versions."""
    machine = report["machine"]
    facts = [machine["cpu"], f"{_threads(report)} threads"]
    if "rounds" in report:
        facts.append(f"{report['rounds']} rounds")
    versions = {"Python": machine["python"], **report["versions"]}
    used = ", ".join(f"{package} {version}" for package, version in versions.items())
    return f"{', '.join(facts)}. {used}."


def _threads(report: Mapping[str, Any]) -> int:
    """Returns the threads of each side."""
    given = report.get("threads", report.get("cpus_used"))
    return given or max(worker["threads"] for worker in report["workers"].values())


def _shown(table: Table) -> str:
    note = f"\n{table.note}\n" if table.note else ""
    return f"{table.title}:\n\n{markdown(table.columns, table.rows)}{note}"


def readme() -> str:
    """Returns the README with the table of attacks and a sentence on speed."""
    (table,) = robustness.tables(_read("robustness"), docs="docs")
    return with_generated(README, f"{_shown(table)}\n{SPEED}\n{_speed()}\n", ATTACKS)


def _speed() -> str:
    """Returns how long some work takes beside the fastest peer, in all stored reports of it."""
    gpu = _read("accelerator")
    ensemble = gpu["stages"]["auto_attack"]["forms"]["torchattacks"]["times_as_fast"]["median"]
    pgd = [ratio for work, ratio, _ in robustness.fastest_peers() if work == "pgd_lenet"]
    steps = [
        over["median"]
        for report in map(json.loads, (path.read_text() for path in RESULTS.glob("*.json")))
        if report["benchmark"] == "training"
        for task in report["tasks"].values()
        for peer, over in task["adv_jax_over"].items()
        if peer == "torch unlocked"
    ]
    return (
        f"On two CPU cores PGD on a LeNet is {robustness.span(pgd)} times as fast as the fastest "
        f"peer, and a training step takes {robustness.span(steps)} times PyTorch's time. On an "
        f"{gpu['machine']['device']} AutoAttack on a LeNet is {ensemble:.1f} times as fast as "
        "torchattacks' ([all ratios](benchmarks/RESULTS.md), and [how](benchmarks/README.md) they "
        "are measured)."
    )


def _read(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text())
