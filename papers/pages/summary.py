"""The sentence and the tally of a work, the same on every page that shows them."""

import statistics
from collections import Counter
from collections.abc import Sequence

from papers.judging.metrics import METRICS
from papers.judging.words import (
    CONSISTENT,
    FINDINGS,
    FULL,
    NOT_REPRODUCED,
    NOT_RUN,
    REPRODUCED,
    RIGHT,
    SAME_DIRECTION,
    SHORT,
    UNCLEAR,
    WRONG,
    capitalized,
)
from papers.pages import printed
from papers.pages.chapters import Chapter, Line
from papers.pages.markup import markdown

NUMBERS, CLAIMS, OWN, ARITHMETIC = KINDS = "numbers", "claims", "own tests", "arithmetic"
STATES = (*FINDINGS, SHORT, NOT_RUN, RIGHT, WRONG)
WORDS = {SHORT: "not judged"}


def counted(one: Chapter) -> dict[str, Counter[str]]:
    """Returns how many numbers, claims, own tests and examples of arithmetic have each state.

    What a work prints is counted once, however many tables print it or tests it has. *short* counts
    also what a quick run, or one seed without a test, has measured.
    """
    found: dict[str, dict[str, list[str]]] = {kind: {} for kind in KINDS}
    for line in (*one.lines, *one.claims):
        entry = one.paper.entries.get(line.key)
        state = _state(line)
        if state:
            name = one.paper.first_place(line.key) if entry else line.key
            found[_kind(one, line)].setdefault(name, []).append(state)
    return {
        kind: Counter(_joint(states) for states in by_name.values())
        for kind, by_name in found.items()
        if by_name
    }


def is_run_in_full(one: Chapter) -> bool:
    """Returns whether anything of a work was run in full; if not, it is a target."""
    return any(line.verdict.extent == FULL for line in (*one.lines, *one.claims))


def sentence(one: Chapter) -> str:
    """Returns what was found, in one sentence."""
    if not is_run_in_full(one):
        return f"{begin_of(one)}: nothing was run in full."
    judged = judged_numbers(one)
    parts = []
    if judged:
        gap = statistics.median(abs(line.row["difference"]) for line in judged if line.row)
        parts.append(
            f"{within_tolerance(one)} numbers within tolerance{_of_one_run(one)}, median gap "
            f"{gap:.2g} {_points(judged)}"
        )
    else:
        claimed = any(line.verdict.extent == FULL for line in one.lines)
        number = "number of a table" if claimed else "printed number"
        parts.append(f"no {number} was run in full")
    held = {kind: reproduced(one, kind) for kind in (CLAIMS, OWN)}
    if words := [f"{counts} {kind}" for kind, counts in held.items() if counts]:
        parts.append(f"{' and '.join(words)} reproduced")
    text = f"{begin_of(one)}: {', '.join(parts)}"
    farthest = largest_deviation(one)
    return f"{text}; {farthest}." if farthest else f"{text}."


def paragraph(one: Chapter) -> str:
    """Returns the sentence and the tally of a work, and what it selected on its test set."""
    words = f"{capitalized(tally(one))} Each counts once, even if several tests have it."
    return f"**{sentence(one)}** {words} {one.paper.selection}".strip()


def tally(one: Chapter) -> str:
    """Returns the counts of a work by state."""
    parts = []
    for kind, counts in counted(one).items():
        parts.append(f"{kind}: {in_states(counts)}")
    return f"{'; '.join(parts)}."


def in_states(counts: Counter[str]) -> str:
    """Returns "3 reproduced, 1 unclear, 2 not run"."""
    return ", ".join(
        f"{counts[state]} {WORDS.get(state, state)}" for state in STATES if counts[state]
    )


def judged_numbers(one: Chapter) -> list[Line]:
    """Returns the numbers of a work that were run in full and judged, each once."""
    judged = [
        line
        for line in one.lines
        if line.verdict.extent == FULL and line.verdict.word in FINDINGS and line.row
        if _kind(one, line) == NUMBERS
    ]
    return list({one.paper.first_place(line.key): line for line in judged}.values())


def within_tolerance(one: Chapter) -> str:
    """Returns "20 of 25": how many judged numbers are within their tolerance; "" without any."""
    judged = judged_numbers(one)
    return f"{sum(map(_is_within, judged))} of {len(judged)}" if judged else ""


def _of_one_run(one: Chapter) -> str:
    """Returns " (5 of 8 with one run each)", of the judged numbers with one run here and there."""
    single = list(filter(_is_of_one_run, judged_numbers(one)))
    return f" ({sum(map(_is_within, single))} of {len(single)} with one run each)" if single else ""


def _is_within(line: Line) -> bool:
    return bool(line.row) and _excess(line) <= 1


def _is_of_one_run(line: Line) -> bool:
    row = line.row or {}
    return row["n"] == 1 and (row["paper_n"] or 1) == 1


def reproduced(one: Chapter, kind: str) -> str:
    """Returns "6 of 7": how many judged claims or own tests are reproduced; "" without any."""
    counts = counted(one).get(kind, Counter())
    judged = sum(counts[word] for word in FINDINGS)
    return f"{counts[REPRODUCED]} of {judged}" if judged else ""


def _others(one: Chapter, kind: str) -> str:
    """Returns " (2 unclear)": the judged claims or own tests that are not reproduced, if any."""
    counts = counted(one).get(kind, Counter())
    others = {word: counts[word] for word in FINDINGS if word != REPRODUCED}
    found = in_states(Counter(others))
    return f" ({found})" if found else ""


def largest_deviation(one: Chapter) -> str:
    """Returns the number that is farthest outside of its tolerance, else the farthest inside.

    The distance is in tolerances. "" if no number was judged.
    """
    judged = judged_numbers(one)
    if not judged:
        return ""
    line = max(judged, key=_excess)
    missed = [other for other in judged if other.verdict.word == NOT_REPRODUCED]
    others = len(missed) - 1
    row = line.row or {}
    unit = METRICS[row["metric"]].unit
    values = f"({row['mean']:.3g} {unit}; the paper has {row['paper']:.3g} {unit})"
    name = printed.label_in(one.paper, line)
    if line.verdict.word == NOT_REPRODUCED:
        more = f", nor {'are' if others > 1 else 'is'} {others} more" if others > 0 else ""
        alone = "; all compare one run with one" if all(map(_is_of_one_run, missed)) else ""
        return f"{name} is not reproduced {values}{more}{alone}"
    return f"the largest deviation is {name} {values}"


def overview(works: Sequence[Chapter], link: str) -> str:
    """Returns the table of the reproduced works, and a sentence of those that are targets.

    Args:
      works: all works.
      link: the address of a work's page, with {name}.
    """
    rows = [
        [
            f"[{begin_of(one)}]({link.format(name=one.paper.name)})",
            f"{within_tolerance(one)}{_of_one_run(one)}" or "–",
            *(reproduced(one, kind) + _others(one, kind) or "–" for kind in (CLAIMS, OWN)),
            largest_deviation(one) or "–",
        ]
        for one in works
        if is_run_in_full(one)
    ]
    columns = ["work", "numbers within tolerance", "claims reproduced", "own tests reproduced"]
    columns += ["largest deviation"]
    targets = [
        f"[{begin_of(one)}]({link.format(name=one.paper.name)})"
        for one in works
        if not is_run_in_full(one)
    ]
    text = markdown(columns, rows)
    if targets:
        text += f"\nTargets, not yet run in full: {', '.join(targets)}.\n"
    return text


def _excess(line: Line) -> float:
    row = line.row or {}
    return abs(row["difference"]) / row["tolerance"]


def _state(line: Line) -> str:
    verdict = line.verdict
    if verdict.extent == FULL or verdict.word in (RIGHT, WRONG, NOT_RUN):
        return verdict.word
    return SHORT if verdict.extent else ""


def _kind(one: Chapter, line: Line) -> str:
    entry = one.paper.entries.get(line.key)
    if entry is None:
        return OWN
    return {"worked_example": ARITHMETIC, "claim": CLAIMS}.get(entry["kind"], NUMBERS)


def _joint(states: Sequence[str]) -> str:
    """Returns the state of a number or claim with these tests."""
    if len(set(states)) == 1:
        return states[0]
    judged = [state for state in states if state in FINDINGS]
    if not judged:
        return SHORT if SHORT in states else NOT_RUN
    order = (NOT_REPRODUCED, UNCLEAR, SAME_DIRECTION, CONSISTENT, REPRODUCED)
    return next(word for word in order if word in judged)


def begin_of(one: Chapter) -> str:
    """Returns the name of a work at the beginning of a sentence."""
    return capitalized(one.paper.short)


def _points(lines: Sequence[Line]) -> str:
    units = {METRICS[line.row["metric"]].unit for line in lines if line.row}
    return "points" if units == {"%"} else units.pop()
