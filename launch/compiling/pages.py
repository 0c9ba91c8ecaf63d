"""The cells of compiled programs, and the command, for `gpu_page` and `tpu_page`.

A document is what `launch.gpu` or `launch.tpu` stores for a case; a function is one compiled
program in it, with the fields of `programs.Compiled`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import app

from adv_jax.runner.config.command_line import read_flags_alone
from adv_jax.runner.host.ending import without_traceback
from adv_jax.runner.store.writing import replace
from papers.pages.tables import markdown

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


def run(path: Path, page: Callable[[], str]) -> None:
    """Runs the command that writes a page: path, its file; page, a function that returns it."""

    def main(_: Sequence[str]) -> None:
        replace(path, page().encode())
        print(path.name)

    with without_traceback():
        app.run(main, flags_parser=read_flags_alone)
