"""Draws figures of papers by name, each a PNG and a JSON with its numbers.

The parameters of a figure's function say what it needs: `run`, the model of one run; `runs`, the
models of the first seeds of several runs; `workdirs`, several workdirs.
"""

import inspect
import io
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from adv_jax import style
from adv_jax.runner.run import trained
from adv_jax.runner.run.log import print_table
from adv_jax.runner.store.formats import json_bytes
from adv_jax.runner.store.provenance import provenance
from adv_jax.runner.store.writing import check_writable, write_files
from adv_jax.types import UserError
from papers.running.drawing import Drawing
from papers.running.lengths import with_length
from papers.running.runs import only
from papers.running.works import FIGURES, full_name

Draw = Callable[..., Drawing]

_LISTED = "one that `python -m adv_jax.report --list` names"


def run(names: Sequence[str], *, workdirs: Sequence[str] = (), out: str = "papers") -> None:
    """Draws figures, then writes all files; see `write`.

    Args:
      names: PAPER.FIGURE, as listed by `lines`.
      workdirs: the runs to draw.
      out: output folder.

    Raises:
      UserError: a name is unknown, runs are missing or unused, or `trained.load` or a figure
        raises.
    """
    chosen = {(full := _full(name)): FIGURES[full] for name in names}
    if not chosen:
        raise UserError(f"figure must be {_LISTED}, got none")
    of_run = [name for name, draw in chosen.items() if takes_run(draw)]
    if of_run and not workdirs:
        raise UserError(f"workdir must be a run for {of_run[0]}, got none")
    if workdirs and not of_run:
        raise UserError(f"workdir must be unset for {', '.join(chosen)}, got {', '.join(workdirs)}")
    for name, draw in chosen.items():
        if "run" in _parameters(draw):
            only(workdirs, figure=name)
    for name in chosen:
        check_writable(_folder(name.partition(".")[0], Path(out)))
    drawings = {name: drawing_of(name, workdirs) for name in chosen}
    for name, drawing in drawings.items():
        write(name, drawing, out)


@style.styled()
def drawing_of(name: str, workdirs: Sequence[str] = ()) -> Drawing:
    """Draws a figure from runs.

    Args:
      name: PAPER.FIGURE, as listed by `lines`.
      workdirs: the runs to draw.

    Raises:
      UserError: the name is unknown, or `trained.load` or the figure raises.
    """
    draw = FIGURES[_full(name)]
    return draw(**_runs(draw, workdirs))


def write(name: str, drawing: Drawing, out: str | Path) -> None:
    """Prints the caption and table; writes OUT/PAPER/results/figures/FIGURE.png and .json."""
    if drawing.table is not None:
        print_table(*drawing.table)
    paper, _, figure = name.partition(".")
    document = with_length({"paper": paper, "figure": figure, **drawing.document})
    print(f"{name}: {document['caption']}")
    files = _files(drawing._replace(document=document), Path(out))
    write_files(files)
    print(*(f"  {path}" for path in files), sep="\n")


def lines() -> Iterator[str]:
    """Yields a line for each figure."""
    for name, draw in FIGURES.items():
        several = not {"runs", "workdirs"}.isdisjoint(_parameters(draw))
        needs = f" (--workdir{' ...' if several else ''})" if takes_run(draw) else ""
        first = str(inspect.getdoc(draw)).partition("\n")[0]
        yield f"{name:38}{first}{needs}"


def takes_run(draw: Draw) -> bool:
    """Returns whether a figure needs runs."""
    return not {"run", "runs", "workdirs"}.isdisjoint(_parameters(draw))


def _runs(draw: Draw, workdirs: Sequence[str]) -> dict[str, Any]:
    """Returns the arguments of a figure's function."""
    wanted = _parameters(draw)
    if "run" in wanted:
        return {"run": _first(workdirs[0])}
    if "runs" in wanted:
        return {"runs": [_first(workdir) for workdir in workdirs]}
    return {"workdirs": workdirs} if "workdirs" in wanted else {}


def _first(workdir: str) -> trained.Trained:
    """Loads the model of a run's first seed.

    Raises:
      UserError: `trained.load` raises, or the run has a grid.
    """
    run = trained.load(workdir)
    if run.about["overrides"]:
        grid = ", ".join(run.about["overrides"])
        raise UserError(f"workdir must be a run without a grid, got {workdir} with {grid}")
    return run


def _parameters(draw: Draw) -> Collection[str]:
    return inspect.signature(draw).parameters.keys()


def _full(name: str) -> str:
    of_paper = [figure for figure in FIGURES if figure.startswith(f"{name}.")]
    return full_name(name, FIGURES, field="figure", allowed=", ".join(of_paper) or _LISTED)


def _folder(paper: str, out: Path) -> Path:
    return out / paper / "results/figures"


def _files(drawing: Drawing, out: Path) -> dict[Path, bytes]:
    folder, figure = _folder(drawing.document["paper"], out), drawing.document["figure"]
    files = {}
    if drawing.figure is not None:
        png = io.BytesIO()
        style.save(drawing.figure, png)
        files[folder / f"{figure}.png"] = png.getvalue()
    table = {} if drawing.table is None else {"table": drawing.table._asdict()}
    document = {**drawing.document, **table, **provenance()}
    return files | {folder / f"{figure}.json": json_bytes(document)}
