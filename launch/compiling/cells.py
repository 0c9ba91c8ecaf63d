"""The text of compiled programs in tables, for `launch.compile` and the pages of TPUs and GPUs.

A document is what `programs.compile_config` returns or `launch.tpu` stores for a case; a function
is one compiled program in it, with the fields of `programs.Compiled`; a call is `launched["call"]`
of a function on a GPU.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from papers.pages.markup import markdown

Document = Mapping[str, Any]
Columns = Mapping[str, Callable[[Document], str]]
PARTS = ("arguments", "results", "temporaries", "code")  # of the memory of a function


def table(columns: Columns, documents: Iterable[Document]) -> str:
    """Returns a table with a row for each document, or a line if there is none."""
    rows = [[cell(one) for cell in columns.values()] for one in documents]
    return markdown([*columns], rows) if rows else "Not compiled.\n"


def versions(documents: Iterable[Document]) -> str:
    """Returns the versions of the compilers, in words."""
    texts = (
        ", ".join(f"{name} {number}" for name, number in one["versions"].items())
        for one in documents
    )
    return " and ".join(dict.fromkeys(texts))


def memory(function: Document) -> int:
    """Returns the bytes of a chip that a function takes."""
    return sum(function[part] for part in PARTS)


def gb(size: float) -> str:
    """Returns a size in bytes as GB."""
    return f"{size / 1e9:.3f}"


def ms(seconds: float | None) -> str:
    """Returns a time in ms; "" for None."""
    return "" if seconds is None else f"{1e3 * seconds:.3g}"


def by_kind(counts: Mapping[str, float], over: int = 1) -> str:
    """Returns the kinds with their counts over a number, such as steps; without those that are 0.

    >>> by_kind({"product": 60, "copy": 32, "sort": 1}, over=30)
    '2 product, 1 copy'
    """
    shares = {kind: round(count / over) for kind, count in counts.items()}
    return ", ".join(f"{count} {kind}" for kind, count in shares.items() if count)


def kernels(count: float, call: Document) -> str:
    """Returns a number of launches; "+": a loop of unknown length in the call counts once."""
    return f"{count:,.0f}{'+' if call['open_ended'] else ''}"


def share_in_graphs(call: Document) -> str:
    """Returns the share of the launches of a call that lie in CUDA graphs."""
    return f"{call['in_graphs'] / max(1, sum(call['kinds'].values())):.0%}"
