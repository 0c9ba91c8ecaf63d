"""Converts the results of each paper to lines of words, which all generated pages show."""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from papers.judging import numbers
from papers.judging.arithmetic import worked_example
from papers.judging.documents import data_in_words
from papers.judging.metrics import METRICS, in_percent
from papers.judging.numbers import Entry, Paper
from papers.judging.statistics import LEVEL, epochs_in_words, seeds_in_words, spread
from papers.judging.verdicts import num_tests
from papers.judging.words import (
    FINDINGS,
    FULL,
    NOT_REPRODUCED,
    NOT_RUN,
    REPRODUCED,
    extent_of,
    joined,
)
from papers.pages.wording import in_words, label_of, number, place_of, printed, said
from papers.running import power, single_runs
from papers.running.family import largest, rank
from papers.running.single_runs import OneSeed
from papers.running.stored import Results

UNTESTED = "without a test"  # The extent of runs that no test judges.

Files = Mapping[str, Mapping[str, Any]]  # JSON by the path of its file in the results
MeasuredRow = tuple[Mapping[str, Any], Mapping[str, Any]]  # a target and its row
Ours = dict[str, MeasuredRow]  # by the id of the paper's number


class Verdict(NamedTuple):
    """The finding, and the extent of its runs.

    word: a finding of a full run, of arithmetic, "not run", or "" if nothing is judged.
    why: the reason.
    extent: "full", "short", "quick" or "not run"; "without a test"; "" without a run.
    is_strong: whether it would survive the family-wise level.
    is_established: whether the paper's own runs support a gain; None if they do not say.
    is_small: whether a gain that is reproduced is less than half of the printed one.
    """

    word: str
    why: str = ""
    extent: str = ""
    is_strong: bool = False
    is_established: bool | None = None
    is_small: bool = False

    @property
    def is_run(self) -> bool:
        """Whether anything was run."""
        return self.extent not in ("", NOT_RUN)

    @property
    def remarks(self) -> str:
        """What a reader must know beside the word."""
        small = "less than half of the printed gain" if self.is_small else ""
        source = "not established by the source" if self.is_established is False else ""
        return joined(small, source)

    @property
    def qualified(self) -> str:
        """The word and the remarks."""
        return joined(self.word, self.remarks)


class Line(NamedTuple):
    """A row of a table.

    label: what it is.
    where: its place in the paper.
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


class Unmeasured(NamedTuple):
    """A verdict without a test; ours and its source where one seed was run."""

    verdict: Verdict
    ours: str = ""
    one_seed: OneSeed | None = None

    def added_to(self, line: Line) -> Line:
        if self.one_seed is None:
            return line._replace(verdict=self.verdict)
        note = " ".join(filter(None, (line.note, self.one_seed.caption)))
        replicas = [one for run in self.one_seed.runs for one in run["replicas"]]
        trained = ""
        if replicas:
            trained = trained_in_words(
                [one["seed"] for one in replicas],
                epochs_in_words([one["epochs"] for one in replicas]),
                [run["data"] for run in self.one_seed.runs],
            )
        return line._replace(
            verdict=self.verdict,
            ours=self.ours or line.ours,
            trained=trained,
            note=note,
            source=self.one_seed.file,
        )


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


def _measured(paper: str, found: Results) -> list[Mapping[str, Any]]:
    """Returns the judged documents of a paper, those of the largest budget only."""
    targets = largest(one for one in found.targets.values() if one["paper"] == paper)
    return [*found.of_runs.get(paper, []), *targets.values()]


def chapter(paper: Paper, found: Results) -> Chapter:
    """Returns the chapter of a paper."""
    rates = power.rates_of(found)
    tests = sum(num_tests(one, _measured(name, found)) for name, one in numbers.load().items())
    measured = [_weighed(one, rates, tests) for one in _measured(paper.name, found)]
    of_paper = {
        path: run
        for path, run in found.runs.items()
        if path.relative_to(found.root).parts[0] == paper.name
    }
    of_runs = measured[: len(found.of_runs.get(paper.name, []))]
    ours = _ours(paper, measured)
    return Chapter(
        paper,
        sorted(_claims(paper, measured, ours, found.files), key=_order),
        list(_tables(paper, ours, found.files)),
        measured[len(of_runs) :],
        list(of_paper.items()),
        [(path, d) for path, d in found.figures.items() if d["paper"] == paper.name],
        of_runs,
    )


def _weighed(document: Mapping[str, Any], rates: power.Rates, tests: int) -> dict[str, Any]:
    """Adds what would settle the unclear, and whether a finding survives the family-wise level."""
    words = {id(one): str(plan) for one, plan in power.plans(document, rates)}

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


def unjudged_in_words(line: Line) -> str:
    """Returns why a line that was run is not judged, with the direction of a short run, if any."""
    return ": ".join(filter(None, (line.verdict.extent, line.verdict.word)))


def line_of(target: Mapping[str, Any], row: Mapping[str, Any]) -> Line:
    """Returns the line of a measured row, its fractions in percent."""
    row, of = in_percent(row), f" {METRICS[row['metric']].unit}"
    off = row["difference"]
    compared = "" if row["tolerance"] is None else f" (allowed {row['tolerance']:g})"
    return Line(
        row["label"],
        METRICS[row["metric"]].axis,
        printed(row["paper"], row["paper_sd"], row["paper_n"], of),
        number(row["mean"], row["sd"], row["n"], of),
        "–" if off is None else f"{off:+.3g}{compared}",
        _verdict_of(row),
        runs_in_words(target, [row]),
        key=row["id"] or "",
        row=row,
        training=target["trainings"][row["training"]],
    )


def runs_in_words(target: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns the seeds, epochs and data of measured rows: "seeds 1, 2; 150 epochs; full MNIST".

    Rows that are compared are paired by seed: the seeds are those that they share, if any.
    """
    trained = [target["trainings"][row["training"]] for row in rows if row["values"]]
    if not trained:
        return ""
    seeds = [{int(seed) for seed in row["values"]} for row in rows if row["values"]]
    return trained_in_words(
        set.intersection(*seeds) or set.union(*seeds),
        length_in_words(target["budget"], trained),
        [training["data"] for training in trained],
    )


def length_in_words(budget: str, trainings: Sequence[Mapping[str, Any]]) -> str:
    """Returns the epochs of trainings, of fewer with the paper's: "4 of 100 epochs"."""
    epochs = [number for training in trainings for number in training["epochs"]]
    is_full = extent_of(budget) == FULL
    allowed = [] if is_full else [training["paper_epochs"] for training in trainings]
    return epochs_in_words(epochs, allowed)


def trained_in_words(seeds: Iterable[int], epochs: str, data: Sequence[Mapping[str, Any]]) -> str:
    """Returns "seeds 1, 2; 150 epochs; full MNIST"."""
    names = dict.fromkeys(map(data_in_words, data))
    return "; ".join([seeds_in_words(sorted(set(seeds))), epochs, *names])


def errors(run: Mapping[str, Any]) -> str:
    """Returns the test error of a single run."""
    values = [100 * replica["test_error"] for replica in run["replicas"]]
    n, mean, sd = spread(values)
    return f"{number(mean, sd, n)} test error"


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
                said(entry) if entry else "–",
                _compared(claim, target["rows"]),
                "",
                _verdict_of(claim),
                runs_in_words(
                    target, [row for row in target["rows"] if row["label"] in claim["rows"]]
                ),
                key=claim["id"] or claim["text"],
            )
    for name, entry in paper.entries.items():
        if entry["kind"] != "claim" or name in tested:
            continue
        text = label_of(entry)
        line = Line(text, entry["where"], said(entry), "", "", Verdict(NOT_RUN), key=name)
        note = entry.get("note", "")
        if name in ours:
            found = line_of(*ours[name])
            note = " ".join(filter(None, (note, found.note)))
            yield found._replace(label=text, where=entry["where"], paper=said(entry), note=note)
        else:
            yield _unmeasured(paper, name, files).added_to(line._replace(note=note))


def _compared(claim: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns the means of the rows that a claim compares, fractions in percent.

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
        labels, between = _distinct(claim["rows"]), " against "
    else:
        labels, between = _short_labels(claim["rows"]), ", "
    return between.join(map(" ".join, zip(labels, means, strict=True)))


def _distinct(labels: Sequence[str]) -> list[str]:
    """Returns labels without the parts that all of them begin or end with, with colons.

    >>> _distinct(["LWA, c 1, clean", "Goodfellow, c 1, clean"])
    ['LWA:', 'Goodfellow:']
    """
    parts = [label.split(", ") for label in labels]
    for _ in range(2):  # the beginnings, then the ends
        while len({own[0] for own in parts}) == 1 and min(map(len, parts)) > 1:
            parts = [own[1:] for own in parts]
        parts = [own[::-1] for own in parts]
    return [f"{', '.join(own)}:" for own in parts]


def _short_labels(labels: Sequence[str]) -> list[str]:
    """Returns labels without the words that all of them begin with, with colons.

    >>> _short_labels(["error, eps 0", "error, eps 0.1"])
    ['0:', '0.1:']
    """
    words = [label.split(" ") for label in labels]
    columns = zip(*words, strict=False)
    begin = sum(1 for _ in itertools.takewhile(lambda column: len(set(column)) == 1, columns))
    return [f"{' '.join(own[begin:])}:" for own in words]


def _unmeasured(paper: Paper, name: str, files: Files) -> Unmeasured:
    """Returns the verdict without a test: of one seed, with a reason why not, or "not run"."""
    if found := single_runs.one_seed(paper, name, files):
        ours = ""
        if found.value is not None:
            metric = METRICS[paper.entries[name].get("metric", "error_percent")]
            ours = number(found.value, unit=f" {metric.unit}")
        if found.ends:
            ends = zip(_short_labels([*found.ends]), found.ends.values(), strict=True)
            ours = ", ".join(f"{label} {number(value)}" for label, value in ends)
        return Unmeasured(Verdict("", found.why, UNTESTED), ours, found)
    if name in paper.untested:
        return Unmeasured(Verdict("", paper.untested[name]))
    return Unmeasured(Verdict(NOT_RUN))


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
                paper.untested.get(entry["id"], ""),
                _unmeasured(paper, entry["id"], files),
            )
            for entry, label in zip(entries, labels, strict=True)
        ]
        yield place, lines


def _cell(
    entry: Entry, label: str, measured: MeasuredRow | None, untested: str, unmeasured: Unmeasured
) -> Line:
    note = entry.get("note", "")
    if entry["confidence"] == "ambiguous":
        note = f"Reading not certain. {note}"
    if measured:
        line = line_of(*measured)
        note = " ".join(filter(None, (note, line.note)))
        if untested:
            line = line._replace(verdict=Verdict("", untested, UNTESTED))
        return line._replace(
            label=label, where=entry["where"], paper=said(entry), note=note, key=entry["id"]
        )
    line = Line(
        label, entry["where"], said(entry), "", "–", unmeasured.verdict, note=note, key=entry["id"]
    )
    if entry["kind"] == "worked_example" and not unmeasured.verdict.why:
        judged = worked_example(entry)
        verdict = Verdict(judged["verdict"], judged["why"])
        return line._replace(ours=in_words(entry["recomputed"]), verdict=verdict)
    if entry["kind"] == "cited":
        return line._replace(verdict=Verdict("", "cited from other authors"))
    return unmeasured.added_to(line)


def _verdict_of(judged: Mapping[str, Any]) -> Verdict:
    """Returns the verdict of a row or a claim, with what would settle it if it is unclear."""
    if judged["extent"] == NOT_RUN:
        return Verdict(NOT_RUN, extent=NOT_RUN)
    why = joined(judged["why"], judged.get("plan", ""))
    established = judged.get("established")
    strong = judged.get("strong", False)
    small = judged.get("less_than_half", False)
    return Verdict(judged["verdict"] or "", why, judged["extent"], strong, established, small)
