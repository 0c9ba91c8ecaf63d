"""What the pages say, as plain values for the templates: numbers become words here."""

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from papers import single_runs
from papers.book.reading import Found
from papers.budget import BUDGETS
from papers.numbers import Entry, Paper
from papers.statistics import spread
from papers.verdicts import NOT_REPRODUCED, REPRODUCED, UNDECIDED

NOT_RUN = "not run"  # a state, not a verdict
MARKS = {
    REPRODUCED: "yes",
    NOT_REPRODUCED: "no",
    UNDECIDED: "open",
    NOT_RUN: "open",
    "": "open",
}


Measured = tuple[Mapping[str, Any], Mapping[str, Any]]  # a target and its row
Ours = dict[str, Measured]  # by the id of the paper's number


class Verdict(NamedTuple):
    """A verdict, "not run" or nothing, and why."""

    word: str
    why: str = ""

    @property
    def mark(self) -> str:
        """yes, no or open."""
        return MARKS[self.word]


class Line(NamedTuple):
    """A row of a table of the book.

    label: what it is; where: its place in the paper; paper, ours, difference: in words.
    href: where in the book it is told at length.
    """

    label: str
    where: str
    paper: str
    ours: str
    difference: str
    verdict: Verdict
    note: str = ""
    href: str = ""


class Chapter(NamedTuple):
    """A paper's page.

    tables: (title, lines) of each table or figure of which the paper prints numbers.
    targets: what `launch.reproduce` has measured, those of the largest budget only.
    runs: (name, document) of single runs; figures: (name, document) of figures drawn again.
    """

    paper: Paper
    claims: list[Line]
    tables: list[tuple[str, list[Line]]]
    targets: list[dict[str, Any]]
    runs: list[tuple[Path, dict[str, Any]]]
    figures: list[tuple[Path, dict[str, Any]]]

    @property
    def lines(self) -> list[Line]:
        """Of all tables."""
        return [line for _, lines in self.tables for line in lines]


def chapter(paper: Paper, found: Found) -> Chapter:
    """All that is known of a paper."""
    targets = _largest([t for t in found.targets.values() if t["paper"] == paper.name])
    of_paper = {
        path: run
        for path, run in found.runs.items()
        if path.relative_to(found.root).parts[0] == paper.name
    }
    figures = [(path, d) for path, d in found.figures.items() if d["paper"] == paper.name]
    measured = [*single_runs.documents(paper, of_paper), *targets]
    ours = _ours(measured)
    return Chapter(
        paper,
        list(_claims(paper, measured, ours, found.files)),
        list(_tables(paper, ours, found.files)),
        targets,
        list(of_paper.items()),
        figures,
    )


def anchor(name: str) -> str:
    """The id of a section."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def number(value: float | None, sd: float | None = None, n: int | None = None) -> str:
    """A mean of ours with its sd and number of runs, to two digits of the sd."""
    if value is None:
        return "–"
    text = f"{value:.{max(3, 1 - math.floor(math.log10(sd)))}f}" if sd else f"{value:.4g}"
    return text + _spread(None if sd is None else f"{sd:.2g}", n)


def printed(value: float | None, sd: float | None = None, n: int | None = None) -> str:
    """A number of a paper, with the digits that it has there."""
    return "–" if value is None else f"{value:g}" + _spread(None if sd is None else f"{sd:g}", n)


def _spread(sd: str | None, n: int | None) -> str:
    parts = ([f"sd {sd}"] if sd else []) + ([f"n = {n}"] if n else [])
    return f" ({', '.join(parts)})" if parts else ""


def in_words(value: Any) -> str:
    """What a paper prints: a number, several, or words."""
    if value is None:
        return "–"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {in_words(entry)}" for key, entry in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        nested = any(isinstance(entry, Sequence) for entry in value)
        return ("; " if nested else ", ").join(map(in_words, value))
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def line_of(target: Mapping[str, Any], row: Mapping[str, Any]) -> Line:
    """A measured row."""
    off = row["difference"]
    compared = "" if row["tolerance"] is None else f" (allowed {row['tolerance']:g})"
    return Line(
        row["label"],
        row["metric"].replace("_", " "),
        printed(row["paper"], row["paper_sd"], row["paper_n"]),
        number(row["mean"], row["sd"], row["n"]),
        "–" if off is None else f"{off:+.3g}{compared}",
        _verdict_of(row),
        row.get("mark", ""),
        href=f"#{anchor(target['target'])}",
    )


def errors(run: Mapping[str, Any]) -> str:
    """The test error of a single run, in percent."""
    values = [100 * replica["test_error"] for replica in run["replicas"]]
    n, mean, sd = spread(values)
    return f"{number(mean, sd, n)} % test error"


def _largest(targets: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each target, the one of the largest budget."""
    by_name: dict[str, dict[str, Any]] = {}
    for target in targets:
        other = by_name.get(target["target"])
        if other is None or _rank(target) > _rank(other):
            by_name[target["target"]] = target
    return list(by_name.values())


def _rank(target: Mapping[str, Any]) -> int:
    """Of its budget: the higher decides."""
    return list(BUDGETS).index(target["budget"])


def _ours(measured: Sequence[Mapping[str, Any]]) -> Ours:
    """The rows that measure a number of the paper, those of the largest budget."""
    order = sorted(measured, key=_rank)
    return {row["id"]: (target, row) for target in order for row in target["rows"] if row["id"]}


def _claims(
    paper: Paper, measured: Sequence[Mapping[str, Any]], ours: Ours, files: Collection[str]
) -> Iterator[Line]:
    """Those that are tested, then the others that the paper states."""
    told = set()
    for target in measured:
        for claim in target["claims"]:
            entry = paper.entries[claim["id"]] if claim["id"] else {}
            told.add(claim["id"])
            yield Line(
                claim["text"],
                f"{target['title']} ({target['target']})",
                _said(entry) if entry else "–",
                number(claim["difference"]) if "difference" in claim else "",
                "",
                Verdict(claim["verdict"], claim["why"]),
                href=f"#{anchor(target['target'])}",
            )
    for name, entry in paper.entries.items():
        if entry["kind"] != "claim" or name in told:
            continue
        text = _label(entry)
        line = Line(text, entry["where"], _said(entry), "", "", Verdict(NOT_RUN))
        note = entry.get("note", "")
        if name in ours:
            found = line_of(*ours[name])
            note = " ".join(filter(None, (note, found.note)))
            yield found._replace(label=text, where=entry["where"], paper=_said(entry), note=note)
        else:
            yield line._replace(verdict=_unmeasured(paper, name, files), note=note)


def _unmeasured(paper: Paper, name: str, files: Collection[str]) -> Verdict:
    """Of what no test measures: one seed, no test, or nothing that was run."""
    if path := single_runs.one_seed(paper, name, files):
        return Verdict(UNDECIDED, f"one seed: {path}")
    if name in paper.untestable:
        return Verdict("", paper.untestable[name])
    return Verdict(NOT_RUN)


def _tables(paper: Paper, ours: Ours, files: Collection[str]) -> Iterator[tuple[str, list[Line]]]:
    """Each table with its cells; ours where they are measured."""
    tables: dict[str, list[Line]] = {}
    for name, entry in paper.entries.items():
        # A claim that a target compares as a number is a line of its place too.
        if entry["kind"] == "claim" and name not in ours:
            continue
        place = re.split(r"[,(]", entry["where"])[0].strip()
        unmeasured = _unmeasured(paper, name, files)
        tables.setdefault(place, []).append(_cell(entry, ours.get(name), unmeasured))
    yield from tables.items()


def _cell(entry: Entry, measured: Measured | None, unmeasured: Verdict) -> Line:
    value = entry.get("value")
    numeric = isinstance(value, int | float)
    said = printed(value, entry.get("spread"), entry.get("n_runs")) if numeric else _said(entry)
    note = entry.get("note", "")
    if entry["confidence"] == "ambiguous":
        note = f"Reading not certain. {note}"
    if measured:
        line = line_of(*measured)
        note = " ".join(filter(None, (note, line.note)))
        return line._replace(label=_label(entry), where=entry["where"], note=note)
    verdict = unmeasured
    recomputed = ""
    if entry["kind"] == "worked_example":
        recomputed = in_words(entry.get("recomputed"))
        # A slip of the thesis, or exact: an example by hand, computed again.
        wrong = "WRONG" in entry.get("verdict", "")
        verdict = Verdict(NOT_REPRODUCED if wrong else REPRODUCED, entry.get("verdict", ""))
    elif entry["kind"] == "cited":
        verdict = Verdict("", "cited from other authors")
    return Line(_label(entry), entry["where"], said, recomputed, "–", verdict, note)


def _label(entry: Entry) -> str:
    """What was measured, on what; of a claim its words, where the entry has them."""
    if "claim" in entry:
        return entry["claim"]
    if "labels" in entry and entry["kind"] != "claim":  # a cell of Maronas
        place = entry["where"].partition("), ")[2]
        return place or f"{entry['model']}, {entry['labels']} labels, {_noise(entry)}"
    parts = [entry.get(name) for name in ("model", "training", "evaluation")]
    settings = ", ".join(str(part) for part in parts if part)
    if entry["kind"] != "claim":
        return settings or entry["metric"]
    return f"{entry['metric']}: {settings}" if settings else entry["metric"]


def _noise(entry: Entry) -> str:
    kinds = ("supervised", "unsupervised")
    named = [
        f"{entry[f'noise_{kind}'].partition(' ')[0]} {entry.get(f'tau_{kind}', ''):g}"
        for kind in kinds
        if entry.get(f"noise_{kind}", "none") != "none"
    ]
    return " and ".join(named) or "no adversarial noise"


def _said(entry: Entry) -> str:
    """What a claim states in numbers, with their metric."""
    if "value" in entry:
        value = in_words(entry["value"])
        unit = {"percent": " %"}.get(entry.get("unit") or "", "")
        return value if isinstance(entry["value"], str) else f"{value}{unit}"
    if "error_percent" in entry:
        return f"{in_words(entry['error_percent'])} %"
    if "errors_removed" in entry:
        return f"{entry['errors_removed']} errors fewer"
    return "–"


def _verdict_of(row: Mapping[str, Any]) -> Verdict:
    if row["mean"] is None:
        return Verdict(NOT_RUN)
    return Verdict(row["verdict"] or "", row["why"])
