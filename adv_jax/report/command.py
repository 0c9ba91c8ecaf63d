"""Figures of papers by name: each a PNG, and a JSON of the numbers in it.

What a figure draws, the parameters of its function say: `run`, the model of one run; `runs`,
those of several, each of its first seed; `workdirs`, what several runs have left; none of them,
nothing that was trained.
"""

import inspect
import io
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from adv_jax.report import huang, maronas, nokland, thesis, wfg
from adv_jax.report.drawing import Drawing
from adv_jax.runner import trained
from adv_jax.runner.config import suggestion
from adv_jax.runner.log import print_table
from adv_jax.runner.result import provenance
from adv_jax.runner.workdir import json_bytes, replace, writing
from adv_jax.types import UserError

Draw = Callable[..., Drawing]

PAPERS: dict[str, dict[str, Draw]] = {
    "huang": huang.FIGURES,
    "maronas": maronas.FIGURES,
    "nokland": nokland.FIGURES,
    "thesis": thesis.FIGURES,
    "wfg": wfg.FIGURES,
}


def run(names: Sequence[str], *, workdirs: Sequence[str] = (), out: str = "results") -> None:
    """Draws figures and writes OUT/PAPER/FIGURE.png and .json for each, all at the end.

    Args:
      names: PAPER.FIGURE, of those that `lines` has.
      workdirs: of the runs that a figure draws.
      out: the folder.

    Raises:
      UserError: an unknown name (the nearest is suggested), a run that is missing or that no
        figure takes, or what `trained.load` or a figure refuses.
    """
    chosen = {name: _figure(name) for name in names}
    if not chosen:
        raise UserError(f"figure is missing; allowed are {', '.join(_figures())}")
    of_run = [name for name, draw in chosen.items() if takes_run(draw)]
    given = ", ".join(workdirs)
    if of_run and not workdirs:
        raise UserError(f"workdir is missing; {of_run[0]} draws what a run has learnt")
    if workdirs and not of_run:
        takers = ", ".join(name for name, draw in _figures().items() if takes_run(draw))
        raise UserError(f"workdir is {given}; {', '.join(chosen)} draws no run, only {takers}")
    for name, draw in chosen.items():
        if "run" in _parameters(draw) and len(workdirs) > 1:
            raise UserError(f"workdir is {given}; {name} draws one run")
    drawings = {name: drawing_of(name, workdirs) for name in chosen}
    for name, drawing in drawings.items():
        write(name, drawing, out)


def drawing_of(name: str, workdirs: Sequence[str] = ()) -> Drawing:
    """A figure that is drawn of runs.

    Args:
      name: PAPER.FIGURE, of those that `lines` has.

    Raises:
      UserError: an unknown name, or what `trained.load` or the figure refuses.
    """
    draw = _figure(name)
    return draw(**_runs(draw, workdirs))


def write(name: str, drawing: Drawing, out: str | Path) -> None:
    """Prints a figure's caption and table, and writes OUT/PAPER/FIGURE.png and .json."""
    if drawing.table is not None:
        print_table(*drawing.table)
    print(f"{name}: {drawing.document['caption']}")
    for path, content in _files(name, drawing, Path(out)).items():
        with writing(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, content)
        print(f"  {path}")


def lines() -> Iterator[str]:
    """What there is to draw, a line each."""
    for name, draw in _figures().items():
        several = not {"runs", "workdirs"}.isdisjoint(_parameters(draw))
        needs = f" (--workdir{' ...' if several else ''})" if takes_run(draw) else ""
        first = str(inspect.getdoc(draw)).partition("\n")[0]
        yield f"{name:25}{first}{needs}"


def takes_run(draw: Draw) -> bool:
    """Whether a figure draws what was trained."""
    return not {"run", "runs", "workdirs"}.isdisjoint(_parameters(draw))


def _runs(draw: Draw, workdirs: Sequence[str]) -> dict[str, Any]:
    """What a figure takes of the runs."""
    wanted = _parameters(draw)
    if "run" in wanted:
        return {"run": _first(workdirs[0])}
    if "runs" in wanted:
        return {"runs": [_first(workdir) for workdir in workdirs]}
    return {"workdirs": workdirs} if "workdirs" in wanted else {}


def _first(workdir: str) -> trained.Trained:
    """The model of a run's first seed.

    Raises:
      UserError: what `trained.load` refuses; a run over a grid, of which it would be one point.
    """
    run = trained.load(workdir)
    if run.about["overrides"]:
        fields = ", ".join(run.about["overrides"])
        raise UserError(f"workdir {workdir} has a grid of {fields}; allowed is a run without")
    return run


def _parameters(draw: Draw) -> Collection[str]:
    return inspect.signature(draw).parameters.keys()


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
    files = {}
    if drawing.figure is not None:
        png = io.BytesIO()
        drawing.figure.savefig(png)
        files[out / paper / f"{figure}.png"] = png.getvalue()
    document = {"paper": paper, "figure": figure, **drawing.document, **provenance()}
    return files | {out / paper / f"{figure}.json": json_bytes(document)}
