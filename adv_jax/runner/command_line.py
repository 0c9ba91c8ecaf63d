"""Reads command lines and explains invalid ones in one line."""

import itertools
import re
import runpy
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from inspect import Parameter
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from adv_jax.runner import catalogue
from adv_jax.runner.config import (
    FIELDS,
    TYPE_NAMES,
    ConfigError,
    leaves,
    unknown,
    with_values,
)
from adv_jax.runner.parts import parts
from adv_jax.runner.schema import typed
from adv_jax.types import UserError

flags.disclaim_key_flags()  # The flags belong to the commands: --help lists them there.


def define_process_flags() -> list[flags.FlagHolder]:
    """Defines the flags of the arguments of `processes.connect`."""
    coordinator = "HOST:PORT of the first of several processes; auto: from Slurm"
    count, index = "number of processes that share the run", "index of this process, from 0"
    return [
        flags.DEFINE_string("coordinator", None, coordinator),
        flags.DEFINE_integer("num_processes", None, count, lower_bound=1),
        flags.DEFINE_integer("process_id", None, index, lower_bound=0),
    ]


def read_flags(argv: list[str]) -> list[str]:
    """Parses the flags -> the other arguments; exits with 1 and one line if they are invalid."""
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        sys.exit(f"error: {error}")


def read_flags_alone(argv: list[str]) -> list[str]:
    """Parses the flags of a command that takes no other arguments."""
    rest = read_flags(argv)
    try:
        refuse_words(rest[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
    return rest


def refuse_words(words: Iterable[str]) -> None:
    """Raises UserError if there are arguments that are not flags."""
    if found := ", ".join(map(repr, words)):
        raise UserError(f"the arguments must be flags, --..., got {found}")


def check_overrides(argv: list[str], config: ConfigDict) -> None:
    """Checks the fields that a command line has set in a config, and converts their values.

    A field may be one that every run reads, or any setting of the function that its part of the
    config names. A whole number becomes a float where the function takes floats only.

    Raises:
      UserError: a field is unknown; the message suggests the nearest legal one.
    """
    document = config.to_dict()
    overridden, values = _overridden(argv), dict(leaves(document))
    legal = _legal(document, strict=bool(overridden))
    for field in overridden:
        if not _is_legal(field, legal):
            group = field.rpartition(".")[0]
            beside = [name for name in {*legal, *FIELDS} if name.rpartition(".")[0] == group]
            raise UserError(unknown("a field of --config", field, beside))
        if field in values and (parameter := legal.get(field)):
            with config.ignore_type():
                config.update_from_flattened_dict({field: typed(values[field], parameter)})


def explain_flags(argv: list[str], error: Exception) -> str:
    """Explains in one line why a command line with --config=FILE[:mode] is invalid.

    Args:
      argv: the output of `catalogue.located`.
      error: the error that parsing raised.
    """
    given = _given(argv)
    if "config" not in given:
        return str(error)
    path, _, mode = given["config"].partition(":")
    if not Path(path).is_file():
        beside = _configs(Path(path).parent) if "/" in path else []
        return unknown("--config", path, beside or catalogue.names())
    lines = str(error).strip().splitlines()
    if isinstance(error, ModuleNotFoundError) and error.name in ("configs", "configs.common"):
        return f"{path} must import adv_jax.configs.common, got configs.common, its name in a clone"
    if "Traceback (most recent call last):" in lines:
        return lines[-1].partition(": ")[2]
    unread = re.match(r"flag --config\.([\w.]+)=(.*?): ", lines[0])
    if unread or isinstance(error, AttributeError | KeyError | TypeError):
        make = runpy.run_path(path)["get_config"]
        document = (make(mode) if mode else make()).to_dict()
        values = dict(leaves(document))
        if unread:
            field, value = unread.groups()
            kind = TYPE_NAMES.get(type(values.get(field)), "a dict")
            return f"--config.{field} must be {kind}, got {value!r}"
        overridden = _overridden(argv)
        with suppress(KeyError, TypeError):  # A part may not exist.
            names = {field: name for field, name in overridden.items() if field.endswith(".name")}
            document = with_values(document, names)
        legal = {**_legal(document, strict=False), **values}
        for field in overridden:
            if not _is_legal(field, legal):
                return unknown("a field of --config", field, values)
    return lines[0]


def _legal(config: Mapping[str, Any], *, strict: bool) -> dict[str, Parameter | None]:
    """Returns {path: parameter} of the settings of all parts; "PART.*" if it takes any other.

    strict: whether to raise ConfigError for an unknown name of a part, or to skip the part.
    """
    legal: dict[str, Parameter | None] = {}
    for part in parts(config):
        try:
            settings, takes_any = part.settings()
        except ConfigError:
            if strict:
                raise
            continue
        others = ["name", *(["*"] if takes_any else [])]
        legal |= {f"{part.field}.{key}": value for key, value in settings.items()}
        legal |= dict.fromkeys([part.field, *(f"{part.field}.{key}" for key in others)])
    return legal


def _is_legal(field: str, legal: Iterable[str]) -> bool:
    field = field.partition("[")[0]  # An entry of a tuple.
    return field in FIELDS or field in legal or f"{field.rpartition('.')[0]}.*" in legal


def _overridden(argv: list[str]) -> dict[str, str]:
    """Returns {field: text} of the overrides --config.FIELD=VALUE."""
    prefix = "config."
    given = {k.removeprefix("no") if f"no{prefix}" in k else k: v for k, v in _given(argv).items()}
    return {k.removeprefix(prefix): v for k, v in given.items() if k.startswith(prefix)}


def _configs(folder: Path) -> list[str]:
    """Returns the Python files of a folder that make a config."""
    files = sorted(folder.glob("*.py"))
    return [str(file) for file in files if "def get_config(" in file.read_text(errors="replace")]


def _given(argv: list[str]) -> dict[str, str]:
    """Returns {flag: value} for `--flag=value` and `--flag value`."""
    given = {}
    for arg, following in itertools.pairwise([*argv, ""]):
        if arg.startswith("--"):
            flag, equals, value = arg.removeprefix("--").partition("=")
            given[flag] = value if equals else following
    return given
