"""The numbers and claims that the papers print: packaged data, with the place of each.

`PAPER.json` is a list of entries, in the paper's order; an entry that has no such field leaves it
out:

    id          "huang.table1.normal.loss"; unique, and what targets and results name it by
    kind        "result" (measured in the paper), "search" (one run of a search), "cited" (of other
                authors), "claim" (a statement of the text), "worked_example"
    where       the place in the paper: table or section, page, and the row and column there
    table, row, column    the parts of the id that address a cell
    metric, unit          what is measured; "percent", "fraction" or neither
    value       a number, several, or words; null: the cell is lost in the text that was read
    spread      its sample standard deviation over runs, as printed
    n_runs, seeds, per_seed    how many runs, which, and what each gave
    confidence  of the reading: "certain", or "ambiguous" (note says why)
    note        on the reading, in our words

and the settings that stand beside it. `papers.toml` has titles, and reasons why a claim cannot be
tested; `single_runs.toml` the files of results/ that measure some of it beside the targets.
"""

import json
import tomllib
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

Entry = dict[str, Any]


class Paper(NamedTuple):
    """A paper and what it prints.

    name: as it begins the ids.
    title, authors: of the work.
    experiments: how the names of its configs begin.
    entries: by id, in the order of the paper.
    notes: on many of its numbers, by the names that `global_notes` of an entry has.
    untestable: id of a claim -> why no run decides it.
    """

    name: str
    title: str
    authors: str
    experiments: tuple[str, ...]
    entries: dict[str, Entry]
    notes: dict[str, str]
    untestable: dict[str, str]


@cache
def load() -> dict[str, Paper]:
    """All papers, by name."""
    folder = resources.files(__name__)
    about = tomllib.loads(folder.joinpath("papers.toml").read_text("utf-8"))
    papers = {}
    for name, paper in about.items():
        entries = json.loads(folder.joinpath(f"{name}.json").read_text("utf-8"))
        year = f", {paper['year']}" if "year" in paper else ""
        papers[name] = Paper(
            name,
            paper["title"],
            paper["authors"] + year,
            tuple(paper["experiments"]),
            {entry["id"]: entry for entry in entries},
            paper.get("notes", {}),
            paper["untestable"],
        )
    return papers


def entry(name: str) -> Entry:
    """The entry of an id; KeyError: no paper has it."""
    return load()[name.partition(".")[0]].entries[name]
