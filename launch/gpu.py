"""Compiles what a user starts with for GPUs, without one: `python -m launch.gpu`.

Needs `pip install -e '.[cuda]'`, no data, no driver and half an hour of two cores. It compiles the
cases that launch/compiling/gpu.json lacks, and stores each at once; `python -m docs.pages` writes
launch/GPU.md from that file. After a change of programs, delete the file, or its cases. Names as
arguments, such as `dcgan_mnist`, select configs.
"""

import os
from collections.abc import Sequence
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"  # Else JAX looks for a GPU.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # XLA logs that there is no driver.

from absl import app

from adv_jax.runner.config.command_line import read_flags
from adv_jax.runner.host.ending import without_traceback
from adv_jax.types import UserError
from launch.compiling.cases import cases_of, document_of
from launch.compiling.gpu_cases import Case, cases, config_of
from launch.compiling.gpu_page import RESULT
from launch.compiling.programs import compile_config
from launch.compiling.target import TooLarge
from launch.compiling.topologies import target


def compile_case(case: Case) -> dict[str, Any]:
    """Compiles a case -> its document; `refused`, a message, if a function does not fit."""
    about = {"fields": dict(case.fields), "attacks": case.attacks}
    config, where = config_of(case), target(case.topology)
    try:
        found = compile_config(config, where, names=case.functions, attacks=case.attacks)
    except UserError as error:
        if not isinstance(error.__cause__, TooLarge):
            raise
        found = {"topology": case.topology, "refused": str(error)}
    return {**found, **about, "config": case.config}


def main(argv: Sequence[str]) -> None:
    """Compiles the cases of the configs named, or of all."""
    for case in cases_of(cases(), argv[1:]):
        document_of(case, compile_case, RESULT)


if __name__ == "__main__":
    with without_traceback():
        app.run(main, flags_parser=read_flags)
