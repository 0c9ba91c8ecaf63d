"""Judges the numbers and claims of a work: what is found where it was run in full.

All findings follow from the stored values of the seeds; no training is needed.
papers/README.md#verdicts has the rules.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from papers.judging.claims import with_claims
from papers.judging.equivalence import judged
from papers.judging.numbers import Paper
from papers.judging.words import length_of


def judge(documents: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Recomputes the findings of a work's documents, whose gains share one false discovery rate.

    A row gets `extent`, `interval`, `p`, `verdict` and `why`, a claim also its test. A verdict is
    None if nothing is judged.
    """
    return with_claims(
        [{**one, "rows": [_row(one, row) for row in one["rows"]]} for one in documents]
    )


def num_tests(paper: Paper, documents: Collection[Mapping[str, Any]]) -> int:
    """Counts the tests of full runs in a work's judged documents, each number of the paper once."""
    rows = [row for document in documents for row in document["rows"]]
    numbers = {paper.first_place(row["id"]) for row in rows if row["p"] is not None}
    claims = [claim for document in documents for claim in document["claims"]]
    return len(numbers) + sum(claim.get("num_tests", 0) for claim in claims)


def _row(document: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    training = document["trainings"][row["training"]]
    return {**row, **judged(row, length_of(document["budget"], [training]))}
