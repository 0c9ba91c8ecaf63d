"""The pages that show measured numbers: `python -m docs.pages` writes them.

docs/results.md, and the marked parts of README.md, papers/README.md and papers/PAPER/README.md, are
made from the JSON files in papers/*/results.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from papers.judging.statistics import LEVEL
from papers.judging.verdicts import num_tests
from papers.judging.words import FULL, NOT_RUN, RIGHT, WRONG, extent_of, joined
from papers.pages import chapters, printed, side_by_side, summary
from papers.pages.chapters import Chapter, Line
from papers.pages.markup import BEGIN, escaped, folded, markdown, with_generated
from papers.pages.wording import length_in_words
from papers.running import missing, power, stored
from papers.running.budget import PAPER
from papers.running.epoch_times import CPU
from papers.running.works import TARGETS

ROOT = Path(__file__).parents[2]
CHART = (
    "![Table 1 of Huang 2015: the paper's numbers and ours](papers/huang2015/results/table1.png)"
)
LIKELIHOODS = (
    "Mean log-likelihood of MNIST's test set under Gaussian Parzen windows around 10,000 samples "
    "of each of our generators. The cited numbers are those of Table 1 of the work, with standard "
    "errors of 1.1 to 2 nats over examples; that of `cgan_mnist` is from a page about its source. "
    "Our bandwidth is chosen on training images, the work's on validation images. The work says "
    "(sec. 5) that the method has a somewhat high variance and does not do well in many dimensions:"
)


def pages(root: Path = ROOT) -> dict[Path, str]:
    """Returns the content of each page by its path.

    Raises:
      UserError: `stored.read` refuses the results, or a page lacks the marks of its generated part.
    """
    found = stored.read(root / "papers")
    works = [*chapters.of_all(found).values()]
    made = {
        root / "docs" / "results.md": _results(works, _missing(works, found)),
    }
    for path, text in {
        root / "README.md": f"{summary.overview(works, 'papers/{name}/README.md')}\n{CHART}\n",
        root / "papers" / "README.md": _works(works),
        **{root / "papers" / one.paper.name / "README.md": _work(one) for one in works},
    }.items():
        made[path] = with_generated(path, text)
    return made


def _works(works: Sequence[Chapter]) -> str:
    """Returns the sentences of all works, and the number of tests."""
    parts = []
    titles = {"Works that were run": True, "Targets, not yet run in full": False}
    for title, in_full in titles.items():
        own = [one for one in works if summary.is_run_in_full(one) == in_full]
        parts += [f"## {title}\n"]
        parts += [
            f"- [`{one.paper.name}`]({one.paper.name}/README.md), {one.paper.title}. "
            f"{summary.sentence(one)}"
            for one in own
        ]
        parts.append("")
    tests = sum(num_tests(one.paper, (*one.targets, *one.of_runs)) for one in works)
    parts.append(
        f"The results hold {tests} tests of full runs: of each number, gain and size, and each "
        f"step of an order. A finding with a p below {LEVEL:g} / {tests} bears a star.\n"
    )
    return "\n".join(parts)


def _results(works: Sequence[Chapter], lacking: Iterable[list[str]]) -> str:
    parts = [
        "# Results\n",
        f"{BEGIN}\n",
        "The printed numbers and claims that were run, beside the measured ones. The pages of the "
        "works add intervals, p values and figures. The [rules](../papers/README.md#verdicts) say "
        "what each word means; [another page](verdicts.md) has the verdicts that changed with "
        "them. Errors are test errors. Where a work leaves a setting open, its possible values are "
        "compared on the test set, too.\n",
        summary.overview(works, "../papers/{name}/README.md"),
        "Our test errors on digits with 100 labels, the lowest first. Epochs and nets differ; the "
        "epochs of pre-trained nets are those of the classifier alone. Two rows of one method were "
        "trained on two kinds of devices, on which one seed may end elsewhere. Where a work chose "
        "settings on the test set, its part below says so. Cited are the work's own numbers, and "
        "for two methods those of their sources.\n",
        markdown(*side_by_side.with_labels(works, side_by_side.WITH_100_LABELS)),
        "The same with 1,000 labels:\n",
        markdown(*side_by_side.with_labels(works, side_by_side.WITH_1000_LABELS)),
        f"{printed.LEGEND}\n",
    ]
    for one in works:
        parts += [
            f"## {summary.begin_of(one)}: {one.paper.title}\n",
            f"[Settings, intervals and figures](../papers/{one.paper.name}/README.md).\n",
            f"{summary.paragraph(one)}\n",
            *_grids(one, with_details=False),
            *_claims(one, with_details=False),
            *_generators(one),
        ]
    parts += [
        "## Not yet in full\n",
        "Targets of `launch.reproduce` that lack runs of the paper's length or some of its seeds, "
        "how far its result was run (full: with fewer seeds; single runs: each of its numbers has "
        "one of the paper's length, which the tables above show), and the time of the missing "
        "trainings, one after another, on the CPU of stored runs. Runs that may stop early are "
        "counted with all their epochs. A ~ marks a rough guess: an epoch's time is that of the "
        "most similar stored runs of the config, some of them on other devices and scaled, and may "
        "be far from the truth. A training that two targets lack counts in both.\n",
        markdown(["target", "result", "time"], lacking),
    ]
    return "\n".join(parts)


def _grids(one: Chapter, *, with_details: bool) -> Iterator[str]:
    """Yields the printed tables of which a cell was run, and the table of arithmetic."""
    for grid in printed.grids(one.paper, one.lines):
        if grid.is_measured:
            yield f"{grid.title}. {printed.caption(grid.lines)}".strip() + "\n"
            yield printed.table(grid)
            if with_details:
                yield printed.details(grid)
    if examples := printed.arithmetic(one.lines):
        counts = summary.counted(one)[summary.ARITHMETIC]
        heading = f"Arithmetic: {counts[RIGHT]} right, {counts[WRONG]} wrong"
        yield f"<details><summary>{heading}</summary>\n"
        rows = [[line.label, line.where, line.paper, line.ours, _why(line)] for line in examples]
        yield markdown(["example", "where", "paper", "exact", "found"], rows)
        yield "</details>\n"


def _claims(one: Chapter, *, with_details: bool) -> Iterator[str]:
    """Yields the table of the claims that were run: the sentence, what was found, and ours."""
    run = [line for line in one.claims if line.verdict.is_run]
    if not run:
        return
    rows = []
    for line, label in zip(run, chapters.told_apart(run), strict=True):
        details = [joined(line.where, line.verdict.why, line.runs), escaped(line.note)]
        test = f" {folded('test', [*filter(None, details)])}".rstrip() if with_details else ""
        rows.append([label, found_in_words(line), f"{line.ours}{test}", line.paper])
    yield markdown(["claim or own test", "found", "ours", "paper"], rows)


def found_in_words(line: Line) -> str:
    """Returns what was found of a claim, gray if it was not judged."""
    verdict = line.verdict
    if verdict.extent != FULL:
        return printed.gray(verdict.in_words)
    return joined(f"**{verdict.word}**{'★' if verdict.is_strong else ''}", verdict.remarks)


def _missing(works: Sequence[Chapter], found: stored.Results) -> Iterator[list[str]]:
    """Yields the name of each target that lacks trainings, what is stored, and their time."""
    stored_extents = {one["target"]: extent_of(one["budget"]) for one in found.targets.values()}
    full = {
        line.key
        for one in works
        for line in one.lines
        if line.row and line.row["n"] and line.row["extent"] == FULL
    }
    lacking = missing.lacks(TARGETS.values(), found, runs="runs", data={})
    lacking.sort(key=lambda lack: list(TARGETS).index(lack.target.name))
    rate = power.rate_on(CPU, found)
    for lack in lacking:
        name, cost = lack.target.name, missing.cost_on(lack, rate)
        time = power.time_on(CPU, cost) if cost else "not timed"
        extent, ids = stored_extents.get(name, "-"), {row.id for row in lack.target.rows if row.id}
        if extent != FULL and ids and ids <= full:
            extent = "single runs"
        yield [f"`{name}`", extent, time]


def _work(one: Chapter) -> str:
    has_numbers = summary.NUMBERS in summary.counted(one)
    legend = f" {printed.LEGEND}" if has_numbers and summary.is_run_in_full(one) else ""
    parts = [f"{summary.paragraph(one)}{legend}\n"]
    parts += [*_grids(one, with_details=True), *_claims(one, with_details=True), _others(one)]
    return "\n".join([*parts, *_charts(one), *_drawn(one)])


def _charts(one: Chapter) -> Iterator[str]:
    """Yields links to the charts of the targets."""
    links = [
        f"[{name}](results/{name}.png){_shorter(target)}"
        for target in one.targets
        for name in [target["target"].partition(".")[2]]
    ]
    if links:
        yield f"Charts of targets: {', '.join(links)}\n"


def _shorter(target: Mapping[str, Any]) -> str:
    """Returns " (10 of 150 epochs)" of a target whose runs are shorter than the paper's, or ""."""
    if target["budget"] == PAPER:
        return ""
    return f" ({length_in_words(target['budget'], [*target['trainings'].values()])})"


def _drawn(one: Chapter) -> Iterator[str]:
    """Yields the figures that the tables do not show, with links and captions."""
    figures = [(path, d) for path, d in one.figures if path.stem not in one.paper.readings]
    if not figures:
        return
    yield "Other figures:\n"
    targets = {target["target"].partition(".")[2]: target for target in one.targets}
    for path, document in figures:
        links = ", ".join(
            f"[{file.suffix[1:]}](results/figures/{file.name})"
            for file in (path.with_suffix(".png"), path)
            if file.exists()
        )
        seeds = _over_seeds(targets[path.stem]) if path.stem in targets else ""
        words = f"{document['caption']} {seeds}".rstrip()
        yield f"- `{path.stem}` ({links}): {escaped(words)}"
    yield ""


def _over_seeds(target: Mapping[str, Any]) -> str:
    """Returns the log-likelihoods of a target, of which a figure may draw the first seed alone."""
    lines = [chapters.line_of(target, row) for row in target["rows"] if row["n"] > 1]
    found = [f"{one.label} {one.ours}" for one in lines if one.row and "nats" in one.row["metric"]]
    return f"Log-likelihood over the seeds: {', '.join(found)}." if found else ""


def _others(one: Chapter) -> str:
    """Returns generators, other runs, readings, and what has no test or was not run."""
    lines = [line for line in one.lines if line.verdict.is_run]
    parts = list(_generators(one))
    if others := _other_runs(one, {(line.key, line.measured) for line in lines}):
        parts.append("Runs that measure a number above in another way, or over fewer seeds:\n")
        parts.append(markdown(["run", "paper", "ours"], others))
    figures = {path.stem: document for path, document in one.figures}
    for name in filter(figures.get, one.paper.readings):
        parts.append(f"Figure `{name}`: {figures[name]['caption']}\n")
        if table := figures[name].get("table"):
            parts.append(markdown(table["columns"], table["rows"]))
    untested = [line for line in one.claims if not (line.verdict.word or line.verdict.extent)]
    if untested:
        claims = [f"{escaped(line.label)} ({escaped(line.verdict.why)})" for line in untested]
        parts.append(folded("claims without a test of their own", claims))
    if left := list(_not_run(one)):
        parts += ["Not run:\n", *(f"- {escaped(text)}" for text in left), ""]
    return "\n".join(parts)


def _generators(one: Chapter) -> Iterator[str]:
    """Yields the table of a work's generators, if some were measured."""
    headers, generators = side_by_side.likelihoods(one)
    if generators:
        yield f"{LIKELIHOODS}\n"
        yield markdown(headers, generators)


def _not_run(one: Chapter) -> Iterator[str]:
    """Yields each claim that was not run, then each table with its count of such numbers."""
    yield from (line.label for line in one.claims if line.verdict.word == NOT_RUN)
    for title, lines in one.tables:
        if count := sum(line.verdict.word == NOT_RUN for line in lines):
            yield f"{title}: {count} number{'s' if count > 1 else ''}"


def _other_runs(one: Chapter, shown: Collection[tuple[str, str]]) -> list[list[str]]:
    """Returns the rows of single runs whose measurement is not shown: label, paper and ours.

    Args:
      one: the chapter.
      shown: the id of each number that is shown, and what is shown of it.
    """
    found = [
        (row["label"], chapters.line_of(document, row))
        for document in one.of_runs
        for row in document["rows"]
        if row["values"] and row["id"]
    ]
    return [
        [label, line.paper, line.measured]
        for label, line in found
        if (line.key, line.measured) not in shown
    ]


def _why(line: Line) -> str:
    return f"{line.verdict.word}: {line.verdict.why}"
