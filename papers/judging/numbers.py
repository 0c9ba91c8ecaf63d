"""Loads the numbers and claims that the papers print.

`PAPER/numbers.json` is a list of entries in the paper's order, with the fields that apply:

    id          "huang2015.table1.normal.loss"; unique; targets and results refer to it
    kind        "result" (measured in the paper), "search" (one run of a search), "cited" (from
                other authors), "claim" (a statement of the text), "worked_example"
    where       the place in the paper: table or section, page, row and column
    table, row, column    the parts of the id that address a cell
    metric, unit          what is measured; "percent", "fraction" or neither
    claim       the statement in one sentence of ours
    value       a number, several, or words; null if the cell is lost in the available text
    printed     what the cell has instead of `value`, where the paper itself contradicts it: its
                printed runs or its text (see note)
    spread      the printed sample standard deviation over runs
    n_runs, seeds, per_seed    the number of runs, their seeds, and the value of each
    confidence  whether our reading is "certain" or "ambiguous" (see note)
    note        a comment on our reading, or on a slip of the paper
    meant       settings that the numbers show where the printed ones are a misprint
    recomputed  the exact value of a worked example

and the printed settings. `about.toml` has the title, and reasons why claims have no test.
`single_runs.toml` names the files of results/runs that measure numbers outside the targets.
"""

import json
import math
import tomllib
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from adv_jax.types import UserError

Entry = dict[str, Any]


class Paper(NamedTuple):
    """A paper and its printed numbers.

    name: name of its folder; ids begin with it.
    short: its name in texts, "Huang 2015".
    title, authors, year, link: citation; year may be None and link "".
    entries: id -> entry, in the order of the paper.
    notes: name -> note; `global_notes` of an entry lists names.
    untested: id of a claim or of a setting -> why it has no test of its own; also of a number by
      which a setting of ours was chosen, which is shown and not judged.
    order: its place among the works in a plan of trainings; infinity for the last.
    selection: what was selected on the test set, a sentence; "" if nothing is known.
    printed: key of a table -> its `title`, and the names of its `rows` and `columns` by their
      keys in the entries, or the field of the entries that has them.
    readings: names of figures that show other readings of numbers, for the pages.
    single_runs: the input of `papers.running.single_runs`.
    """

    name: str
    short: str
    title: str
    authors: tuple[str, ...]
    year: int | None
    link: str
    entries: dict[str, Entry]
    notes: dict[str, str]
    untested: dict[str, str]
    order: float
    selection: str
    printed: dict[str, dict[str, Any]]
    readings: list[str]
    single_runs: dict[str, Any]

    def first_place(self, name: str) -> str:
        """Returns the id under which a number is printed first: its own, if it is printed once."""
        other = self.entries[name].get("same_as", name)
        return next(one for one in self.entries if one in (name, other))

    @property
    def cited(self) -> str:
        """Authors and year."""
        return ", ".join([*self.authors, *([str(self.year)] if self.year else [])])


@cache
def load() -> dict[str, Paper]:
    """Returns {name of the folder: paper}.

    Raises:
      UserError: the `about.toml` of a paper has no name, title or authors.
    """
    folders = (path.parent for path in sorted(Path(__file__).parents[1].glob("*/numbers.json")))
    return {folder.name: read(folder) for folder in folders}


def entry(name: str) -> Entry:
    """Returns the entry of an id, or raises KeyError."""
    return load()[name.partition(".")[0]].entries[name]


def fraction(name: str) -> float:
    """Returns the value of an entry in percent as a fraction."""
    return round(entry(name)["value"] / 100, 6)


def read(folder: Path) -> Paper:
    """Reads the files of a paper's folder; raises UserError as `load`."""
    about = _toml(folder / "about.toml")
    for field in ("name", "title", "authors"):
        if field not in about:
            raise UserError(f"{folder.name}/about.toml must have the field {field}, got none")
    entries = json.loads((folder / "numbers.json").read_text("utf-8"))
    single_runs = folder / "single_runs.toml"
    return Paper(
        name=folder.name,
        short=about["name"],
        title=about["title"],
        authors=tuple(about["authors"]),
        year=about.get("year"),
        link=about.get("link", ""),
        entries={entry["id"]: entry for entry in entries},
        notes=about.get("notes", {}),
        untested=about.get("untested", {}),
        order=about.get("order", math.inf),
        selection=about.get("selection", ""),
        printed=about.get("printed", {}),
        readings=about.get("readings", []),
        single_runs=_toml(single_runs) if single_runs.exists() else {},
    )


def _toml(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text("utf-8"))
