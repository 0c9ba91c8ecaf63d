"""Writes the pages of the book."""

import io
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from adv_jax.runner import catalogue, learning
from adv_jax.runner.workdir import replace, writing
from adv_jax.types import UserError
from papers import charts, numbers, single_runs
from papers.book import chapters, reading
from papers.statistics import LEVEL


def build(results: str | Path, out: str | Path) -> None:
    """Writes OUT/index.html and what it links to.

    Args:
      results: the folder that is read, see this package.
      out: a folder; pages that are there already are replaced.

    Raises:
      UserError: Jinja2 is not installed, `reading.read` refuses the results or they cannot be told,
        or the system refuses to write (a full disk, say); the message names the file.
    """
    environment = _environment()
    found = reading.read(results)
    try:
        told = [chapters.chapter(paper, found) for paper in numbers.load().values()]
        pages = _pages(environment, told, Path(results))
        files = {name: path.read_bytes() for name, path in _pictures(found, Path(results)).items()}
    # Whatever numbers without sense make Matplotlib and Jinja2 raise, and pictures the system.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise UserError(f"results is {results}, of which no book can be made: {reason}") from error
    for name, content in {**files, **pages}.items():  # The index last: all it leads to is there.
        path = Path(out) / name
        with writing(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, content)
    measured = sum(len(chapter.targets) for chapter in told)
    print(f"{Path(out) / 'index.html'}: {len(told)} papers, {measured} tables measured")


def training_page(training: Mapping[str, Any]) -> str:
    """The file of a training's page, named as its workdir is."""
    workdir = training["command"].rpartition("--workdir=")[2].strip("'\"")
    return f"{Path(workdir).name}.html"


def _environment() -> Any:
    """Jinja2's, with what the templates call.

    Raises:
      UserError: it is not installed.
    """
    try:
        import jinja2
    except ImportError:
        raise UserError("the book needs Jinja2: pip install 'adv-jax[book]'") from None
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("papers.book"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(
        anchor=chapters.anchor,
        line_of=chapters.line_of,
        errors=chapters.errors,
        words_of_key=chapters.words_of_key,
        training_page=training_page,
    )
    return environment


def _pages(environment: Any, told: list[chapters.Chapter], results: Path) -> dict[str, bytes]:
    """Name in the book -> content, what is linked to before what links to it."""
    pages = {"style.css": _packaged("style.css")}
    for chapter in told:
        for target in chapter.targets:
            for training in target["trainings"].values():
                # Of a run that several targets have there is one page.
                pages[f"trainings/{training_page(training)}"] = _training(
                    environment, training, told
                )
        pages[f"{chapter.paper.name}.html"] = _paper(environment, chapter, told, results)
    index = environment.get_template("index.html").render(
        root="", chapters=told, level=f"{LEVEL:g}", confidence=f"{100 * (1 - LEVEL):g} %"
    )
    return pages | {"index.html": index.encode()}


def _paper(
    environment: Any, chapter: chapters.Chapter, told: list[chapters.Chapter], results: Path
) -> bytes:
    comparisons = {
        target["target"]: _svg(charts.comparison(target, width=9), target["target"])
        for target in chapter.targets
    }
    # A picture's place in the book is its place in the results.
    shown = {
        path: [picture.relative_to(results).as_posix() for picture in _pictures_of(path)]
        for path in (*dict(chapter.runs), *dict(chapter.figures))
    }
    return (
        environment.get_template("paper.html")
        .render(
            root="",
            chapters=told,
            chapter=chapter,
            comparisons=comparisons,
            shown=shown,
            marks={path: single_runs.mark(path.relative_to(results).as_posix()) for path in shown},
        )
        .encode()
    )


def _training(environment: Any, training: Mapping[str, Any], told: list[chapters.Chapter]) -> bytes:
    curves, name = training["learning"], training_page(training)
    return (
        environment.get_template("training.html")
        .render(
            root="../",
            chapters=told,
            training=training,
            learning=_svg(learning.chart(curves, width=7), name) if curves else "",
            source=_source(training),
        )
        .encode()
    )


def _pictures(found: reading.Found, results: Path) -> dict[str, Path]:
    """Name in the book -> file."""
    return {
        f"pictures/{picture.relative_to(results).as_posix()}": picture
        for path in (*found.runs, *found.figures)
        for picture in _pictures_of(path)
    }


def _pictures_of(path: Path) -> list[Path]:
    """The PNG files that belong to a JSON: of the same name, or beginning with it."""
    names = ("", "_learning", "_evaluation")
    found = (path.with_name(f"{path.stem}{name}.png") for name in names)
    return [picture for picture in found if picture.is_file()]


def _source(training: Mapping[str, Any]) -> str:
    """The text of the config's file; "" if it is none of adv_jax': a result may name any file."""
    files = {f"configs/{name}.py": catalogue.path(name) for name in catalogue.names()}
    path = files.get(training["file"])
    return path.read_text("utf-8") if path else ""


def _svg(figure: Figure, name: str) -> str:
    """A chart to stand in a page: its text in the page's colour and font, its ids its own."""
    content = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(content, format="svg", transparent=True, metadata={"Date": None})
    text = content.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r' id="[A-Za-z.]+[A-Za-z0-9.]*_\d+"', "", text)  # of groups, that nothing names
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[\d.]+pt" height="[\d.]+pt"', r"\1", text, flags=re.DOTALL)
    return text.replace("#000000", "currentColor")


def _packaged(name: str) -> bytes:
    return resources.files("papers.book").joinpath("templates", name).read_bytes()
