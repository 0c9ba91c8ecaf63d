"""Reads command lines and explains invalid ones in one line."""

import itertools
import re
import runpy
import sys
from collections.abc import Iterable
from pathlib import Path

from absl import flags

from adv_jax.runner import catalogue
from adv_jax.runner.config import TYPE_NAMES, leaves, unknown
from adv_jax.types import UserError


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
    if "Traceback (most recent call last):" in lines:
        return lines[-1].partition(": ")[2]
    unread = re.match(r"flag --config\.([\w.]+)=(.*?): ", lines[0])
    if unread or isinstance(error, AttributeError | KeyError | TypeError):
        make = runpy.run_path(path)["get_config"]
        legal = dict(leaves((make(mode) if mode else make()).to_dict()))
        if unread:
            field, value = unread.groups()
            kind = TYPE_NAMES.get(type(legal.get(field)), "a dict")
            return f"--config.{field} must be {kind}, got {value!r}"
        for flag in given:
            field = flag.removeprefix("config.")
            if field != flag and field not in [*legal, "replicas.grid"]:
                return unknown("a field of --config", field, legal)
    return lines[0]


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
