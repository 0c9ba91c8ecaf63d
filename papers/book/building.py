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
from adv_jax.runner.writing import check_writable, write_file
from adv_jax.types import UserError, install_hint
from papers import charts, counts, numbers, single_runs
from papers.book import chapters, reading


def build(results: str | Path, out: str | Path) -> None:
    """Writes OUT/index.html and all pages that it links to.

    Args:
      results: the folder of results, see this package.
      out: output folder; existing pages are replaced.

    Raises:
      UserError: Jinja2 is not installed, the results are invalid, or a file cannot be written.
    """
    environment = _environment()
    check_writable(Path(out))
    found = reading.read(results)
    try:
        book = [chapters.chapter(paper, found) for paper in numbers.load().values()]
        pages = _pages(environment, book, Path(results))
        files = {name: path.read_bytes() for name, path in _pictures(found, Path(results)).items()}
    # Matplotlib and Jinja2 raise errors of many types for invalid numbers.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise UserError(f"results must be valid for a book, got {results}: {reason}") from error
    for name, content in {**files, **pages}.items():  # The index comes last.
        write_file(Path(out) / name, content)
    measured = sum(len(chapter.targets) for chapter in book)
    print(f"{Path(out) / 'index.html'}: {len(book)} papers, {measured} tables measured")


def training_page(training: Mapping[str, Any]) -> str:
    """Returns the file of a training's page, named by its workdir."""
    workdir = training["command"].rpartition("--workdir=")[2].strip("'\"")
    return f"{Path(workdir).name}.html"


def _environment() -> Any:
    """Returns the Jinja2 environment with the templates' filters.

    Raises:
      UserError: Jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError:
        raise UserError(f"the book needs Jinja2: {install_hint('book')}") from None
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("papers.book"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(
        anchor=chapters.anchor,
        counted=counts.counted,
        line_of=chapters.line_of,
        errors=chapters.errors,
        words_of_key=chapters.words_of_key,
        training_page=training_page,
    )
    return environment


def _pages(environment: Any, book: list[chapters.Chapter], results: Path) -> dict[str, bytes]:
    """Returns name -> content; linked pages precede the pages that link to them."""
    pages = {"style.css": _packaged("style.css")}
    for chapter in book:
        for target in chapter.targets:
            for training in target["trainings"].values():
                # Targets that share a run share its page.
                pages[f"trainings/{training_page(training)}"] = _training(
                    environment, training, book
                )
        pages[f"{chapter.paper.name}.html"] = _paper(environment, chapter, book, results)
    index = environment.get_template("index.html").render(
        root="",
        chapters=book,
        level=chapters.level_in_words(book),
        confidence=chapters.confidence(),
        states=counts.STATES,
    )
    return pages | {"index.html": index.encode()}


def _paper(
    environment: Any, chapter: chapters.Chapter, book: list[chapters.Chapter], results: Path
) -> bytes:
    comparisons = {
        target["target"]: _svg(charts.comparison(target, width=9), target["target"])
        for target in chapter.targets
    }
    # Pictures have the same path in the book and in the results.
    shown = {
        path: [picture.relative_to(results).as_posix() for picture in _pictures_of(path)]
        for path in (*dict(chapter.runs), *dict(chapter.figures))
    }
    return (
        environment.get_template("paper.html")
        .render(
            root="",
            chapters=book,
            chapter=chapter,
            comparisons=comparisons,
            shown=shown,
            marks={path: single_runs.mark(path.relative_to(results).as_posix()) for path in shown},
        )
        .encode()
    )


def _training(environment: Any, training: Mapping[str, Any], book: list[chapters.Chapter]) -> bytes:
    curves, name = training["learning"], training_page(training)
    return (
        environment.get_template("training.html")
        .render(
            root="../",
            chapters=book,
            training=training,
            learning=_svg(learning.chart(curves, width=7), name) if curves else "",
            source=_source(training),
        )
        .encode()
    )


def _pictures(found: reading.Results, results: Path) -> dict[str, Path]:
    """Returns name in the book -> file."""
    return {
        f"pictures/{picture.relative_to(results).as_posix()}": picture
        for path in (*found.runs, *found.figures)
        for picture in _pictures_of(path)
    }


def _pictures_of(path: Path) -> list[Path]:
    """Returns the PNG files of a JSON file: NAME.png, NAME_learning.png, NAME_evaluation.png."""
    names = ("", "_learning", "_evaluation")
    found = (path.with_name(f"{path.stem}{name}.png") for name in names)
    return [picture for picture in found if picture.is_file()]


def _source(training: Mapping[str, Any]) -> str:
    """Returns the text of the config's file; "" if it is not a config of adv_jax."""
    files = {f"configs/{name}.py": catalogue.path(name) for name in catalogue.names()}
    path = files.get(training["file"])
    return path.read_text("utf-8") if path else ""


def _svg(figure: Figure, name: str) -> str:
    """Converts a chart to SVG with the page's text color and font and with unique ids."""
    content = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(content, format="svg", transparent=True, metadata={"Date": None})
    text = content.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r' id="[A-Za-z.]+[A-Za-z0-9.]*_\d+"', "", text)  # Unused ids of groups.
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[\d.]+pt" height="[\d.]+pt"', r"\1", text, flags=re.DOTALL)
    return text.replace("#000000", "currentColor")


def _packaged(name: str) -> bytes:
    return resources.files("papers.book").joinpath("templates", name).read_bytes()
