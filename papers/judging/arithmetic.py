"""Compares worked examples that a paper prints with the exact numbers."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from papers.judging.words import RIGHT, WRONG


def worked_example(entry: Mapping[str, Any]) -> dict[str, str]:
    """Returns the verdict and reason of a worked example's number, recomputed in numbers.json.

    It is *right* if each printed number is the exact one, rounded or cut off to its decimals.
    """
    found = agreement(_digits(entry["value"]), entry["recomputed"])
    why = {
        "right": "all digits are right",
        "truncated": "cut off instead of rounded",
        "wrong": "another number",
    }
    return {"verdict": WRONG if found == "wrong" else RIGHT, "why": why[found]}


def agreement(printed: str, recomputed: ArrayLike) -> str:
    """Compares printed numbers, each to its own number of decimals, with exact ones.

    Args:
      printed: numbers with spaces between them, and "/" between rows of a matrix.
      recomputed: as many exact numbers.

    Returns:
      "right" if all are rounded, "truncated" if some are truncated instead, else "wrong".

    >>> agreement(".986 .007", [.98659, .0067]), agreement("9.042", 4.521)
    ('truncated', 'wrong')
    """
    texts = printed.replace("/", " ").split()
    values = np.asarray(recomputed, float).ravel()
    decimals = np.array([len(text.partition(".")[2]) for text in texts])
    # In units of the last decimal.
    shown, exact = np.array(texts, float) * 10.0**decimals, values * 10.0**decimals
    is_rounded = np.abs(shown - exact) <= 0.5 + 1e-9
    is_cut = np.abs(shown - np.trunc(exact)) <= 1e-6
    if is_rounded.all():
        return "right"
    return "truncated" if (is_rounded | is_cut).all() else "wrong"


def _digits(value: Any) -> str:
    """Returns the numbers of a number, row or matrix as text."""
    return " ".join(map(_digits, value)) if isinstance(value, list) else str(value)
