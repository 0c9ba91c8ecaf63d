"""Counts the numbers and claims of a work by their state, for all overviews."""

from collections.abc import Sequence

from papers.judging.verdicts import NOT_REPRODUCED, UNDECIDED, VERDICTS
from papers.pages.chapters import NOT_RUN, Chapter

STATES = (*VERDICTS, NOT_RUN)


def counted(one: Chapter) -> dict[str, dict[str, int]]:
    """Returns what a work prints, each once, and tests of our own: {what: {state: count}}."""
    kinds = {"worked_example": "arithmetic", "claim": "claims"}
    found: dict[str, dict[str, list[str]]] = {"numbers": {}, "arithmetic": {}, "claims": {}}
    for line in (*one.lines, *one.claims):
        entry = one.paper.entries.get(line.key)
        kind = kinds.get(entry["kind"], "numbers") if entry else "own tests"
        found.setdefault(kind, {}).setdefault(line.key, []).append(line.verdict.word)
    return {
        kind: {state: [_joint(words) for words in by_key.values()].count(state) for state in STATES}
        for kind, by_key in found.items()
        if by_key
    }


def _joint(words: Sequence[str]) -> str:
    """Returns the verdict of a number or claim with these tests."""
    if len(set(words)) == 1:
        return words[0]
    return NOT_REPRODUCED if NOT_REPRODUCED in words else UNDECIDED
