"""A table of a paper, end to end: `python -m launch.reproduce TARGET ... [--budget=short]`.

A TARGET is a table or figure such as maronas2016.table20, a paper (maronas2016, or the beginning of
its name), or all. What is missing is trained, in ordinary workdirs under --runs that the same
command resumes; paper and ours are printed side by side and written to
RESULTS/PAPER/results/TARGET.json, .csv, .md and .png. Where several runs make a number, as examples
that were crafted on another net, the figure is drawn too.

    python -m launch.reproduce --list
    python -m launch.reproduce maronas2016.table22 --data_source=files --data_dir=DIR
    python -m launch.reproduce maronas2016.table22 --budget=quick --results=/tmp/results
    python -m launch.reproduce maronas2016.table24 --seeds=2
    python -m launch.reproduce maronas2016.table6 --budget=short --epochs=10
    python -m launch.reproduce maronas --check
    python -m launch.reproduce all --judge

Budgets: paper, the default, is what the paper trained; short is a fifth of the epochs and three
seeds; quick is the configs' quick mode, on embedded digits where there are such, two seeds and two
points of each axis of a grid. --seeds takes fewer seeds of any, --epochs fewer epochs of short and
quick. A result says which it is and how many seeds and epochs it has, and a smaller one never
replaces a larger one. What each can decide: `papers.verdicts`. --judge trains nothing: it
writes the verdicts of the results that are there anew, from their values.
"""

import sys
from typing import Any

from absl import app, flags, logging

from adv_jax.runner.command_line import read_flags
from adv_jax.runner.devices import check_devices, use_cores
from adv_jax.runner.output import standard_output
from adv_jax.runner.signals import Interrupted
from adv_jax.types import UserError
from papers.budget import BUDGETS, PAPER
from papers.comparison import misses
from papers.reproduction import chosen, judge, print_list, programs, reproduce_all

_BUDGET = flags.DEFINE_enum("budget", PAPER, list(BUDGETS), "how much is trained")
_SEEDS = flags.DEFINE_integer("seeds", None, "of each training, at most", lower_bound=1)
_EPOCHS = flags.DEFINE_integer("epochs", None, "of each training, at most", lower_bound=1)
_CHECK = flags.DEFINE_bool("check", False, "exit with 1 where something is not reproduced")
_JUDGE = flags.DEFINE_bool("judge", False, "train nothing; write the verdicts in RESULTS anew")
_LIST = flags.DEFINE_bool("list", False, "say what there is, its cost and its state")
_RUNS = flags.DEFINE_string("runs", "runs/reproduce", "folder of the workdirs")
_RESULTS = flags.DEFINE_string("results", "papers", "folder of the results")
_SOURCE = flags.DEFINE_string("data_source", None, "tfds, files or embedded, for all trainings")
_DIR = flags.DEFINE_string("data_dir", None, "folder of the files, for all trainings")


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


if __name__ == "__main__":
    with standard_output():
        app.run(main, flags_parser=read_flags)
