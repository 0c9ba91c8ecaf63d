"""Evaluates trained models and writes JSON, CSV and figures."""

import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from adv_jax import evaluate
from adv_jax.evaluate.evaluation import concluded, measured_rows, with_examples
from adv_jax.evaluate.progress import Progress, shown
from adv_jax.evaluate.result import check_page
from adv_jax.evaluate.setup import RowDigest
from adv_jax.evaluate.transferring import transferred_rows
from adv_jax.runner.config.replicas import replicas
from adv_jax.runner.host.processes import gather_rows, is_first, own_computation
from adv_jax.runner.run import figures, trained
from adv_jax.runner.run.log import print_table
from adv_jax.runner.run.task import Document, Task, check_same, common_task
from adv_jax.runner.run.trained import Trained
from adv_jax.runner.store.formats import csv_bytes, json_bytes, read_object
from adv_jax.runner.store.result import grid_point
from adv_jax.runner.store.workdir import is_finished, read_config
from adv_jax.runner.store.writing import WorkdirError, check_file, check_writable, write_files
from adv_jax.types import Attack, Bounds, UserError

Files = dict[Path, bytes]
# Of an evaluation in a folder; a later one there deletes those that it does not write.
_NAMES = [
    "minimal_eps.csv",
    *(f"{stem}.{kind}" for stem in ("evaluation", "transfer") for kind in ("csv", "png", "json")),
]


def run(
    workdirs: Sequence[str],
    *,
    attack_names: Sequence[str],
    eps: Sequence[float],
    norm: str | None = None,
    bounds: Bounds | str | None = "data",
    num_examples: int | None = None,
    batch_size: int = 500,
    replica: int = 0,
    minimal_eps: bool = False,
    seed: int = 0,
    out: str | None = None,
    report: str | None = None,
    command: str | None = None,
) -> None:
    """Evaluates trained models on their test sets, prints tables and writes files.

    Each run gets evaluation.json, .csv and .png, and with `minimal_eps` also minimal_eps.csv.
    `evaluate.Evaluation.from_json` reads the first one. Several runs get transfer.json, .csv and
    .png. The files of a run are written when its evaluation has ended. They replace those of an
    earlier evaluation in their folder.

    Several processes divide the examples and gather what they measured of each. The results equal
    those of one process, as an example has the same key in any process. The first process writes.

    Args:
      workdirs: runs on the same data.
      attack_names: names in `adv_jax.attacks`, or import paths, "package.module:attribute"; each
        may have settings, "pgd(num_steps=40)".
      eps: sizes of the attacks, in units of the preprocessed input.
      norm: norm of the attacks that have one; None for each attack's default.
      bounds: (lo, hi) to clip to; None for no clipping; "data" for the bounds of the data set,
        which most preprocessing removes.
      num_examples: number of test examples to use; None for all.
      batch_size: see `evaluate.evaluate`.
      replica: index of the replica of each run.
      minimal_eps: whether to search each example's smallest eps, up to the largest of `eps`.
      seed: seed of the attacks.
      out: output folder, with a subfolder per run if there are several; None for
        WORKDIR/evaluation, with the transfer matrices in that of the first run.
      report: file of the page of `evaluate.Evaluation.report`, of one run, "*.html"; None for no
        page. All adversarial examples are kept in memory for it.
      command: the command line that repeats the evaluation, for the page.

    Raises:
      UserError: an argument is invalid; there are more processes than examples, or they have
        different runs.
    """
    began = time.monotonic()
    with own_computation():
        names = _names(workdirs)
        folders = _folders(workdirs, names, out)
        _check_report(report, names)
        if minimal_eps and max(eps, default=1.0) == 0:
            raise UserError("--eps must have a number above 0 for --minimal_eps, got 0")
        models = {n: trained.load(w, replica=replica) for n, w in zip(names, workdirs, strict=True)}
        if is_first():
            for folder in folders.values():
                check_writable(folder)
            if report is not None:
                check_file(Path(report))
        task = common_task(
            models,
            attack_names,
            norm=norm,
            eps=eps,
            bounds=bounds,
            num_examples=num_examples,
            batch_size=batch_size,
            seed=seed,
        )
    check_same(models)
    written: list[Path] = []
    whole = Path(out or folders[names[0]])
    earlier = {folder: _earlier(folder) for folder in (*folders.values(), whole)}

    def write(folder: Path, files: Files) -> None:
        written.extend(files)
        stale = earlier[folder].difference(written)
        with own_computation():
            if removed := [workdir for workdir in workdirs if not Path(workdir).is_dir()]:
                raise WorkdirError(f"workdir {removed[0]} was deleted during the evaluation")
            if is_first():
                write_files(files, stale=stale)

    for workdir, (name, model) in zip(workdirs, models.items(), strict=True):
        _introduce(name, Path(workdir), model, replica)
        options = {"minimal_eps": minimal_eps, "report": report, "command": command}
        write(folders[name], _evaluation_files(folders[name], name, model, task, **options))
    if len(models) > 1:
        write(whole, _transfer_files(whole, models, task))
    print(f"{len(task.labels)} examples, {time.monotonic() - began:.1f} s; wrote")
    print(*(f"  {path}" for path in written), sep="\n")


def _introduce(name: str, workdir: Path, model: Trained, replica: int) -> None:
    """Prints how far the run is, and which of its replicas is evaluated if it has several."""
    config = read_config(workdir)
    if not is_finished(workdir):
        done, epochs = model.about["epochs"], config["epochs"]
        print(f"{name} is not finished: after {done} of {epochs} epochs")
    if (count := len(replicas(config))) > 1:
        of = ", ".join(filter(None, (f"seed {model.about['seed']}", grid_point(model.about))))
        print(f"{name}: replica {replica}, {of}; --replica names another of 0 to {count - 1}")


def _names(workdirs: Sequence[str]) -> list[str]:
    """Names each run by its path relative to the deepest common folder.

    Raises:
      UserError: there is no run, or a run is repeated.
    """
    paths = [Path(workdir).resolve() for workdir in workdirs]
    if not paths:
        raise UserError("workdir must be the directories of one or more runs, got none")
    if len(set(paths)) < len(paths):
        raise UserError(f"workdir must be different runs, got {', '.join(workdirs)}")
    shared = os.path.commonpath([path.parent for path in paths])
    named = (os.fsencode(path.relative_to(shared)) for path in paths)
    return [name.decode(errors="backslashreplace") for name in named]


def _folders(workdirs: Sequence[str], names: Sequence[str], out: str | None) -> dict[str, Path]:
    """Returns the output folder of each run by its name."""
    if not out:
        return {n: Path(w) / "evaluation" for n, w in zip(names, workdirs, strict=True)}
    return {name: Path(out) / name if len(names) > 1 else Path(out) for name in names}


def _earlier(folder: Path) -> set[Path]:
    """Returns the files of an evaluation in a folder; none if they only have such names."""
    for name in ("evaluation.json", "transfer.json"):
        with suppress(UserError):
            if "evaluation_seed" in read_object(folder / name):
                return {path for path in (folder / name for name in _NAMES) if path.is_file()}
    return set()


def _check_report(report: str | None, names: Sequence[str]) -> None:
    """Raises UserError unless the page is of one run, in a file that no other output has."""
    if report is None:
        return
    if len(names) > 1:
        raise UserError(f"report must be of one run, got {report} for {len(names)} runs")
    check_page("report", report)


def _evaluation_files(
    folder: Path,
    name: str,
    model: Trained,
    task: Task,
    *,
    minimal_eps: bool,
    report: str | None,
    command: str | None,
) -> Files:
    """Evaluates a model, prints a table and returns its files. Collective."""
    files = {}
    found = _evaluated(name, model, task, examples=report is not None)
    if report is not None:
        from adv_jax.evaluate.reporting import page  # Its statistics are slow to import.

        text = page(found, title=f"{name} under attack", command=command)
        files[Path(report)] = text.encode()
    document = model.about | task.settings | _document(found, task.attacks)
    if minimal_eps:
        high = max(task.eps)
        measure = partial(evaluate.minimal_eps, model.logits_fn, high=high)
        smallest = _of_each_attack(measure, name, task)
        document["minimal_eps"] = {a: _minimal(eps, high) for a, eps in smallest.items()}
        rows = zip(range(len(task.labels)), task.labels, *smallest.values(), strict=True)
        files[folder / "minimal_eps.csv"] = csv_bytes(["example", "label", *smallest], rows)
    rows = (
        [attack, *values]
        for attack, curve in found.attacks.items()
        for values in zip(task.eps, *np.asarray(curve, float).tolist(), strict=True)
    )
    files[folder / "evaluation.csv"] = csv_bytes(["attack", "eps", *evaluate.Curve._fields], rows)
    files[folder / "evaluation.png"] = _evaluation_png(name, document, found.norms.values())
    files[folder / "evaluation.json"] = json_bytes(document)
    _print(name, document)
    return files


def _evaluated(name: str, model: Trained, task: Task, *, examples: bool) -> evaluate.Evaluation:
    """Evaluates a model on the examples of all processes. Collective.

    examples: whether to keep the adversarial examples.
    """
    with own_computation():
        suite, measured = measured_rows(
            model.logits_fn,
            task.x,
            task.y,
            task.attacks,
            eps=task.eps,
            bounds=task.bounds,
            examples=examples,
            progress=_progress(name),
            **task.options,
        )
    measured = gather_rows(measured, task.shares)
    key = jax.random.key(task.settings["evaluation_seed"])
    setup = RowDigest().add(task.inputs).setup(bounds=task.bounds, bits=None, key=key)
    found = concluded(suite, measured, task.eps, shape=task.x.shape[1:], setup=setup)
    return with_examples(found, task.inputs, measured) if examples else found


def _document(found: evaluate.Evaluation, chosen: Mapping[str, Attack]) -> Document:
    """Returns that of `Evaluation.from_json`, with the scale and the settings of each attack."""
    document = json.loads(found.to_json())
    for name, curve in document["attacks"].items():
        attack: Any = chosen[name]
        curve |= {"scale": evaluate.scale_of(attack), "settings": attack.keywords}
    return document


def _minimal(smallest: np.ndarray, high: float) -> Document:
    """Summarizes the smallest eps of N examples; the median is None above `high`."""
    median = float(np.median(smallest))
    withstand = float(np.isinf(smallest).mean())
    return {"high": high, "median": median if median < np.inf else None, "withstand": withstand}


def _evaluation_png(name: str, document: Document, norms: Iterable[str | None]) -> bytes:
    curves = {
        attack: {"eps": document["eps"], **{m: [curve[m]] for m in ("accuracy", "confidence")}}
        for attack, curve in document["attacks"].items()
    }
    if len(curves) > 1:
        curves["worst_case"] = {"eps": document["eps"], "accuracy": [document["worst_case"]]}
    file, data = io.BytesIO(), document["data"]
    title = f"{name}: {document['experiment']}, {data['name']} ({data['source']})"
    figures.attack_curves(file, curves, title=title, norms=norms)
    return file.getvalue()


def _of_each_attack(
    measure: Callable[..., np.ndarray], title: str, task: Task
) -> dict[str, np.ndarray]:
    """Returns {attack: what `measure` finds of all examples, f[..., N]}. Collective."""
    with own_computation():
        own = {
            name: measure(
                task.x, task.y, attack, progress=_progress(f"{title} {name}"), **task.options
            )
            for name, attack in task.attacks.items()
        }
    return gather_rows(own, task.shares)


def _transfer_files(folder: Path, models: Mapping[str, Trained], task: Task) -> Files:
    """Tests each model on the examples of each other model and returns the files. Collective."""
    fns = {name: model.logits_fn for name, model in models.items()}
    names, eps = list(models), max(task.eps)
    correct = _of_each_attack(partial(transferred_rows, fns, eps=eps), "transfer", task)
    matrices = {attack: rows.mean(-1) for attack, rows in correct.items()}
    rows = (
        [attack, eps, names[i], names[j], accuracy]
        for attack, matrix in matrices.items()
        for (i, j), accuracy in np.ndenumerate(matrix)
    )
    columns = ["attack", "eps", "crafted on", "tested on", "accuracy"]
    document = {
        "models": {name: model.about for name, model in models.items()},
        "eps": eps,
        "accuracy": {attack: matrix.tolist() for attack, matrix in matrices.items()},
        **task.settings,
    }
    for attack, matrix in matrices.items():
        cells = [
            [n, *(f"{100 * a:.2f}" for a in row)] for n, row in zip(names, matrix, strict=True)
        ]
        print_table(f"{attack}, eps {eps:g}: accuracy %", ["crafted on", *names], cells)
    file = io.BytesIO()
    figures.transfer_matrices(file, matrices, names, title=f"accuracy at eps {eps:g}")
    return {
        folder / "transfer.csv": csv_bytes(columns, rows),
        folder / "transfer.png": file.getvalue(),
        folder / "transfer.json": json_bytes(document),
    }


def _print(name: str, document: Document) -> None:
    """Prints the accuracies and the audit's warnings."""
    attacks = document["attacks"].items()
    columns = {_with_scale(a, curve["scale"]): curve["accuracy"] for a, curve in attacks}
    columns |= {"worst case": document["worst_case"]} if len(columns) > 1 else {}
    rows = [
        [f"{eps:g}", *(f"{100 * values[i]:.2f}" for values in columns.values())]
        for i, eps in enumerate(document["eps"])
    ]
    print_table(f"{name}: accuracy %", ["eps", *columns], rows)
    for attack, found in document.get("minimal_eps", {}).items():
        high, share = found["high"], f"{100 * found['withstand']:.3g} %"
        median = f"above {high:g}" if found["median"] is None else f"{found['median']:.4g}"
        print(f"smallest eps under {attack}: median {median}; {share} not fooled up to {high:g}")
    for warning in document["audit"]["warnings"]:
        print(f"warning: {warning}")


def _with_scale(attack: str, scale: str) -> str:
    """Returns the name of an attack, with what its size is if it is no eps."""
    return attack if scale == "eps" else f"{attack} ({scale})"


def _progress(what: str) -> Progress:
    """Returns one that shows a bar on a terminal, and prints a line at the end elsewhere."""

    def steps(batches: Sequence[Any], description: str) -> Iterator[Any]:
        title, began = f"{what} {description}", time.monotonic()
        with shown(True) as bars:
            yield from bars(batches, title)
        if not sys.stdout.isatty():
            print(f"{title}  {time.monotonic() - began:.1f} s", flush=True)

    return steps
