"""The cells of compiled programs, for `gpu_page` and `tpu_page`.

A document is what `launch.gpu` or `launch.tpu` stores for a case; a function is one compiled
program in it, with the fields of `programs.Compiled`.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from papers.pages.markup import markdown

Document = Mapping[str, Any]
Columns = Mapping[str, Callable[[Document], str]]


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
    return sum(function[kind] for kind in ("arguments", "results", "temporaries", "code"))


def gb(function: Document) -> str:
    """Returns the memory of a function in GB."""
    return f"{memory(function) / 1e9:.3f}"


def collectives(function: Document) -> str:
    """Returns the collectives of a function by kind."""
    kinds = function["collectives"].items()
    return ", ".join(f"{count} {kind}" for kind, count in kinds) or "0"
