"""Reproduces targets: trains missing runs, compares, prints and writes."""

import csv
import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from adv_jax import train
from adv_jax.runner.config.replicas import replicas
from adv_jax.runner.run.log import print_table
from adv_jax.runner.store.workdir import json_bytes, read_json
from adv_jax.runner.store.writing import check_writable, write_file
from adv_jax.types import UserError
from papers import charts, documents
from papers.budget import BUDGETS, QUICK, Budget
from papers.comparison import Kept, compare, judged_again
from papers.figures import drawing_of, write
from papers.records import read_lines
from papers.registry import TARGETS, full_name
from papers.statistics import epochs_in_words, span
from papers.target import Target, in_percent, printed_interval
from papers.trainings import Training, check_alike, cost, finished, plan, state

_COLUMNS = ["row", "paper", "ours", "seeds", "difference", "interval", "tolerance", "verdict"]


def chosen(names: Sequence[str]) -> list[Target]:
    """Returns the targets that the names select: targets, papers, or "all"; without duplicates.

    Raises:
      UserError: a name is unknown, or there are no names.
    """
    papers = dict.fromkeys(target.paper for target in TARGETS.values())
    legal = ["all", *papers, *TARGETS]
    if not names:
        raise UserError(f"target must be {', '.join(legal)}, got none")
    wanted = [full_name(name, legal, field="target") for name in names]
    return list(
        {
            name: target
            for one in wanted
            for name, target in TARGETS.items()
            if one in ("all", target.paper, name)
        }.values()
    )


def programs(wanted: Sequence[Target], budget: Budget, **settings: Any) -> set[tuple[int, int]]:
    """Returns the (replicas, shards) of the trainings."""
    return {
        (len(replicas(training.config)), training.config["replicas"]["shards"])
        for target in wanted
        for training in plan(target, budget, **settings).values()
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
    target: Target,
    budget: Budget,
    *,
    runs: str | Path,
    results: str | Path,
    data: Mapping,
    kept: Mapping[str, Kept] = MappingProxyType({}),
) -> dict[str, Any]:
    """Trains missing runs; prints, writes and returns the comparison.

    Args:
      target: the target.
      budget: the budget.
      runs: folder of the workdirs.
      results: folder for PAPER/results/TARGET.json, .csv, .md and .png.
      data: config fields {path: value} that locate the data.
      kept: what stored results have of runs that are not to be trained, by their keys.

    Raises:
      UserError: `train.run` raises; a finished run is damaged or has another config or version; a
        result of a larger budget exists; or the budget needs all of the data.
      Interrupted: a signal stopped a training, which can be resumed.
    """
    check_data(data, budget)
    path = target.file(results)
    trainings = plan(target, budget, runs=runs, data=data)
    _check_replaceable(path, target, budget, trainings.values())
    own = {key: training for key, training in trainings.items() if key not in kept}
    done = {key: finished(training) for key, training in own.items()}
    stored = {trainings[key].workdir: one.training for key, one in kept.items()}
    done_already = stored | {own[key].workdir: r for key, r in done.items() if r is not None}
    check_alike(done_already, more_to_come=len(done_already) < len(trainings))
    measured = {key: result or _train(own[key]) for key, result in done.items()}
    check_alike(stored | {own[key].workdir: r for key, r in measured.items()}, more_to_come=False)
    lines = {key: read_lines(t.workdir, t.config, measured[key]) for key, t in own.items()}
    drawing = None
    if target.is_drawn:
        drawing = drawing_of(target.name, [str(t.workdir) for t in trainings.values()])
    by_seed = drawing.document["by_seed"] if drawing else {}
    found = compare(target, budget, trainings, measured, lines, by_seed, kept)
    print_table(heading(found), _COLUMNS, [_cells(row) for row in found["rows"]])
    for claim in found["claims"]:
        print(f"{claim['verdict']}: {claim['text']} ({claim['why']})")
    if drawing:
        write(target.name, drawing, results)
    _write(path, found)
    return found


def check_data(data: Mapping[str, Any], budget: Budget) -> None:
    """Raises UserError if a budget needs all of the data, and the source has samples only."""
    if data.get("data.source") == "embedded" and budget.name != QUICK:
        raise UserError(
            "data_source must be tfds or files, which have all of the data, with the budget "
            f"{budget.name}, got 'embedded'"
        )


def rejudge(wanted: Sequence[Target], *, results: str | Path) -> None:
    """Recomputes the verdicts of existing results and writes all of their files.

    Raises:
      UserError: there is none, or see `stored`.
    """
    if not any(target.file(results).exists() for target in wanted):
        names = ", ".join(target.name for target in wanted[:3])
        more = f" and {len(wanted) - 3} more" if len(wanted) > 3 else ""
        raise UserError(f"--results must be a folder with results of {names}{more}, got {results}")
    for found in stored(wanted, results=results):
        _write(TARGETS[found["target"]].file(results), found)


def stored(wanted: Sequence[Target], *, results: str | Path) -> Iterator[dict[str, Any]]:
    """Yields existing results with their verdicts recomputed.

    Raises:
      UserError: a file is damaged, or is not a result of its target.
    """
    for target in wanted:
        path = target.file(results)
        if path.exists():
            found = read_json(path)
            documents.check_schema(path, found, documents.Stored)
            if found["target"] != target.name:
                raise UserError(f"{path}: target must be {target.name}, got {found['target']!r}")
            yield judged_again(target, found)


def print_list(
    wanted: Sequence[Target], budget: Budget, *, results: str | Path, **settings: Any
) -> None:
    """Prints a line for each target: the cost and the progress of its trainings."""
    rows = []
    for target in wanted:
        trainings = list(plan(target, budget, **settings).values())
        epochs = [cost(training) for training in trainings]
        share = sum(state(t) * e for t, e in zip(trainings, epochs, strict=True)) / sum(epochs)
        count = sum(len(replicas(training.config)) for training in trainings)
        path = target.file(results)
        written = (_written(path) or {"budget": "?"})["budget"] if path.exists() else "-"
        rows.append([target.name, count, sum(epochs), f"{share:.0%}", written, target.title])
    columns = ["target", "trainings", "total epochs", "trained", "result", "title"]
    print_table(f"budget {budget.name} (--budget)", columns, rows)


def heading(found: Mapping[str, Any]) -> str:
    """Returns the title of a table: target, budget, data, seeds and epochs."""
    parts = [f"{found['target']}: {found['title']}", f"budget {found['budget']}"]
    trainings = found["trainings"].values()
    parts += dict.fromkeys(_data(training["data"]) for training in trainings)
    seeds = sorted({len(training["seeds"]) for training in trainings})
    epochs = sorted({epochs for training in trainings for epochs in training["epochs"]})
    parts.append(f"{span(seeds)} seed{'s' if seeds != [1] else ''}")
    parts.append(epochs_in_words(epochs))
    return "; ".join(parts)


def _train(training: Training) -> dict[str, Any]:
    print(f"training {training.command}", flush=True)
    return train.run(training.config, training.workdir)


def _check_replaceable(
    path: Path, target: Target, budget: Budget, trainings: Collection[Training]
) -> None:
    """Checks before training that the result may be written.

    Raises:
      UserError: the folder cannot be written, or the file holds a result of another target, or one
        with a larger budget, more epochs or more seeds.
    """
    check_writable(path.parent)
    if not path.exists():
        return
    there, order = _written(path), list(BUDGETS)
    if there is None or there["budget"] not in order or there["target"] != target.name:
        raise UserError(f"{path} must be a result of {target.name}, got another file; move it away")
    there_trained = there["trainings"].values()
    old = _Size(
        order.index(there["budget"]),
        max(training["config"]["epochs"] for training in there_trained),
        max(len(training["seeds"]) for training in there_trained),
    )
    new = _Size(
        order.index(budget.name),
        max(training.config["epochs"] for training in trainings),
        max(map(_num_seeds, trainings)),
    )
    if old > new:
        raise UserError(
            f"--results must not have a larger result, got {path} of {old}; the new one is of "
            f"{new}: name another folder by --results"
        )


class _Size(NamedTuple):
    """The size of a result, ordered by budget, then epochs, then seeds."""

    budget: int
    epochs: int
    seeds: int

    def __str__(self) -> str:
        name = list(BUDGETS)[self.budget]
        return f"budget {name} with {self.epochs} epochs and {self.seeds} seeds"


def _num_seeds(training: Training) -> int:
    return len({replica.seed for replica in replicas(training.config)})


def _written(path: Path) -> dict[str, Any] | None:
    """Returns the result in a file; None if the file is not a result.

    Raises:
      UserError: the result is damaged.
    """
    found = read_json(path)
    if not documents.is_meant(found, documents.TargetDocument):
        return None
    documents.check_schema(path, found, documents.TargetDocument)
    return found


def _cells(row: Mapping[str, Any]) -> list[str]:
    """Returns the cells of a row of a document, in percent."""
    low, high = row["interval"] or (0.0, 0.0)
    ends = printed_interval(low, high, row["metric"])
    row = in_percent(row)
    paper = _number(row["paper"], row["paper_sd"], row["paper_n"])
    tolerance = "-" if row["tolerance"] is None else f"{row['tolerance']:g}"
    off = "-" if row["difference"] is None else f"{row['difference']:+.3f}"
    mean = _number(row["mean"], row["sd"], row["n"])
    seeds = str(row["n"] or "not run")
    interval = " to ".join(f"{end:+.3g}" for end in ends or ()) or "-"
    label, verdict = f"{row['label']} [{charts.UNITS[row['metric']]}]", row["verdict"] or "-"
    return [label, paper, mean, seeds, off, interval, tolerance, verdict]


def _number(value: float | None, sd: float | None, n: int | None) -> str:
    """Formats "mean (sd, n)"."""
    if value is None:
        return "-"
    spread = [f"sd {sd:.3f}"] if sd is not None else []
    spread += [f"n = {n}"] if n else []
    return f"{value:.4g}" + (f" ({', '.join(spread)})" if spread else "")


def _write(path: Path, found: Mapping[str, Any]) -> None:
    """Writes the files; the JSON last, which marks the others as complete."""
    png = io.BytesIO()
    charts.comparison(found, title=heading(found).replace("; budget", "\nbudget")).savefig(png)
    write_file(path.with_suffix(".png"), png.getvalue())
    write_file(path.with_suffix(".csv"), _csv(found).encode())
    write_file(path.with_suffix(".md"), _markdown(found).encode())
    write_file(path, json_bytes(found))
    print(f"  {path.with_suffix('')}.json, .csv, .md, .png")


def _csv(found: Mapping[str, Any]) -> str:
    """Returns the CSV; the last column has the values by seed as "seed:value"."""
    table = io.StringIO()
    names = ["label", "id", "metric", "paper", "paper_sd", "paper_n", "mean", "sd", "n"]
    names += ["difference", "interval", "tolerance", "verdict"]
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["target", "budget", *names, "values"])
    for row in found["rows"]:
        values = " ".join(f"{seed}:{value:.6g}" for seed, value in row["values"].items())
        cells = {**row, "interval": " to ".join(map(str, row["interval"] or ()))}
        writer.writerow([found["target"], found["budget"], *(cells[n] for n in names), values])
    return table.getvalue()


def _markdown(found: Mapping[str, Any]) -> str:
    lines = [f"# {found['target']}", "", f"{heading(found)}.", ""]
    lines += [_line(_COLUMNS), _line("---" for _ in _COLUMNS)]
    lines += [_line(_cells(row)) for row in found["rows"]]
    if found["claims"]:
        lines += ["", "## Claims", ""]
    lines += [f"- **{c['verdict']}**: {c['text']} ({c['why']})." for c in found["claims"]]
    lines += ["", "## Trainings", ""]
    for training in found["trainings"].values():
        lines += [
            f"- `{training['command']}`",
            f"  {_data(training['data'])}; {training['seconds']:.0f} s of training on "
            f"{training['device']}, JAX {training['versions']['jax']}, commit {training['git']}",
        ]
    return "\n".join(lines) + "\n"


def _line(cells: Any) -> str:
    return "| " + " | ".join(str(cell).replace("|", r"\|") for cell in cells) + " |"


def _data(data: Mapping[str, Any]) -> str:
    sizes = data["sizes"]
    return f"{data['name']} ({data['source']}, {sizes['train']} to train, {sizes['test']} to test)"
