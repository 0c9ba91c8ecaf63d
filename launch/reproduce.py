"""Reproduces tables of papers: `python -m launch.reproduce TARGET ... [--budget=short]`.

A TARGET is a table or figure such as maronas2016.table20, a paper (maronas2016, or the beginning of
its name), or all. The command trains the missing runs in workdirs under --runs, prints the paper's
numbers beside ours, and writes RESULTS/PAPER/results/TARGET.json, .csv and .png. The same
command resumes. If a number takes several runs, the command also draws the target's figure.

    python -m launch.reproduce --list
    python -m launch.reproduce maronas2016.table22 --data_source=files --data_dir=DIR
    python -m launch.reproduce maronas2016.table22 --budget=quick --results=/tmp/results
    python -m launch.reproduce maronas2016.table24 --seeds=2
    python -m launch.reproduce maronas2016.table6 --budget=short --epochs=10
    python -m launch.reproduce maronas --check
    python -m launch.reproduce all --judge
    python -m launch.reproduce all --power

Budgets: paper, the default, trains as the paper does. short trains a fifth of the epochs and three
seeds. quick uses the configs' quick mode (embedded digits if possible), two seeds and two points
per axis of a grid; nothing of it is judged. --seeds limits the seeds, --epochs the epochs of short
and quick. A result records its budget, seeds and epochs, and never replaces a larger one.
papers/README.md has the rules of the verdicts. --judge trains nothing and recomputes the
verdicts of stored results. --power trains nothing and prints how many seeds would settle each
unclear number and claim, and the time of the missing runs: hours of a CPU, and minutes of
each accelerator of stored runs, where a ~ marks a guess from the times of another device.

    python -m launch.reproduce missing --minutes=12 [--works=huang2015,maronas2016.table20]
    python -m launch.reproduce missing --dry-run

trains what no stored result has in full, in the time at hand; launch/README.md has the details.
"""

import math
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags

from adv_jax.data.files import folder_of
from adv_jax.runner.config.command_line import define_path, read_flags, refuse_flags
from adv_jax.runner.host.compilation import keep_programs
from adv_jax.runner.host.devices import check_devices, use_cores
from adv_jax.runner.host.ending import without_traceback
from adv_jax.types import UserError
from launch._campaign import Campaign, Folders
from launch._carry import further
from papers.pages.report import rejudge, reproduce_all
from papers.running.budget import BUDGETS, PAPER
from papers.running.comparison import misses
from papers.running.power import print_seeds_needed, rates_of
from papers.running.reproduction import chosen, judged_again, print_list, replicas_and_shards
from papers.running.stored import read
from papers.running.target import Target

_BUDGET = flags.DEFINE_enum("budget", PAPER, list(BUDGETS), "how much to train")
_SEEDS = flags.DEFINE_integer("seeds", None, "most seeds per training", lower_bound=1)
_EPOCHS = flags.DEFINE_integer("epochs", None, "most epochs per training", lower_bound=1)
_CHECK = flags.DEFINE_bool("check", False, "exit with 1 if something is not reproduced")
_JUDGE = flags.DEFINE_bool("judge", False, "only recompute the verdicts in RESULTS")
_POWER = flags.DEFINE_bool("power", False, "only print what would settle the unclear")
_LIST = flags.DEFINE_bool("list", False, "list the targets with their cost and state")
_RUNS = define_path("runs", "runs/reproduce", "folder of the workdirs")
_RESULTS = define_path("results", "papers", "folder of the results")
_SOURCE = flags.DEFINE_enum("data_source", None, ["tfds", "files", "embedded"], "for all trainings")
_DIR = define_path("data_dir", None, "folder of the files, for all trainings")

_MISSING = "missing"
_MINUTES = flags.DEFINE_float("minutes", None, "missing: time to spend; all by default")
_WORKS = flags.DEFINE_list("works", ["all"], "missing: targets or papers to look at")
_DRY_RUN = flags.DEFINE_bool("dry-run", False, "missing: only print the plan")
_CARRY = define_path("carry", None, "missing: folder or archive to go on from elsewhere")
_NICE = flags.DEFINE_bool("nice", False, "missing: take one core, and only while it idles")

_OF_MISSING = (_MINUTES, _WORKS, _DRY_RUN, _CARRY, _NICE)
_OF_TRAININGS = (_BUDGET, _SEEDS, _EPOCHS, _RUNS, _SOURCE, _DIR)
# The flag of a use, and the flags that it does not read, and so refuses.
_UNREAD = (
    (_LIST, (_CHECK, _JUDGE, _POWER, *_OF_MISSING)),
    (_JUDGE, (_POWER, *_OF_TRAININGS, *_OF_MISSING)),
    (_POWER, (_CHECK, *_OF_TRAININGS, *_OF_MISSING)),
)


def main(argv: list[str]) -> None:
    """Reproduces the targets that the arguments name, or trains what is missing.

    Continues after a target that fails, and then exits with 1; with --check also if something is
    not reproduced.
    """
    given = {"data.source": _SOURCE.value, "data.dir": _DIR.value}
    data = {path: value for path, value in given.items() if value is not None}
    names = argv[1:]
    if _MISSING in names and len(names) > 1:
        raise UserError(f"{_MISSING} must stand alone, with targets in --works, got {names}")
    _refuse_unread(names)
    if _SOURCE.value == "files" and _DIR.value and not folder_of(_DIR.value).is_dir():
        raise UserError(f"--data_dir must be a folder, got {_DIR.value}")
    if messages := _spend(data) if names == [_MISSING] else _reproduce(names, data):
        sys.exit("\n".join(messages))


def _reproduce(names: list[str], data: dict[str, str]) -> list[str]:
    """Reproduces, judges or lists targets -> what failed; with --check also what was missed."""
    settings: dict[str, Any] = {"runs": _RUNS.value, "data": data}
    budget = BUDGETS[_BUDGET.value].limited(seeds=_SEEDS.value, epochs=_EPOCHS.value)
    wanted = chosen(names or (["all"] if _LIST.value else []))
    if _LIST.value:
        print_list(wanted, budget, results=_RESULTS.value, **settings)
        return []
    if _JUDGE.value:
        rejudge(wanted, results=_RESULTS.value)
        return _missed(judged_again(wanted, results=_RESULTS.value)) if _CHECK.value else []
    if _POWER.value:
        _print_power(wanted)
        return []
    use_cores(*replicas_and_shards(wanted, budget, **settings))
    keep_programs()
    check_devices()
    found, failures = reproduce_all(wanted, budget, results=_RESULTS.value, **settings)
    messages = [f"error: {line}" for line in failures]
    return [*messages, *_missed(found)] if _CHECK.value else messages


def _missed(documents: Iterable[Mapping[str, Any]]) -> list[str]:
    """Returns a line for each number and claim that is not reproduced, after a heading."""
    lines = [line for document in documents for line in misses(document)]
    return ["missed:", *lines] if lines else []


def _print_power(wanted: Sequence[Target]) -> None:
    """Prints what would settle what stored results leave unclear."""
    documents = list(judged_again(wanted, results=_RESULTS.value))
    if not documents:
        legal = "a folder with results of the targets"
        raise UserError(f"--results must be {legal}, got {_RESULTS.value}")
    print_seeds_needed(documents, rates_of(read(_RESULTS.value)))


def _spend(data: dict[str, str]) -> list[str]:
    """Trains what is missing -> what failed."""
    began = time.monotonic()
    minutes = math.inf if _MINUTES.value is None else _MINUTES.value
    if not minutes >= 0:  # Also false for NaN.
        raise UserError(f"--minutes must be 0 or more, got {minutes}")
    if _NICE.value:
        _take_one_core()
    targets = chosen(_WORKS.value, field="--works")
    use_cores()
    check_devices()
    folders = Folders(Path(_RUNS.value), Path(_RESULTS.value), data)
    carry = None if _CARRY.value is None else Path(_CARRY.value)
    if _DRY_RUN.value:
        carried = further(carry, folders.runs, folders.results) if carry else []
        Campaign(targets, folders).print_plan()
        for workdir in carried:
            print(f"--carry has more epochs of {workdir}")
        return []
    keep_programs()
    campaign = Campaign(targets, folders._replace(carry=carry))
    campaign.print_plan()
    return [f"error: {line}" for line in campaign.run(began + 60 * minutes)]


def _refuse_unread(names: Sequence[str]) -> None:
    """Raises UserError if the command line sets a flag that its use does not read."""
    if _MISSING in names:
        unread = (_BUDGET, _SEEDS, _EPOCHS, _CHECK, _LIST, _JUDGE, _POWER)
        refuse_flags(unread, f"with {_MISSING}")
        return
    for use, unread in _UNREAD:
        if use.value:
            refuse_flags(unread, f"with --{use.name}")
    refuse_flags(_OF_MISSING, f"without {_MISSING}")


def _take_one_core() -> None:
    """Takes one core at the lowest priority; call it before JAX starts its threads."""
    os.nice(19)
    if hasattr(os, "sched_setaffinity"):  # Linux only.
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


if __name__ == "__main__":
    with without_traceback():
        app.run(main, flags_parser=read_flags)
