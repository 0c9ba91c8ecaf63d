"""Writes the pages of the works that only the site has: all numbers, and results with figures.

`docs/conf.py` calls `write` whenever the site is built. No file that it writes is committed.
"""

import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from adv_jax import style
from adv_jax.runner.run import learning_curves
from adv_jax.runner.store.workdir import default_path
from adv_jax.runner.store.writing import replace
from papers.judging.statistics import spread
from papers.pages import chapters, charts, summary
from papers.pages.chapters import Chapter, Line
from papers.pages.generated import ROOT
from papers.pages.markup import markdown
from papers.pages.wording import length_in_words, our_number, trained_in_words, words_of_key
from papers.running import stored
from papers.running.budget import PAPER

Json = Mapping[str, Any]
_CARDS = """\
# The works

Each card opens the tables of a work: its numbers beside ours, in full, and [what the words
mean](/papers/README.md#verdicts).

``````{{grid}} 1 1 2 2
:gutter: 3

{cards}
``````

```{{toctree}}
:hidden:

{pages}
```
"""
_CARD = """\
`````{{grid-item-card}} {title}
:link: /papers/{name}/README
:link-type: doc

{sentence}

*{tally}*
`````
"""
_LEGEND = (
    "Bars are sample standard deviations over seeds. Learning curves are means over replicas, "
    "shaded from the lowest to the highest."
)


def write(folder: Path, results: Path = ROOT / "papers") -> None:
    """Writes the page of cards, and FOLDER/PAPER.md of each work with its charts and curves.

    Raises:
      UserError: `stored.read` refuses the results.
    """
    found = stored.read(results)
    folder.mkdir(parents=True, exist_ok=True)
    works = [*chapters.of_all(found).values()]
    replace(folder / "index.md", cards(works).encode())
    for one in works:
        for name, figure in _drawn(one):
            content = io.BytesIO()
            style.save(figure, content, dpi=100)
            replace(folder / name, content.getvalue())
        replace(folder / f"{one.paper.name}.md", page(one, folder, found.root).encode())


def cards(works: Sequence[Chapter]) -> str:
    """Returns the page with a card for each work: its title, its sentence and its tally."""
    ordered = sorted(works, key=lambda one: not summary.is_run_in_full(one))
    shown = (
        _CARD.format(
            title=one.paper.title,
            name=one.paper.name,
            sentence=summary.sentence(one),
            tally=summary.tally(one),
        )
        for one in ordered
    )
    pages = (f"{summary.begin_of(one)} </papers/{one.paper.name}/README>" for one in ordered)
    return _CARDS.format(cards="\n".join(shown), pages="\n".join(pages))


def page(one: Chapter, folder: Path, results: Path) -> str:
    """Returns the page of a work in Markdown.

    Args:
      one: the work.
      folder: where the page will lie.
      results: the folder of results.
    """
    title = f"{summary.begin_of(one)}: all numbers and figures"
    parts = [f"# {title}\n", f"{_cited(one)}\n", f"{summary.paragraph(one)}\n"]
    if one.targets:
        parts += ["## Targets\n", f"{_LEGEND}\n"]
        parts += [text for target in one.targets for text in _target(target, folder, results)]
    if one.runs:
        parts.append("## Single runs\n")
        parts += [text for path, run in one.runs for text in _run(path, run, folder)]
    parts.append("## Numbers and claims\n")
    for place, lines in [("Claims", one.claims), *one.tables]:
        if lines:
            parts += [f"### {place}\n", _table(lines)]
    if one.paper.notes:
        parts.append("### Notes on the reading\n")
        parts += [f"- {name}: {note}" for name, note in one.paper.notes.items()] + [""]
    if one.figures:
        parts.append("## Figures drawn again\n")
        parts += [text for path, d in one.figures for text in _figure(path, d, folder)]
    return "\n".join(parts)


def _drawn(one: Chapter) -> Iterator[tuple[str, Figure]]:
    """Yields the name and the figure of each chart, then of the curves of each training."""
    yield from ((_chart(target), charts.comparison(target)) for target in one.targets)
    curves = {
        _curves(training): training["learning"]
        for target in one.targets
        for training in target["trainings"].values()
        if training["learning"]
    }  # Targets may share a training.
    yield from ((name, learning_curves.chart(found)) for name, found in curves.items())


def _chart(target: Json) -> str:
    return f"{target['target']}.png"


def _curves(training: Json) -> str:
    """Returns the file of a training's learning curves, named as its default workdir."""
    return f"{default_path(training['config']).name}.png"


def _cited(one: Chapter) -> str:
    link = f" [{one.paper.link}]({one.paper.link})." if one.paper.link else ""
    return (
        f"{one.paper.title}. {one.paper.cited.removesuffix('.')}.{link} Its configs and the "
        f"reasons of the verdicts are on [its own page](/papers/{one.paper.name}/README.md)."
    )


def _target(target: Json, folder: Path, results: Path) -> Iterator[str]:
    paper, _, item = target["target"].partition(".")
    file = _place(results / paper / "results" / f"{item}.json", folder)
    yield f"### {target['title']}\n"
    yield (
        f"`python -m launch.reproduce {target['target']}`, budget `{target['budget']}`; "
        f"[values, configs and checksums]({file}):\n"
    )
    yield f"![the paper's numbers and ours]({_chart(target)})\n"
    lines = [chapters.line_of(target, row) for row in target["rows"]]
    yield markdown(
        ["row", "paper", "ours", "difference", "found"],
        [
            [line.label, line.paper, line.measured, line.difference, line.verdict.in_words]
            for line in lines
        ],
    )
    for key, training in target["trainings"].items():
        yield f"**{words_of_key(key)}**: {_trained(training, target['budget'])}\n"
        lines = " \\\n  --".join(training["command"].split(" --"))
        yield f"```sh\n{lines}\n```\n"
        if training["learning"]:
            yield f"![learning curves]({_curves(training)})\n"


def _run(path: Path, run: Json, folder: Path) -> Iterator[str]:
    yield f"### {path.stem}\n"
    replicas = run["replicas"]
    trained = {
        **run,
        "seeds": [replica["seed"] for replica in replicas],
        "epochs": [replica["epochs"] for replica in replicas],
    }
    words = f"{_errors(run)}; `configs/{run['experiment']}.py`; {_trained(trained, PAPER)}."
    yield f"{words}\n"
    yield from _pictures(path, folder, ("_learning", "_evaluation"))


def _errors(run: Mapping[str, Any]) -> str:
    """Returns the test error of a single run."""
    values = [100 * replica["test_error"] for replica in run["replicas"]]
    n, mean, sd = spread(values)
    return f"{our_number(mean, sd, n)} test error"


def _trained(training: Json, budget: str) -> str:
    """Returns the seeds, epochs, data, time, device, versions and commit of a training."""
    versions = ", ".join(f"{name} {number}" for name, number in training["versions"].items())
    device = training.get("device") or "an unnamed device"
    words = trained_in_words(
        training["seeds"],
        length_in_words(budget, [training]),
        [training["data"]],
    )
    time = f"{training['seconds']:,.0f} s of training on {device}"
    return f"{words}; {time}; {versions}; commit {training.get('git') or 'unknown'}"


def _figure(path: Path, document: Json, folder: Path) -> Iterator[str]:
    yield f"### {path.stem}\n"
    yield from _pictures(path, folder, ("",))
    yield f"{document['caption']}\n"
    if table := document.get("table"):
        yield markdown(table["columns"], table["rows"])


def _pictures(path: Path, folder: Path, names: Iterable[str]) -> Iterator[str]:
    """Yields the PNG files of a JSON file with these ends of their names."""
    for name in names:
        picture = path.with_name(f"{path.stem}{name}.png")
        if picture.is_file():
            yield f"![{picture.stem}]({_place(picture, folder)})\n"


def _place(path: Path, folder: Path) -> str:
    """Returns the path of a file for a link from a page in `folder`."""
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()


def _table(lines: Sequence[Line]) -> str:
    """Returns the table of lines, with a column of notes if some have one."""
    columns = ["what", "found", "ours", "paper", "where", "note"]
    rows = [
        [line.label, line.verdict.in_words, line.measured, line.paper, line.where, line.note]
        for line in lines
    ]
    shown = slice(None) if any(line.note for line in lines) else slice(-1)
    return markdown(columns[shown], [row[shown] for row in rows])
