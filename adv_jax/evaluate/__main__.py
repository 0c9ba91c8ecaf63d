"""Attacks trained models: `python -m adv_jax.evaluate --workdir=RUN --attacks=fgsm --eps=0,.1`.

With several runs it also measures how attacks transfer between their models. Several processes
share the test examples if each is started with --coordinator, --num_processes and --process_id; see
launch/.
"""

import itertools
import math
import shlex
import sys

from absl import app, flags

from adv_jax.evaluate.checks import check_different
from adv_jax.runner.config.command_line import (
    define_path,
    define_process_flags,
    read_flags_alone,
    workdirs,
)
from adv_jax.runner.config.literals import number
from adv_jax.runner.host import processes
from adv_jax.runner.host.compilation import keep_programs
from adv_jax.runner.host.devices import check_devices, use_cores
from adv_jax.runner.host.ending import first_line_of_errors, without_traceback
from adv_jax.runner.run import evaluation
from adv_jax.types import Bounds, UserError

_WORKDIR = flags.DEFINE_multi_string("workdir", [], "directory of a run; repeated or with commas")
_ATTACKS = flags.DEFINE_string(
    "attacks",
    "fgsm",
    "names of adv_jax.attacks, or module:name, with settings as pgd(num_steps=40)",
)
_EPS = flags.DEFINE_list("eps", ["0", ".1", ".2", ".3"], "sizes of the attacks, in input units")
_NORM = flags.DEFINE_string("norm", None, "linf, l2, l1, rms or l0; default: each attack's default")
_BOUNDS = flags.DEFINE_string("bounds", "data", "lo,hi to clip to; none; data: the data set's")
_NUM_EXAMPLES = flags.DEFINE_integer("num_examples", None, "number of test images; default: all")
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", 500, "rows at a time on a device; about 50 for conv nets"
)
_REPLICA = flags.DEFINE_integer("replica", 0, "index of the replica of each run")
_MINIMAL_EPS = flags.DEFINE_bool("minimal_eps", False, "also search each example's smallest eps")
_SEED = flags.DEFINE_integer("seed", 0, "seed of the attacks", lower_bound=0, upper_bound=2**30)
_OUT = define_path(
    "out", None, "output folder, whose evaluation is replaced; default: WORKDIR/evaluation"
)
_REPORT = define_path("report", None, "file of a page about one run, such as report.html")
_PROCESS = define_process_flags()


def main(_: list[str]) -> None:
    """Evaluates the runs that the flags name."""
    use_cores()
    keep_programs()
    try:
        processes.connect(*(flag.value for flag in _PROCESS))
        check_devices()
        processes.silence_others()
        with processes.fail_together():
            evaluation.run(
                workdirs(_WORKDIR.value),
                attack_names=_listed(_ATTACKS.value),
                eps=_numbers("eps", _EPS.value),
                norm=_NORM.value,
                bounds=_bounds(_BOUNDS.value),
                num_examples=_NUM_EXAMPLES.value,
                batch_size=_BATCH_SIZE.value,
                replica=_REPLICA.value,
                minimal_eps=_MINIMAL_EPS.value,
                seed=_SEED.value,
                out=_OUT.value,
                report=_REPORT.value,
                command=shlex.join(["python", "-m", "adv_jax.evaluate", *sys.argv[1:]]),
            )
    except processes.Lost as error:
        processes.end(error)


def _listed(attacks: str) -> list[str]:
    """Splits a text at the commas that are not between parentheses; refuses a repeated name."""
    depth = itertools.accumulate((c == "(") - (c == ")") for c in attacks)
    apart = ("\0" if c == "," and not d else c for c, d in zip(attacks, depth, strict=True))
    names = [name.strip() for name in "".join(apart).split("\0") if name.strip()]
    check_different("attacks", names)
    return names


def _numbers(flag: str, values: list[str]) -> list[float]:
    try:
        return [number(value) for value in values]
    except ValueError as error:
        raise UserError(f"{flag} must be numbers, got {','.join(values)}") from error


def _bounds(value: str) -> Bounds | str | None:
    if value in ("data", "none"):
        return value if value == "data" else None
    numbers = _numbers("bounds", value.split(","))
    if len(numbers) != 2 or not all(map(math.isfinite, numbers)):  # JSON has no infinity.
        raise UserError(f"bounds must be two finite numbers lo,hi, or data, or none, got {value}")
    return numbers[0], numbers[1]


if __name__ == "__main__":
    with without_traceback(), first_line_of_errors():
        app.run(main, flags_parser=read_flags_alone)
