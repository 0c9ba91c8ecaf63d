"""Figures of papers by name: each a PNG, and a JSON of the numbers in it."""

import inspect
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from adv_jax import trained
from adv_jax.config import suggestion
from adv_jax.report import maronas
from adv_jax.report.drawing import Drawing
from adv_jax.result import provenance
from adv_jax.types import UserError
from adv_jax.workdir import json_bytes, replace, writing

Draw = Callable[..., Drawing]

PAPERS: dict[str, dict[str, Draw]] = {"maronas": maronas.FIGURES}


def run(names: Sequence[str], *, workdir: str | None = None, out: str = "results") -> None:
    """Draws figures and writes OUT/PAPER/FIGURE.png and .json for each, all at the end.

    Args:
      names: PAPER.FIGURE, of those that `lines` has.
      workdir: of the run that a figure draws.
      out: the folder.

    Raises:
      UserError: an unknown name (the nearest is suggested), a run that is missing or that no
        figure takes, or what `trained.load` refuses.
    """
    chosen = {name: _figure(name) for name in names}
    if not chosen:
        raise UserError(f"figure is missing; allowed are {', '.join(_figures())}")
    of_run = [name for name, draw in chosen.items() if takes_run(draw)]
    if of_run and workdir is None:
        raise UserError(f"workdir is missing; {of_run[0]} draws what a run has learnt")
    if workdir is not None and not of_run:
        takers = ", ".join(name for name, draw in _figures().items() if takes_run(draw))
        raise UserError(f"workdir is {workdir}; {', '.join(chosen)} draws no run, only {takers}")
    model = {"run": trained.load(workdir)} if workdir is not None else {}
    drawings = {name: draw(**model if takes_run(draw) else {}) for name, draw in chosen.items()}
    for name, drawing in drawings.items():
        print(f"{name}: {drawing.document['caption']}")
        for path, content in _files(name, drawing, Path(out)).items():
            with writing(path.parent):
                path.parent.mkdir(parents=True, exist_ok=True)
            replace(path, content)
            print(f"  {path}")


def lines() -> Iterator[str]:
    """What there is to draw, a line each."""
    for name, draw in _figures().items():
        needs = " (--workdir)" if takes_run(draw) else ""
        first = str(inspect.getdoc(draw)).partition("\n")[0]
        yield f"{name:18}{first}{needs}"


def takes_run(draw: Draw) -> bool:
    """Whether a figure draws a run."""
    return "run" in inspect.signature(draw).parameters


def _figures() -> dict[str, Draw]:
    return {f"{p}.{name}": draw for p, figures in PAPERS.items() for name, draw in figures.items()}


def _figure(name: str) -> Draw:
    figures = _figures()
    if name not in figures:
        legal = f"allowed are {', '.join(figures)}"
        raise UserError(f"figure is {name!r}; {legal}{suggestion(name, figures)}")
    return figures[name]


def _files(name: str, drawing: Drawing, out: Path) -> dict[Path, bytes]:
    paper, _, figure = name.partition(".")
    png, path = io.BytesIO(), out / paper / figure
    drawing.figure.savefig(png)
    document = {"paper": paper, "figure": figure, **drawing.document, **provenance()}
    return {
        path.with_suffix(".png"): png.getvalue(),
        path.with_suffix(".json"): json_bytes(document),
    }
