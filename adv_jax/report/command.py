"""Figures of papers by name: each a PNG, and a JSON of the numbers in it."""

import inspect
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from adv_jax import trained
from adv_jax.config import suggestion
from adv_jax.report import maronas, wfg
from adv_jax.report.drawing import Drawing
from adv_jax.result import provenance
from adv_jax.types import UserError
from adv_jax.workdir import json_bytes, replace, writing

Draw = Callable[..., Drawing]

PAPERS: dict[str, dict[str, Draw]] = {"maronas": maronas.FIGURES, "wfg": wfg.FIGURES}


def run(names: Sequence[str], *, workdir: str | None = None, out: str = "results") -> None:
    """Draws figures and writes OUT/PAPER/FIGURE.png and .json for each, all at the end.

    Args:
      names: PAPER.FIGURE, of those that `lines` has.
      workdir: of the run that a figure draws, or of several, joined by commas.
      out: the folder.

    Raises:
      UserError: an unknown name (the nearest is suggested), a run that is missing or that no
        figure takes, or what `trained.load` refuses.
    """
    chosen = {name: _figure(name) for name in names}
    if not chosen:
        raise UserError(f"figure is missing; allowed are {', '.join(_figures())}")
    of_runs = {name: draw for name, draw in chosen.items() if takes_run(draw)}
    if of_runs and workdir is None:
        raise UserError(f"workdir is missing; {next(iter(of_runs))} draws what a run has learnt")
    if workdir is not None and not of_runs:
        takers = ", ".join(name for name, draw in _figures().items() if takes_run(draw))
        raise UserError(f"workdir is {workdir}; {', '.join(chosen)} draws no run, only {takers}")
    workdirs = workdir.split(",") if workdir else []
    for name, draw in of_runs.items():
        if len(workdirs) > 1 and not takes_runs(draw):
            raise UserError(f"workdir is {workdir}; {name} draws one run")
    runs = [trained.load(path) for path in workdirs]

    def drawn(draw: Draw) -> Drawing:
        if takes_runs(draw):
            return draw(runs=runs)
        return draw(run=runs[0]) if takes_run(draw) else draw()

    drawings = {name: drawn(draw) for name, draw in chosen.items()}
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
        needs = " (--workdir=A,B,...)" if takes_runs(draw) else needs
        first = str(inspect.getdoc(draw)).partition("\n")[0]
        yield f"{name:25}{first}{needs}"


def takes_run(draw: Draw) -> bool:
    """Whether a figure draws one run or more."""
    return "run" in inspect.signature(draw).parameters or takes_runs(draw)


def takes_runs(draw: Draw) -> bool:
    """Whether a figure draws any number of runs."""
    return "runs" in inspect.signature(draw).parameters


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
    png, folder = io.BytesIO(), out / paper
    drawing.figure.savefig(png)
    document = {"paper": paper, "figure": figure, **drawing.document, **provenance()}
    return {
        folder / f"{figure}.png": png.getvalue(),
        folder / f"{figure}.json": json_bytes(document),
    }
