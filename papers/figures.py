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

from adv_jax.runner import trained
from adv_jax.runner.log import print_table
from adv_jax.runner.result import provenance
from adv_jax.runner.workdir import json_bytes, replace, writing
from adv_jax.types import UserError
from papers.drawing import Drawing
from papers.registry import FIGURES, full_name

Draw = Callable[..., Drawing]


def run(names: Sequence[str], *, workdirs: Sequence[str] = (), out: str = "papers") -> None:
    """Draws figures, and writes the PNG and JSON of each at the end; see `write`.

    Args:
      names: PAPER.FIGURE, of those that `lines` has.
      workdirs: of the runs that a figure draws.
      out: the folder.

    Raises:
      UserError: an unknown name (the nearest is suggested), a run that is missing or that no
        figure takes, or what `trained.load` or a figure refuses.
    """
    chosen = {(full := _full(name)): FIGURES[full] for name in names}
    if not chosen:
        raise UserError(f"figure must be {', '.join(FIGURES)}, got none")
    of_run = [name for name, draw in chosen.items() if takes_run(draw)]
    given = ", ".join(workdirs)
    if of_run and not workdirs:
        raise UserError(f"workdir is missing; {of_run[0]} draws what a run has learnt")
    if workdirs and not of_run:
        takers = ", ".join(name for name, draw in FIGURES.items() if takes_run(draw))
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
    draw = FIGURES[_full(name)]
    return draw(**_runs(draw, workdirs))


def write(name: str, drawing: Drawing, out: str | Path) -> None:
    """Prints caption and table, and writes OUT/PAPER/results/figures/FIGURE.png and .json."""
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
    for name, draw in FIGURES.items():
        several = not {"runs", "workdirs"}.isdisjoint(_parameters(draw))
        needs = f" (--workdir{' ...' if several else ''})" if takes_run(draw) else ""
        first = str(inspect.getdoc(draw)).partition("\n")[0]
        yield f"{name:38}{first}{needs}"


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


def _full(name: str) -> str:
    return full_name(name, FIGURES, field="figure")


def _files(name: str, drawing: Drawing, out: Path) -> dict[Path, bytes]:
    paper, _, figure = name.partition(".")
    folder = out / paper / "results" / "figures"
    files = {}
    if drawing.figure is not None:
        png = io.BytesIO()
        drawing.figure.savefig(png)
        files[folder / f"{figure}.png"] = png.getvalue()
    document = {"paper": paper, "figure": figure, **drawing.document, **provenance()}
    return files | {folder / f"{figure}.json": json_bytes(document)}
