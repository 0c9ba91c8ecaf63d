"""Reproduces targets, and prints and writes their comparisons."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adv_jax import style
from adv_jax.runner.run.log import print_table
from adv_jax.runner.store.formats import csv_bytes, json_bytes
from adv_jax.runner.store.writing import write_files
from adv_jax.types import UserError
from papers.judging import numbers
from papers.judging.documents import data_in_words
from papers.judging.words import FULL, epochs_in_words, extent_of, span
from papers.pages import chapters, charts, printed
from papers.pages.chapters import Line, Verdict
from papers.running import figures
from papers.running.budget import Budget
from papers.running.reproduction import judged_again, measure
from papers.running.target import Target
from papers.running.works import TARGETS

_UNJUDGED = {
    "quick": "Nothing is judged: a quick run has few epochs and seeds, and other data or nets.",
    "short": (
        "Numbers are not judged: the runs are shorter than the paper's. Gains may show a direction."
    ),
}


def reproduce_all(
    wanted: Sequence[Target], budget: Budget, **settings: Any
) -> tuple[list[dict[str, Any]], list[str]]:
    """Reproduces targets -> the comparisons, and an error message per failed target.

    Args:
      wanted: the targets.
      budget: the budget.
      **settings: passed to `reproduce`.

    Raises:
      Interrupted: a signal stopped a training, which can be resumed.
    """
    found, failures = [], []
    for target in wanted:
        try:
            found.append(reproduce(target, budget, **settings))
        except UserError as error:
            failures.append(f"{target.name}: {error}")
    return found, failures


def reproduce(
    target: Target, budget: Budget, *, results: str | Path, **settings: Any
) -> dict[str, Any]:
    """Trains missing runs; prints, writes and returns the comparison.

    Args:
      target: the target.
      budget: the budget.
      results: folder for PAPER/results/TARGET.json, .csv and .png.
      **settings: passed to `papers.running.reproduction.measure`.

    Raises:
      UserError: `measure` raises.
      Interrupted: a signal stopped a training, which can be resumed.
    """
    found, drawing = measure(target, budget, results=results, **settings)
    show(found)
    if drawing:
        figures.write(target.name, drawing, results)
    _write(target.file(results), found)
    return found


def show(found: Mapping[str, Any]) -> None:
    """Prints the tables of a target as its paper prints them, its other rows, and its claims."""
    print("; ".join(heading(found)))
    lines = [chapters.line_of(found, row) for row in found["rows"]]
    for grid in printed.grids(numbers.load()[found["paper"]], [one for one in lines if one.key]):
        rows = [
            [row, *("\n".join(_shown(cells.get(name))) for name in grid.columns)]
            for row, cells in grid.rows.items()
        ]
        print_table(grid.title, ["", *grid.columns], rows)
    if own := [[one.label, one.ours, _word(one.verdict)] for one in lines if not one.key]:
        print_table("not printed in the paper", ["row", "ours", "found"], own)
    for claim in found["claims"]:
        print(f"{claim['verdict'] or claim['extent']}: {claim['text']} ({claim['why']})")
    print(_UNJUDGED.get(found["budget"], printed.CELLS))


def _shown(line: Line | None) -> tuple[str, str]:
    """Returns ours and the paper's value of a cell; ours in parentheses if it is not judged."""
    if line is None:
        return "", ""
    ours, paper = printed.plain_cell(line)
    return (ours if line.verdict.extent == FULL or not ours else f"({ours})"), paper


def _word(verdict: Verdict) -> str:
    return verdict.word or ("-" if verdict.extent == FULL else verdict.extent)


def rejudge(wanted: Sequence[Target], *, results: str | Path) -> None:
    """Recomputes the verdicts of existing results and writes all of their files.

    Raises:
      UserError: there is none, or see `stored`.
    """
    if not any(target.file(results).exists() for target in wanted):
        names = ", ".join(target.name for target in wanted[:3])
        more = f" and {len(wanted) - 3} more" if len(wanted) > 3 else ""
        raise UserError(f"--results must be a folder with results of {names}{more}, got {results}")
    for found in judged_again(wanted, results=results):
        _write(TARGETS[found["target"]].file(results), found)


def heading(found: Mapping[str, Any]) -> tuple[str, str]:
    """Returns the name and title of a target, and the length, data, seeds and epochs of its rows.

    Trainings that no row is of, such as those that craft examples, are left out.
    """
    parts = [f"{extent_of(found['budget'])} runs"]
    keys = dict.fromkeys(row["training"] for row in found["rows"])
    trainings = [found["trainings"][key] for key in keys]
    parts += dict.fromkeys(data_in_words(training["data"]) for training in trainings)
    seeds = {len(row["values"]) for row in found["rows"]} - {0} or {0}
    epochs = sorted({epochs for training in trainings for epochs in training["epochs"]})
    parts.append(f"{span(seeds)} seed{'s' if seeds != {1} else ''}")
    parts.append(epochs_in_words(epochs))
    return f"{found['target']}: {found['title']}", "; ".join(parts)


def _write(path: Path, found: Mapping[str, Any]) -> None:
    """Writes the files; the JSON last, which marks the others as complete."""
    png = io.BytesIO()
    chart = charts.comparison(found, title="\n".join(heading(found)))
    style.save(chart, png)
    files = {
        path.with_suffix(".png"): png.getvalue(),
        path.with_suffix(".csv"): _csv(found),
        path: json_bytes(found),
    }
    write_files(files)
    print(f"  {path.with_suffix('')}.json, .csv, .png")


def _csv(found: Mapping[str, Any]) -> bytes:
    """Returns the CSV; the last column has the values by seed as "seed:value"."""
    names = ["label", "id", "metric", "paper", "paper_sd", "paper_n", "mean", "sd", "n"]
    names += ["difference", "interval", "tolerance", "extent", "verdict"]
    rows = []
    for row in found["rows"]:
        values = " ".join(f"{seed}:{value:.6g}" for seed, value in row["values"].items())
        cells = {**row, "interval": " to ".join(map(str, row["interval"] or ()))}
        rows.append([found["target"], found["budget"], *(cells[n] for n in names), values])
    return csv_bytes(["target", "budget", *names, "values"], rows)
