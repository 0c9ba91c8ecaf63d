"""Converts the results of each paper to lines of words, which all generated pages show."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from papers.judging import numbers
from papers.judging.arithmetic import worked_example
from papers.judging.metrics import METRICS, in_percent
from papers.judging.numbers import Entry, Paper
from papers.judging.statistics import LEVEL, spread
from papers.judging.verdicts import num_tests
from papers.judging.words import (
    FINDINGS,
    FULL,
    NOT_REPRODUCED,
    NOT_RUN,
    REPRODUCED,
    epochs_in_words,
    joined,
)
from papers.pages.wording import (
    distinct_parts,
    distinct_words,
    in_words,
    label_of,
    our_number,
    paper_number,
    place_of,
    runs_in_words,
    said,
    trained_in_words,
)
from papers.running import power, single_runs
from papers.running.family import Family, largest, rank
from papers.running.lengths import full_epochs
from papers.running.stored import Results

UNTESTED = "without a test"  # The extent of runs that no test judges.

Files = Mapping[str, Mapping[str, Any]]  # JSON by the path of its file in the results
MeasuredRow = tuple[Mapping[str, Any], Mapping[str, Any]]  # a target and its row
Ours = dict[str, MeasuredRow]  # by the id of the paper's number


class Verdict(NamedTuple):
    """The finding, and the extent of its runs.

    word: a finding of a full run, of arithmetic, "not run", or "" if nothing is judged.
    why: the reason.
    extent: "full", "short", "quick" or "without a test"; "" if nothing was run.
    is_strong: whether it would survive the family-wise level.
    is_established: whether the paper's own runs support a gain; None if they do not say.
    is_small: whether a gain that is reproduced is less than half of the printed one.
    not_counted: the steps of an order without a test, in words.
    """

    word: str
    why: str = ""
    extent: str = ""
    is_strong: bool = False
    is_established: bool | None = None
    is_small: bool = False
    not_counted: str = ""

    @property
    def is_run(self) -> bool:
        """Whether anything was run."""
        return bool(self.extent)

    @property
    def remarks(self) -> str:
        """What a reader must know beside the word."""
        small = "less than half of the printed gain" if self.is_small else ""
        source = "not established by the source" if self.is_established is False else ""
        return joined(small, source, self.not_counted)

    @property
    def in_words(self) -> str:
        """What was found, or why nothing is judged: "unclear", "short: same direction"."""
        if self.is_run and self.extent != FULL:
            return ": ".join(filter(None, (self.extent, self.word)))
        return joined(self.word, self.remarks) or self.why


class Line(NamedTuple):
    """A row of a table.

    label: what it is.
    where: its place in the paper; of a tested claim, what the test is of.
    paper, ours, difference: in words.
    trained: the seeds, epochs and data of ours, in words.
    key: the id, or the text of a claim without one.
    row: the judged row, its fractions in percent; None without a run of its own.
    training: the training of the row.
    source: the file of a number without a row, in the folder of results.
    """

    label: str
    where: str
    paper: str
    ours: str
    difference: str
    verdict: Verdict
    trained: str = ""
    note: str = ""
    key: str = ""
    row: Mapping[str, Any] | None = None
    training: Mapping[str, Any] | None = None
    source: str = ""

    @property
    def runs(self) -> str:
        """The seeds, epochs and data of ours, then the file."""
        return joined(self.trained, self.source)

    @property
    def measured(self) -> str:
        """Ours, with the seeds, epochs and data."""
        return joined(self.ours, self.runs)


class Chapter(NamedTuple):
    """A paper's printed numbers and claims with what we measured: all that its pages show.

    tables: (title, lines) of each table or figure of which the paper prints numbers.
    targets: what `launch.reproduce` has measured, those of the largest budget only.
    runs: (name, document) of single runs; figures: (name, document) of figures drawn again.
    of_runs: the judged documents of `single_runs`.
    """

    paper: Paper
    claims: list[Line]
    tables: list[tuple[str, list[Line]]]
    targets: list[dict[str, Any]]
    runs: list[tuple[Path, dict[str, Any]]]
    figures: list[tuple[Path, dict[str, Any]]]
    of_runs: list[dict[str, Any]]

    @property
    def lines(self) -> list[Line]:
        """The lines of all tables."""
        return [line for _, lines in self.tables for line in lines]


def _measured(paper: str, found: Results) -> Family:
    """Returns the judged documents of a paper, those of the largest budget only."""
    targets = largest(one for one in found.targets.values() if one["paper"] == paper)
    return Family([*map(dict, targets.values())], found.of_runs.get(paper, []))


def of_all(found: Results) -> dict[str, Chapter]:
    """Returns the chapter of each paper by its name."""
    papers = numbers.load()
    measured = {name: _measured(name, found) for name in papers}
    tests = sum(num_tests(papers[name], [*chain(*own)]) for name, own in measured.items())
    rates = power.rates_of(found)
    return {
        name: _chapter(
            papers[name],
            Family(*([_weighed(one, rates, tests) for one in part] for part in own)),
            found,
        )
        for name, own in measured.items()
    }


def _chapter(paper: Paper, own: Family, found: Results) -> Chapter:
    measured = [*own.of_runs, *own.targets]
    ours, files = _ours(paper, measured), found.files
    return Chapter(
        paper,
        sorted(_claims(paper, measured, ours, files), key=_order),
        list(_tables(paper, ours, files)),
        own.targets,
        list(found.runs_of(paper.name).items()),
        [(path, d) for path, d in found.figures.items() if d["paper"] == paper.name],
        own.of_runs,
    )


def _weighed(document: Mapping[str, Any], rates: power.Rates, tests: int) -> dict[str, Any]:
    """Adds what would settle the unclear, and whether a finding survives the family-wise level."""
    words = {id(one): str(needed) for one, needed in power.seeds_needed(document, rates)}

    def added(one: Mapping[str, Any]) -> dict[str, Any]:
        is_found = one["verdict"] in (REPRODUCED, NOT_REPRODUCED)
        p = one.get("p")
        strong = bool(is_found and p is not None and p < LEVEL / max(tests, 1))
        return {**one, "strong": strong, "plan": words.get(id(one), "")}

    rows, claims = (list(map(added, document[part])) for part in ("rows", "claims"))
    return {**document, "rows": rows, "claims": claims}


def _order(line: Line) -> int:
    """Findings of full runs first, then what is not judged, then what was not run or tested."""
    word = line.verdict.word
    if line.verdict.extent == FULL:
        return FINDINGS.index(word) if word in FINDINGS else len(FINDINGS)
    if line.verdict.is_run:
        return len(FINDINGS)
    return len(FINDINGS) + (1 if word == NOT_RUN else 2)


def told_apart(claims: Sequence[Line]) -> list[str]:
    """Returns the labels of claims, with what the test is of where several have one label."""
    counts = Counter(line.label for line in claims)
    return [f"{c.label} ({c.where})" if counts[c.label] > 1 else c.label for c in claims]


def line_of(target: Mapping[str, Any], row: Mapping[str, Any]) -> Line:
    """Returns the line of a measured row, its fractions in percent."""
    row, of = in_percent(row), f" {METRICS[row['metric']].unit}"
    off = row["difference"]
    compared = "" if row["tolerance"] is None else f" (allowed {row['tolerance']:g})"
    return Line(
        row["label"],
        "",
        paper_number(row["paper"], row["paper_sd"], row["paper_n"], of),
        our_number(row["mean"], row["sd"], row["n"], of),
        "–" if off is None else f"{off:+.3g}{compared}",
        _verdict_of(row),
        runs_in_words(target, [row]),
        key=row["id"] or "",
        row=row,
        training=target["trainings"][row["training"]],
    )


def _ours(paper: Paper, measured: Sequence[Mapping[str, Any]]) -> Ours:
    """Returns the rows that measure a number of the paper: of the largest budget, most seeds each.

    Documents with `another_way` are shown beside them. A number that the paper prints twice
    (`same_as`) is judged once.
    """
    order = sorted(
        (
            (target, row)
            for target in measured
            for row in target["rows"]
            if row["id"] and not target.get("another_way")
        ),
        key=lambda one: (rank(one[0]), one[1]["n"]),
    )
    found = {paper.first_place(row["id"]): (target, row) for target, row in order}
    places = ((name, paper.first_place(name)) for name in paper.entries)
    return {name: found[place] for name, place in places if place in found}


def _claims(
    paper: Paper, measured: Sequence[Mapping[str, Any]], ours: Ours, files: Files
) -> Iterator[Line]:
    """Yields the claims that are tested, then the others that the paper states."""
    tested = set()
    for target in measured:
        for claim in target["claims"]:
            entry = paper.entries[claim["id"]] if claim["id"] else {}
            tested.add(claim["id"])
            yield Line(
                claim["text"],
                target["title"],
                said(entry) if entry else "own test",
                _compared(claim, target["rows"]),
                "",
                _verdict_of(claim),
                runs_in_words(
                    target, [row for row in target["rows"] if row["label"] in claim["rows"]]
                ),
                note=entry.get("note", ""),
                key=claim["id"] or claim["text"],
            )
    for name, entry in paper.entries.items():
        if entry["kind"] != "claim" or name in tested:
            continue
        text, note = label_of(entry), entry.get("note", "")
        if name in ours:
            line = line_of(*ours[name])
            yield line._replace(label=text, where=entry["where"], paper=said(entry), note=note)
        else:
            line = Line(text, entry["where"], said(entry), "", "", Verdict(NOT_RUN), "", note, name)
            yield _without_test(line, paper, files)


def _compared(claim: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns the metric and the means of the rows that a claim compares, fractions in percent.

    Rows are paired by seed: the means are of the seeds that they share, if any.
    """
    by_label = {row["label"]: in_percent(row) for row in rows}
    named = [by_label[label] for label in claim["rows"]]
    if not all(row["values"] for row in named):
        return ""
    seeds = set.intersection(*(set(row["values"]) for row in named))
    values = [
        [v for seed, v in row["values"].items() if not seeds or seed in seeds] for row in named
    ]
    units = [METRICS[row["metric"]].unit for row in named]
    means = [f"{spread(v).mean:.3g} {unit}" for v, unit in zip(values, units, strict=True)]
    if len(named) == 2:
        labels, between = distinct_parts(claim["rows"]), " against "
    else:
        labels, between = distinct_words(claim["rows"]), ", "
    names = {METRICS[row["metric"]].name.removeprefix("test ") for row in named}
    metric = f"{names.pop()}, " if len(names) == 1 else ""
    return metric + between.join(map(" ".join, zip(labels, means, strict=True)))


def _without_test(line: Line, paper: Paper, files: Files) -> Line:
    """Adds to a line that was not run what one seed measures, or the reason why it has no test."""
    if "value" in paper.entries[line.key] and paper.entries[line.key]["value"] is None:
        return line._replace(verdict=Verdict("", "lost in the available text"))
    found = single_runs.one_seed(paper, line.key, files)
    if found is None:
        why = paper.untested.get(line.key)
        return line if why is None else line._replace(verdict=Verdict("", why))
    ours = line.ours
    if found.value is not None:
        metric = METRICS[paper.entries[line.key].get("metric", "error_percent")]
        ours = our_number(found.value, unit=f" {metric.unit}")
    if found.ends:
        ends = zip(distinct_words([*found.ends]), found.ends.values(), strict=True)
        ours = ", ".join(f"{label} {our_number(value)}" for label, value in ends)
    replicas = [replica for run in found.runs for replica in run["replicas"]]
    trained = ""
    if replicas:
        trained = trained_in_words(
            [replica["seed"] for replica in replicas],
            epochs_in_words(
                [replica["epochs"] for replica in replicas], full_epochs(paper.name, found.runs)
            ),
            [run["data"] for run in found.runs],
        )
    return line._replace(
        verdict=Verdict("", found.why, UNTESTED),
        ours=ours,
        trained=trained,
        note=" ".join(filter(None, (line.note, found.caption))),
        source=found.file,
    )


def _tables(paper: Paper, ours: Ours, files: Files) -> Iterator[tuple[str, list[Line]]]:
    """Yields the title and the lines of each table; rows of one label get their data set too."""
    tables: dict[str, list[Entry]] = {}
    for name, entry in paper.entries.items():
        # A claim that a target compares as a number is a line of its place too.
        if entry["kind"] == "claim" and name not in ours:
            continue
        tables.setdefault(place_of(entry), []).append(entry)
    for place, entries in tables.items():
        labels = list(map(label_of, entries))
        counts = Counter(labels)
        lines = [
            _cell(
                entry,
                label + (f", {entry['dataset']}" if counts[label] > 1 else ""),
                ours.get(entry["id"]),
                paper,
                files,
            )
            for entry, label in zip(entries, labels, strict=True)
        ]
        yield place, lines


def _cell(
    entry: Entry, label: str, measured: MeasuredRow | None, paper: Paper, files: Files
) -> Line:
    key, note = entry["id"], entry.get("note", "")
    if entry["confidence"] == "ambiguous":
        note = f"Reading not certain. {note}"
    if measured:
        line = line_of(*measured)
        if key in paper.untested:
            line = line._replace(verdict=Verdict("", paper.untested[key], UNTESTED))
        return line._replace(
            label=label, where=entry["where"], paper=said(entry), note=note, key=key
        )
    line = Line(label, entry["where"], said(entry), "", "–", Verdict(NOT_RUN), note=note, key=key)
    if entry["kind"] == "cited":
        return line._replace(verdict=Verdict("", "cited from other authors"))
    line = _without_test(line, paper, files)
    if entry["kind"] == "worked_example" and not line.verdict.why:
        judged = worked_example(entry)
        verdict = Verdict(judged["verdict"], judged["why"])
        return line._replace(ours=in_words(entry["recomputed"]), verdict=verdict)
    return line


def _verdict_of(judged: Mapping[str, Any]) -> Verdict:
    """Returns the verdict of a row or a claim, with what would settle it if it is unclear."""
    if judged["extent"] == NOT_RUN:
        return Verdict(NOT_RUN)
    why = joined(judged["why"], judged.get("plan", ""))
    established = judged.get("established")
    strong = judged.get("strong", False)
    small = judged.get("less_than_half", False)
    word, extreme = judged["verdict"] or "", judged.get("not_counted", "")
    return Verdict(word, why, judged["extent"], strong, established, small, extreme)
