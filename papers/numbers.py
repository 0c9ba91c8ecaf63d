"""The numbers and claims that the papers print: packaged data, with the place of each.

`PAPER/numbers.json` is a list of entries in the paper's order, with those of these fields that
apply:

    id          "huang2015.table1.normal.loss"; unique, and what targets and results name it by
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

and the settings that stand beside it. `about.toml` has the title, and why a claim cannot be tested;
`single_runs.toml` names the files of results/runs that measure some of it beside the targets.
"""

import json
import tomllib
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

Entry = dict[str, Any]


class Paper(NamedTuple):
    """A paper and what it prints.

    name: of its folder, which begins the ids; short: as texts name it.
    title, authors, year, link: of the work; None and "" where there is none.
    entries: by id, in the order of the paper.
    notes: on many of its numbers, by the names that `global_notes` of an entry has.
    untestable: id of a claim -> why no run decides it.
    headlines: {"text": ..., "of": a line's key} that the README shows.
    single_runs: what `papers.single_runs` reads.
    """

    name: str
    short: str
    title: str
    authors: tuple[str, ...]
    year: int | None
    link: str
    entries: dict[str, Entry]
    notes: dict[str, str]
    untestable: dict[str, str]
    headlines: list[dict[str, str]]
    single_runs: dict[str, Any]

    @property
    def cited(self) -> str:
        """Authors and year."""
        return ", ".join([*self.authors, *([str(self.year)] if self.year else [])])


@cache
def load() -> dict[str, Paper]:
    """All papers, by the name of their folder."""
    folders = (path.parent for path in sorted(Path(__file__).parent.glob("*/numbers.json")))
    return {folder.name: _read(folder) for folder in folders}


def entry(name: str) -> Entry:
    """The entry of an id; KeyError: no paper has it."""
    return load()[name.partition(".")[0]].entries[name]


def _read(folder: Path) -> Paper:
    about = _toml(folder / "about.toml")
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
        untestable=about["untestable"],
        headlines=about.get("headlines", []),
        single_runs=_toml(single_runs) if single_runs.exists() else {},
    )


def _toml(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text("utf-8"))
