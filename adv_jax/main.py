"""Trains a config: `python -m adv_jax.main --config=NAME[:mode] [--workdir=DIR]`.

NAME is a config that `python -m adv_jax` lists, or the path of a file: configs/X.py. Override
fields with --config.a.b=value. The default workdir is runs/<experiment>-<hash of the config>. The
same command resumes a run. Several processes share a run if each is started with --coordinator,
--num_processes and --process_id; see launch/.
"""

import gc
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import app, flags
from ml_collections import config_flags

from adv_jax import __version__
from adv_jax.data import MissingData
from adv_jax.runner.config import catalog
from adv_jax.runner.config.command_line import (
    check_flagfiles,
    check_overrides,
    define_path,
    define_process_flags,
    expanded,
    explain_flags,
    refuse_words,
)
from adv_jax.runner.config.fields import check
from adv_jax.runner.config.replicas import replicas
from adv_jax.runner.host import processes
from adv_jax.runner.host.compilation import keep_programs
from adv_jax.runner.host.devices import check_devices, use_cores
from adv_jax.runner.host.ending import without_traceback
from adv_jax.runner.run.training import run
from adv_jax.runner.store.workdir import default_path
from adv_jax.types import UserError

check_flagfiles(sys.argv)  # The next line reads them.
CONFIG = config_flags.DEFINE_config_file(
    "config",
    help_string="a name or a file, and its mode",
    lock_config=False,  # `check_overrides` finds unknown fields, and knows the optional ones.
    accept_new_attributes=True,
)
WORKDIR = define_path("workdir", None, "directory of the run")
_VERSION = flags.DEFINE_bool("version", False, "print the version, do nothing else")
_PROCESS = define_process_flags()


def main(_: list[str]) -> None:
    """Runs the config that the flags name."""
    config = CONFIG.value.to_dict()
    try:
        execute(config, WORKDIR.value, *(flag.value for flag in _PROCESS))
    except MissingData as error:
        line = on_other_data(config)
        instead = f"; to run on other data: {line}" if line else ""
        raise UserError(f"{error}{instead}") from error


def on_other_data(config: Mapping[str, Any]) -> str | None:
    """Returns the flags that run a config whose data are missing on other data, if any do.

    The embedded digits are 4,000 for training, so that a larger validation set shrinks.
    """
    spec, name = config["data"], config["experiment"]
    if spec["name"] != "mnist":
        files = "--config.data.source=files --config.data.dir=FOLDER"
        return files if spec["source"] in ("tfds", "sklearn") else None
    line = "--config.data.source=embedded"
    if spec["num_valid"] + max(spec["num_labels"], 1) > 4000:
        line += " --config.data.num_valid=500"
    return f"{line}, or --config={name}:quick" if name in catalog.names() else line


def execute(config: Mapping[str, Any], workdir: str | Path | None, *process: Any) -> None:
    """Runs a config; `process` are the arguments of `processes.connect`.

    Raises:
      UserError: the config, a flag or a file is invalid, or the run cannot go on.
      Interrupted: a signal stopped the run.
    """
    gc.freeze()  # Garbage collection need not visit what was imported.
    try:
        check(config)
        use_cores((len(replicas(config)), config["replicas"]["shards"]))
        keep_programs()
        processes.connect(*process)
        check_devices()
        processes.silence_others()
        workdir = Path(workdir or default_path(config))
        print(f"workdir {workdir}", flush=True)
        run(config, workdir)
    except processes.Lost as error:
        processes.end(error)


def parse_flags(argv: list[str]) -> list[str]:
    """Parses the command line; raises UserError if it is invalid."""
    try:
        argv = expanded(argv)
        rest = flags.FLAGS(argv)
        if _VERSION.value:
            print(f"adv_jax {__version__}")
            sys.exit()
        refuse_words(rest[1:])
        if CONFIG.value is None:
            raise UserError("--config must be a name (see python -m adv_jax) or a file, got none")
        check_overrides(argv, CONFIG.value)
        return rest
    # A config is a program, which may raise anything.
    except Exception as error:
        raise UserError(explain_flags(argv, error)) from error


if __name__ == "__main__":
    with without_traceback():
        app.run(main, flags_parser=parse_flags)
