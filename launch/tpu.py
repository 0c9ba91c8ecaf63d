"""Compiles an epoch of every config for 4 to 256 TPU chips: `python -m launch.tpu`.

Needs `pip install -e '.[tpu]'`, no data, and hours of a core. Names as arguments, such as
`resnet_cifar10:depth=110`, select configs. Each case is compiled once: what compiling/tpu.json
holds is skipped, so the command continues where it was stopped. `python -m docs.pages` writes
TPU.md from that file. After a change, delete the file, or its cases.

With one replica a chip there is no communication, and every chip runs one program. So that of 4
chips is compiled. For 16, 64 and 256 chips it is lowered, to compare the modules (`of_one_chip`).
XLA compiles with its least effort for speed, as it takes minutes for convolutions with the default;
one case is also compiled with the default.
"""

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"  # Else JAX looks for a TPU when libtpu is installed.

import jax
from absl import app

from adv_jax.runner.config.command_line import read_flags
from adv_jax.runner.host.ending import without_traceback
from adv_jax.runner.host.numerics import same_numerics
from adv_jax.runner.run.inputs import Inputs
from adv_jax.runner.store.writing import WorkdirError
from adv_jax.types import UserError
from launch.compiling import tpus
from launch.compiling.cases import cases_of, document_of
from launch.compiling.programs import Prepared, compiled, load, prepared, step_of, versions
from launch.compiling.target import Target, TooLarge
from launch.compiling.tpu_cases import TOPOLOGIES, Case, cases, config_of
from launch.compiling.tpu_page import RESULT


def compile_case(case: Case) -> dict[str, Any]:
    """Compiles an epoch -> its document; `needs` in bytes instead of `epoch` if it does not fit."""
    jax.config.update("jax_exec_time_optimization_effort", case.effort)
    config, target = config_of(case), tpus.target(TOPOLOGIES[case.chips])
    loaded = load(config)
    run, lowered = _lowered(config, target, loaded)
    found = {
        "config": case.config,
        "chips": case.chips,
        "replicas": case.replicas,
        "shards": case.shards,
        "fields": dict(case.fields),
        "effort": case.effort,
        "batch_size": config["batch_size"],
        "epochs": config["epochs"],
        "steps_per_epoch": run.experiment.steps_per_epoch,
        "versions": versions(target),
    }
    if case == Case(case.config, fields=case.fields):
        own, others = of_one_chip(lowered.as_text(), case.chips), {}
        for chips in (n for n in TOPOLOGIES if n > case.chips):
            larger = config_of(case._replace(chips=chips, replicas=chips))
            text = _lowered(larger, tpus.target(TOPOLOGIES[chips]), loaded)[1].as_text()
            others[chips] = of_one_chip(text, chips)
        found["same_program"] = [case.chips, *(n for n, text in others.items() if text == own)]
    try:
        epoch = compiled(lowered, target)
    except TooLarge as error:
        return found | {"needs": error.needed}
    step = step_of(run, epoch, target)
    return found | {"epoch": epoch._asdict(), "step": step}


def _lowered(config: Mapping[str, Any], target: Target, loaded: Inputs) -> tuple[Prepared, Any]:
    """Lowers the epoch of a config -> (run, lowered function)."""
    run = prepared(config, target, loaded)
    with same_numerics():
        return run, run.functions.epoch.lower(run.state, *run.data)


def of_one_chip(module: str, chips: int) -> str:
    """Returns a digest of a lowered module without the number of its chips.

    The number stands in the mesh and in the leading axis of the arguments and results of @main; the
    body of its `sdy.manual_computation` and all other functions are those of one chip.
    """
    main, *others = re.split(r"^(?=  func\.func private)", module, flags=re.MULTILINE)
    size = re.compile(rf'(num_partitions = |"devices"=|size = |tensor<){chips}(?!\d)')
    own = (
        line if line.startswith(" " * 6) else size.sub(r"\1CHIPS", line)
        for line in main.splitlines()
    )
    return hashlib.sha256("\n".join([*own, *others]).encode()).hexdigest()


def main(argv: Sequence[str]) -> None:
    """Compiles what is missing, of the configs named or of all."""
    wanted = cases_of(cases(), argv[1:])
    tpus.target(TOPOLOGIES[4])  # Without libtpu no case is compiled.
    for case in wanted:
        _compile_missing(case)


def _compile_missing(case: Case) -> None:
    """Compiles a case that is not in the file; if it does not fit, also its batch in parts."""
    try:
        found = document_of(case, compile_case, RESULT)
    except WorkdirError:  # The fault is the file's, not the case's.
        raise
    except UserError as error:
        print(f"  skipped: {error}", flush=True)
        return
    parts = 2 * case.fields.get("microbatches", 1)
    if "needs" in found and found["batch_size"] // case.shards % parts == 0:
        _compile_missing(case._replace(fields={**case.fields, "microbatches": parts}))


if __name__ == "__main__":
    with without_traceback():
        app.run(main, flags_parser=read_flags)
