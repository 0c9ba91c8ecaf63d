"""A table of a paper, end to end: `python -m launch.reproduce TARGET ... [--budget=short]`.

A TARGET is a table or figure such as maronas.table20, a paper (maronas), or all. What is missing is
trained, in ordinary workdirs under --runs that the same command resumes; paper and ours are printed
side by side and written to RESULTS/TARGET.json, .csv, .md and .png. Where several runs make a
number, as examples that were crafted on another net, the report's figure is drawn too.

    python -m launch.reproduce --list
    python -m launch.reproduce maronas.table22 --data_source=files --data_dir=DIR
    python -m launch.reproduce maronas.table22 --budget=quick --results=/tmp/results
    python -m launch.reproduce maronas.table24 --seeds=2
    python -m launch.reproduce maronas.table6 --budget=short --epochs=10
    python -m launch.reproduce maronas --check
    python -m launch.reproduce all --judge

Budgets: paper, the default, is what the paper trained; short is a fifth of the epochs and three
seeds; quick is the configs' quick mode, on embedded digits where there are such, two seeds and two
points of each axis of a grid. --seeds takes fewer seeds of any, --epochs fewer epochs of short and
quick. A result says which it is and how many seeds and epochs it has, and a smaller one never
replaces a larger one. What each can decide: `adv_jax.report.verdicts`. --judge trains nothing: it
writes the verdicts of the results that are there anew, from their values.
"""

import csv
import io
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import app, flags, logging

from adv_jax import train
from adv_jax.report import charts
from adv_jax.report.book import documents
from adv_jax.report.command import drawing_of, write
from adv_jax.report.statistics import span
from adv_jax.runner.command_line import read_flags
from adv_jax.runner.config import replicas, suggestion
from adv_jax.runner.devices import check_devices, use_cores
from adv_jax.runner.log import print_table
from adv_jax.runner.output import standard_output
from adv_jax.runner.signals import Interrupted
from adv_jax.runner.workdir import json_bytes, read_json, replace, writing
from adv_jax.types import UserError
from launch.budget import BUDGETS, PAPER, QUICK, Budget
from launch.comparison import document, judged_again, misses
from launch.records import read_lines
from launch.targets import Target, targets
from launch.trainings import Training, check_alike, cost, finished, plan, state

_BUDGET = flags.DEFINE_enum("budget", PAPER, list(BUDGETS), "how much is trained")
_SEEDS = flags.DEFINE_integer("seeds", None, "of each training, at most", lower_bound=1)
_EPOCHS = flags.DEFINE_integer("epochs", None, "of each training, at most", lower_bound=1)
_CHECK = flags.DEFINE_bool("check", False, "exit with 1 where something is not reproduced")
_JUDGE = flags.DEFINE_bool("judge", False, "train nothing; write the verdicts in RESULTS anew")
_LIST = flags.DEFINE_bool("list", False, "say what there is, its cost and its state")
_RUNS = flags.DEFINE_string("runs", "runs/reproduce", "folder of the workdirs")
_RESULTS = flags.DEFINE_string("results", "results", "folder of the results")
_SOURCE = flags.DEFINE_string("data_source", None, "tfds, files or embedded, for all trainings")
_DIR = flags.DEFINE_string("data_dir", None, "folder of the files, for all trainings")

_COLUMNS = ["row", "paper", "ours", "seeds", "difference", "interval", "tolerance", "verdict"]


def main(argv: list[str]) -> None:
    """Reproduces what the arguments name; exits with 1 on a mistake or a miss that is checked.

    A target that fails does not keep the others from being reproduced; it is told at the end.
    """
    logging.set_verbosity(logging.FATAL)  # What matters of JAX's and Orbax' errors is raised too.
    given = {"data.source": _SOURCE.value, "data.dir": _DIR.value}
    settings: dict[str, Any] = {
        "runs": _RUNS.value,
        "data": {path: value for path, value in given.items() if value is not None},
    }
    try:
        budget = BUDGETS[_BUDGET.value].limited(seeds=_SEEDS.value, epochs=_EPOCHS.value)
        if _LIST.value:
            print_list(chosen(argv[1:] or ["all"]), budget, results=_RESULTS.value, **settings)
            return
        wanted = chosen(argv[1:])
        if _JUDGE.value:
            judge(wanted, results=_RESULTS.value)
            return
        use_cores(*programs(wanted, budget, **settings))
        check_devices()
        found, failures = reproduce_all(wanted, budget, results=_RESULTS.value, **settings)
    except UserError as error:
        sys.exit(f"error: {error}")
    except Interrupted as stop:
        print(stop)
        sys.exit(128 + stop.signum)
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on from what is saved")
    missed = [line for one in found for line in misses(one)]
    told = [f"error: {line}" for line in failures]
    told += ["missed:", *missed] if _CHECK.value and missed else []
    if told:
        sys.exit("\n".join(told))


def chosen(names: Sequence[str]) -> list[Target]:
    """The targets that names stand for: a target, a paper, or all; each once.

    Raises:
      UserError: an unknown name (the nearest is suggested), or none.
    """
    known = targets()
    papers = list(dict.fromkeys(target.paper for target in known.values()))
    if not names:
        raise UserError(f"target is missing; allowed are all, {', '.join([*papers, *known])}")
    found: dict[str, Target] = {}
    for name in names:
        meant = {key: target for key, target in known.items() if name in ("all", target.paper, key)}
        if not meant:
            near = suggestion(name, [*known, *papers, "all"])
            raise UserError(
                f"target is {name!r}; allowed are all, {', '.join(papers)} and their tables, which "
                f"--list shows{near}"
            )
        found |= meant
    return list(found.values())


def programs(wanted: Sequence[Target], budget: Budget, **settings: Any) -> set[tuple[int, int]]:
    """Replicas and shards of the trainings."""
    return {
        (len(replicas(training.config)), training.config["replicas"]["shards"])
        for target in wanted
        for training in plan(target, budget, **settings).values()
    }


def reproduce_all(
    wanted: Sequence[Target], budget: Budget, **settings: Any
) -> tuple[list[dict[str, Any]], list[str]]:
    """The comparisons, and a line for each target that cannot be had, which keeps no other back.

    Args:
      settings: of `reproduce`.

    Raises:
      Interrupted: by a signal; the same command goes on.
    """
    found, failures = [], []
    for target in wanted:
        try:
            found.append(reproduce(target, budget, **settings))
        except UserError as error:
            failures.append(f"{target.name}: {error}")
    return found, failures


def reproduce(
    target: Target, budget: Budget, *, runs: str | Path, results: str | Path, data: Mapping
) -> dict[str, Any]:
    """Trains what is missing, prints and writes the comparison, and returns it.

    Args:
      runs: the folder of the workdirs.
      results: where TARGET.json, .csv, .md and .png go.
      data: fields of the configs {path: value} that say where the data are.

    Raises:
      UserError: what `train.run` refuses, a result of another config or version or with damage
        among those that are finished, a result of a larger budget in the way, or a sample of the
        data with a budget that is compared with the paper.
      Interrupted: by a signal; the same command goes on.
    """
    if data.get("data.source") == "embedded" and budget.name != QUICK:
        raise UserError(
            f"data_source is 'embedded' with the budget {budget.name}; allowed are tfds and files, "
            f"for a sample of the data is not the paper's, or the budget {QUICK}"
        )
    path = Path(results) / f"{target.name}.json"
    trainings = plan(target, budget, runs=runs, data=data)
    _check_replaceable(path, target, budget, trainings.values())
    done = {key: finished(training) for key, training in trainings.items()}
    done_already = {trainings[key].workdir: r for key, r in done.items() if r is not None}
    check_alike(done_already, more_to_come=len(done_already) < len(trainings))
    measured = {key: result or _train(trainings[key]) for key, result in done.items()}
    check_alike({trainings[key].workdir: r for key, r in measured.items()}, more_to_come=False)
    lines = {key: read_lines(t.workdir, t.config, measured[key]) for key, t in trainings.items()}
    drawing = None
    if target.is_drawn:
        drawing = drawing_of(target.name, [str(t.workdir) for t in trainings.values()])
    by_seed = drawing.document["by_seed"] if drawing else {}
    found = document(target, budget, trainings, measured, lines, by_seed)
    print_table(heading(found), _COLUMNS, [_cells(row) for row in found["rows"]])
    for claim in found["claims"]:
        print(f"{claim['verdict']}: {claim['text']} ({claim['why']})")
    if drawing:
        write(target.name, drawing, results)
    png = io.BytesIO()
    charts.comparison(found, title=heading(found).replace("; budget", "\nbudget")).savefig(png)
    replace(path.with_name(f"{target.name}.png"), png.getvalue())
    _write(path, found)
    return found


def judge(wanted: Sequence[Target], *, results: str | Path) -> None:
    """Writes the verdicts of the results that are there anew.

    Raises:
      UserError: a file is not a result of its target, or is damaged or of other trainings.
    """
    for target in wanted:
        path = Path(results) / f"{target.name}.json"
        if path.exists():
            found = read_json(path)
            documents.check(path, found, documents.Stored)
            if found["target"] != target.name:
                raise UserError(f"{path} is not a result of {target.name}; move it away")
            _write(path, judged_again(target, found))


def print_list(
    wanted: Sequence[Target], budget: Budget, *, results: str | Path, **settings: Any
) -> None:
    """A line for each target: what training it costs, and how far that is."""
    rows = []
    for target in wanted:
        trainings = list(plan(target, budget, **settings).values())
        epochs = [cost(training) for training in trainings]
        share = sum(state(t) * e for t, e in zip(trainings, epochs, strict=True)) / sum(epochs)
        count = sum(len(replicas(training.config)) for training in trainings)
        path = Path(results) / f"{target.name}.json"
        written = (_written(path) or {"budget": "?"})["budget"] if path.exists() else "-"
        rows.append([target.name, count, sum(epochs), f"{share:.0%}", written, target.title])
    columns = ["target", "trainings", "epochs in all", "trained", "result", "what it is"]
    print_table(f"budget {budget.name}, as --budget says", columns, rows)


def heading(found: Mapping[str, Any]) -> str:
    """The line above a table: what it is, on which data, how many seeds and epochs."""
    parts = [f"{found['target']}: {found['title']}", f"budget {found['budget']}"]
    trainings = found["trainings"].values()
    parts += dict.fromkeys(_data(training["data"]) for training in trainings)
    seeds = sorted({len(training["seeds"]) for training in trainings})
    epochs = sorted({epochs for training in trainings for epochs in training["epochs"]})
    parts.append(f"{span(seeds)} seed{'s' if seeds != [1] else ''}")
    parts.append(f"{span(epochs)} epoch{'s' if epochs != [1] else ''}")
    return "; ".join(parts)


def _train(training: Training) -> dict[str, Any]:
    print(f"training {training.command}", flush=True)
    return train.run(training.config, training.workdir)


def _check_replaceable(
    path: Path, target: Target, budget: Budget, trainings: Collection[Training]
) -> None:
    """Makes the folder too: what cannot be written is told before hours of training.

    Raises:
      UserError: the file is of another target, of a larger budget, or of the same with more epochs
        or seeds, or the folder cannot be made.
    """
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        return
    there, order = _written(path), list(BUDGETS)
    if there is None or there["budget"] not in order or there["target"] != target.name:
        raise UserError(f"{path} is not a result of {target.name}; move it away")
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
            f"{path} is of {old}, which {new} must not replace; allowed is another folder, "
            "--results"
        )


class _Size(NamedTuple):
    """How much was trained; of two the larger has the larger budget, else more epochs or seeds."""

    budget: int
    epochs: int
    seeds: int

    def __str__(self) -> str:
        name = list(BUDGETS)[self.budget]
        return f"budget {name} with {self.epochs} epochs and {self.seeds} seeds"


def _num_seeds(training: Training) -> int:
    return len({replica.seed for replica in replicas(training.config)})


def _written(path: Path) -> dict[str, Any] | None:
    """The result in a file; None: it holds something else.

    Raises:
      UserError: the result is damaged.
    """
    found = read_json(path)
    if not documents.is_meant(found, documents.Target):
        return None
    documents.check(path, found, documents.Target)
    return found


def _cells(row: Mapping[str, Any]) -> list[str]:
    paper = _number(row["paper"], row["paper_sd"], row["paper_n"])
    tolerance = "-" if row["tolerance"] is None else f"{row['tolerance']:g}"
    off = "-" if row["difference"] is None else f"{row['difference']:+.3f}"
    mean = _number(row["mean"], row["sd"], row["n"])
    seeds = str(row["n"] or "not run")
    interval = " to ".join(f"{end:+.3g}" for end in row["interval"] or ()) or "-"
    label, verdict = f"{row['label']} [{row['metric']}]", row["verdict"] or "-"
    return [label, paper, mean, seeds, off, interval, tolerance, verdict]


def _number(value: float | None, sd: float | None, n: int | None) -> str:
    """Mean (sd, n)."""
    if value is None:
        return "-"
    spread = [f"sd {sd:.3f}"] if sd is not None else []
    spread += [f"n = {n}"] if n else []
    return f"{value:.4g}" + (f" ({', '.join(spread)})" if spread else "")


def _write(path: Path, found: Mapping[str, Any]) -> None:
    """The JSON last: beside it, the others are whole."""
    replace(path.with_suffix(".csv"), _csv(found).encode())
    replace(path.with_suffix(".md"), _markdown(found).encode())
    replace(path, json_bytes(found))
    print(f"  {path.with_suffix('')}.json, .csv, .md")


def _csv(found: Mapping[str, Any]) -> str:
    """A line for each row; the values of the seeds stand in the last cell, as seed:value."""
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


if __name__ == "__main__":
    with standard_output():
        app.run(main, flags_parser=read_flags)
