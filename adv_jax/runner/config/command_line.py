"""Reads command lines and explains invalid ones in one line."""

import os
import re
import runpy
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from inspect import Parameter
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags
from ml_collections.config_flags.tuple_parser import TupleParser

from adv_jax.runner.config import catalog
from adv_jax.runner.config.document import ConfigError, leaves, with_values
from adv_jax.runner.config.fields import FIELDS, NEEDED, TEXTS, TYPE_NAMES
from adv_jax.runner.config.literals import evaluated, literal, number, read, typed
from adv_jax.runner.config.parts import parts
from adv_jax.suggestions import suggestion
from adv_jax.types import UserError, not_one_of

# The runner's own fields but those of texts, as parameters of any type.
_NO_TEXTS = dict.fromkeys(FIELDS - TEXTS, Parameter("value", Parameter.KEYWORD_ONLY))
_BRACKETS = ("()", "[]", "{}")
_FLAG = re.compile("--?[a-z]")  # Not -3, a value.
_UNREAD = re.compile(r"flag --config\.([\w.]+)=")  # The message of a value of another type.
flags.disclaim_key_flags()  # The flags belong to the commands: --help lists them there.


class Reals(flags.FloatParser):
    """Parses real numbers: decimals, and fractions as 8/255."""

    def convert(self, argument: Any) -> float:
        """Returns the number; raises ValueError for any other text."""
        return number(argument) if isinstance(argument, str) else super().convert(argument)


class _Tuples(TupleParser):
    """Parses tuples whose numbers may be fractions."""

    def parse(self, argument: Any) -> tuple:
        """Returns the tuple; see `TupleParser`."""
        return super().parse(evaluated(argument) if isinstance(argument, str) else argument)


class _Groups(flags.ArgumentParser):
    """Parses dicts whose numbers may be fractions."""

    def parse(self, argument: Any) -> ConfigDict:
        """Returns the dict as a group of fields; raises ValueError for any other text."""
        value = literal(argument) if isinstance(argument, str) else argument
        if isinstance(value, ConfigDict):
            return value
        if not isinstance(value, dict):
            raise ValueError(f"must be a dict, got {argument!r}")
        return ConfigDict(value)


for _kind, _parser in {float: Reals(), tuple: _Tuples(), ConfigDict: _Groups()}.items():
    config_flags.register_flag_parser_for_type(_kind, _parser)


def define_path(name: str, default: str | None, help: str) -> flags.FlagHolder:
    """Defines a flag of a path. It refuses "", which a shell makes of a variable that is unset."""
    holder = flags.DEFINE_string(name, default, help)
    flags.register_validator(holder, lambda path: path != "", "must be a path, got ''")
    return holder


def define_process_flags() -> list[flags.FlagHolder]:
    """Defines the flags of the arguments of `processes.connect`."""
    coordinator = "HOST:PORT of the first of several processes; auto: from Slurm"
    count, index = "number of processes that share the run", "index of this process, from 0"
    return [
        flags.DEFINE_string("coordinator", None, coordinator),
        flags.DEFINE_integer("num_processes", None, count, lower_bound=1),
        flags.DEFINE_integer("process_id", None, index, lower_bound=0),
    ]


# How absl says in the words of Python that a flag has no number.
_NO_NUMBER = re.compile(
    r"flag (?P<flag>--\w+)=(?P<value>.*): "
    r"(invalid literal for (?P<kind>int)\(\)|could not convert string to float).*"
)


def check_flagfiles(argv: list[str]) -> None:
    """Exits with 1 and one line if a --flagfile cannot be read."""
    try:
        _with_flagfiles(argv)
    except UserError as error:
        sys.exit(f"error: {error}")


def read_flags(argv: list[str]) -> list[str]:
    """Parses the flags -> the other arguments; raises UserError if they are invalid."""
    try:
        return flags.FLAGS(_with_flagfiles(argv))
    except flags.Error as error:
        wrong = _NO_NUMBER.fullmatch(str(error))
        if wrong is None:
            raise UserError(error) from error
        kind = "a whole number" if wrong["kind"] == "int" else "a number"
        raise UserError(f"{wrong['flag']} must be {kind}, got {wrong['value']!r}") from error


def read_flags_alone(argv: list[str]) -> list[str]:
    """Parses the flags of a command that takes no other arguments."""
    rest = read_flags(argv)
    refuse_words(rest[1:])
    return rest


def workdirs(values: Iterable[str]) -> list[str]:
    """Returns the runs of --workdir, repeated or with commas.

    A folder of that name comes first: a run may have commas in its name.

    Raises:
      UserError: a path is "", as of a comma too many.
    """
    found = []
    for value in values:
        parts = [value] if os.path.isdir(value) else value.split(",")
        if "" in parts:
            raise UserError(f"--workdir must be directories of runs, got {value!r}")
        found += parts
    return found


def refuse_words(words: Iterable[str]) -> None:
    """Raises UserError for arguments that are not flags, with the flag that NAME=VALUE lacks."""
    found = list(words)
    if not found:
        return
    name, sets, _ = found[0].partition("=")
    group = "" if name.partition(".")[0] in flags.FLAGS else "config."
    is_setting = sets and (not group or "config" in flags.FLAGS)
    near = f"; did you mean '--{group}{found[0]}'?" if is_setting else ""
    if not is_setting and _is_cut(found[0]):
        near = "; quote the flag before, as a shell splits at spaces"
    raise UserError(f"the arguments must be flags, --..., got {', '.join(map(repr, found))}{near}")


def _is_cut(text: str) -> bool:
    """Whether a text may be a part of a literal that a shell has split: it lacks a bracket."""
    lacks = any(text.count(opening) != text.count(closing) for opening, closing in _BRACKETS)
    return lacks and " " not in text


def refuse_flags(unread: Iterable[flags.FlagHolder], when: str) -> None:
    """Raises UserError if the command line sets a flag that a command does not read.

    when: why it does not read them, such as "with --list".
    """
    for flag in unread:
        if flag.present:
            raise UserError(f"--{flag.name} must be unset {when}, got {flag.value!r}")


def check_overrides(argv: list[str], config: ConfigDict) -> None:
    """Checks the fields that a command line has set in a config, and converts their values.

    A field may be one that every run reads, or any setting of the function that its part of the
    config names. A whole number becomes a float where the function takes floats only.

    Raises:
      UserError: a field is unknown; the message suggests the nearest legal one.
    """
    overridden = _overridden(argv)
    _read_literals(config, overridden)
    document = config.to_dict()
    values = dict(leaves(document))
    legal = _legal(document, strict=bool(overridden))
    for field in overridden:
        if not _is_legal(field, legal):
            raise UserError(_unknown_field(field, {*legal, *FIELDS}))
        if field in values and (parameter := legal.get(field) or _NO_TEXTS.get(field)):
            with config.ignore_type():
                config.update_from_flattened_dict({field: typed(values[field], parameter)})


def _read_literals(config: ConfigDict, fields: Iterable[str]) -> None:
    """Replaces the texts of tuples and dicts with fractions, which ml_collections leaves."""
    document = config.to_dict()
    values = dict(leaves(document))
    values["replicas.grid"] = document.get("replicas", {}).get("grid")  # `leaves` skips it.
    for field in fields:
        text = values.get(field)
        if isinstance(text, str) and text[:1] in ("(", "[", "{"):
            with config.ignore_type():
                config.update_from_flattened_dict({field: evaluated(text)})


def expanded(argv: list[str]) -> list[str]:
    """Returns a command line with the flags of each --flagfile, `catalog.located`.

    The config and its overrides have the form --config.FIELD=VALUE. Of several overrides of a field
    the last one counts; ml_collections would join tuples.

    Raises:
      UserError: a --flagfile cannot be read.
    """
    return catalog.located(_last_overrides(_joined(_with_flagfiles(argv))))


def _joined(argv: Sequence[str]) -> list[str]:
    """Returns a command line with --config.FIELD=VALUE for each "--config.FIELD VALUE"."""
    end = argv.index("--") if "--" in argv else len(argv)
    found: list[str] = []
    for arg in argv[:end]:
        if found and re.fullmatch(r"--?config(\.[^=]+)?", found[-1]) and not _FLAG.match(arg):
            found[-1] += f"={arg}"
        else:
            found.append(arg)
    return [*found, *argv[end:]]


def _last_overrides(argv: Sequence[str]) -> list[str]:
    """Leaves out each --config.FIELD=VALUE that a later one replaces."""
    end = argv.index("--") if "--" in argv else len(argv)
    fields = [re.match(r"--?(config\.[^=]+)=", arg) for arg in argv[:end]]
    last = {field[1]: at for at, field in enumerate(fields) if field}
    replaced = {at for at, field in enumerate(fields) if field and last[field[1]] != at}
    return [arg for at, arg in enumerate(argv) if at not in replaced]


def explain_flags(argv: list[str], error: Exception) -> str:
    """Explains in one line why a command line with --config=FILE[:mode] is invalid.

    Args:
      argv: the output of `expanded`.
      error: the error that parsing raised.
    """
    given = _given(argv)
    if "config" not in given:
        return str(error)
    path, _, mode = given["config"].partition(":")
    if not os.path.isfile(path):  # False, too, for what can be no path.
        file, suffix, _ = given["config"].rpartition(".py")
        if os.path.isfile(file + suffix):
            return f"--config must be a path without a colon, got {file + suffix!r}"
        return _explain_path(path)
    lines = str(error).strip().splitlines()
    if isinstance(error, ModuleNotFoundError) and error.name in ("configs", "configs.common"):
        return f"{path} must import adv_jax.configs.common, got configs.common, its name in a clone"
    if "Traceback (most recent call last):" in lines:
        if mode and lines[-1].startswith("TypeError: get_config() takes 0 "):
            return f"--config must be {path}, whose get_config takes no mode, got {mode!r}"
        return lines[-1].partition(": ")[2]
    of_flag = isinstance(error, flags.UnrecognizedFlagError) and "Did you mean" not in lines[0]
    # ml_collections raises a bare ValueError for a field of a group that is None.
    of_field = isinstance(error, AttributeError | KeyError | TypeError) or type(error) is ValueError
    if of_flag or of_field or _UNREAD.match(lines[0]):
        make = runpy.run_path(path).get("get_config")
        if make is None:
            return f"{path} must define get_config, a function that returns a config, got none"
        document = (make(mode) if mode else make()).to_dict()
        return _explain_field(argv, lines[0], document, flag=error.flagname if of_flag else None)
    return lines[0]


def _explain_path(path: str) -> str:
    """Explains in one line why a path is no config: there is no such file."""
    if os.path.isfile(f"{path}.py"):
        return f"--config must be a name or a file, got {path!r}; did you mean {f'{path}.py'!r}?"
    if "/" in path and (beside := _configs(Path(path).parent)):
        return not_one_of("--config", path, beside)
    names = catalog.names()
    if "/" in path or path.endswith(".py"):
        legal = "an existing file, or a name that `python -m adv_jax` lists"
        return f"--config must be {legal}, got {path!r}{suggestion(path, names)}"
    return not_one_of("--config", path, names)


def _explain_field(
    argv: list[str], message: str, document: Mapping[str, Any], *, flag: str | None
) -> str:
    """Explains in one line why the overrides of a config are invalid.

    Args:
      message: the first line of the error that parsing raised.
      document: the config without the overrides.
      flag: the name of a flag that does not exist, if that was the error.
    """
    values, overridden = dict(leaves(document)), _overridden(argv)
    if unread := _UNREAD.match(message):
        field = unread[1]
        kind = TYPE_NAMES.get(type(values.get(field)), "a dict")
        name = f"{field}.name"
        near = f"; did you mean {name!r}?" if name in values else ""
        group, _, last = field.rpartition(".")
        if group and isinstance(found := read(overridden[field]), dict) and "name" in found:
            whole = {**_node(document, group), **_group_of(group, overridden), last: found}
            near = f'; did you mean --config.{group}="{whole}"?'
        if _is_cut(overridden[field]):
            near = f'; quote it, as a shell splits at spaces: --config.{field}="..."'
        return f"--config.{field} must be {kind}, got {overridden[field]!r}{near}"
    with suppress(KeyError, TypeError):  # A part may not exist.
        names = {field: name for field, name in overridden.items() if field.endswith(".name")}
        document = with_values(document, names)
    legal = {**_legal(document, strict=False), **values}
    if flag is not None:
        return message + suggestion(flag, sorted(f"config.{field}" for field in {*legal, *FIELDS}))
    for field, text in overridden.items():
        group = _absent_group(field, document)
        # ml_collections reads no group with a "-", nor an entry of a tuple as a field.
        if re.fullmatch(r"[\w.]+", field) and _is_group(group, legal, overridden):
            needed = NEEDED.get(group, ("name",))  # A part needs its name.
            whole = {**dict.fromkeys(needed, "?"), **_group_of(group, overridden)}
            return (
                f"--config.{field} must be in a dict, as the config file has no {group}, got "
                f'{text!r}; did you mean --config.{group}="{whole}"?'
            )
        if not (_is_legal(field, legal) or _is_group(field, legal, overridden)):
            return _unknown_field(field, values)
    return message


def _unknown_field(field: str, names: Iterable[str]) -> str:
    """Returns the message for an unknown field, with the names in the deepest group around it.

    names: of all legal fields.
    """
    names, group = sorted(names), field
    while group and not any(name.startswith(f"{group}.") for name in names):
        group = group.rpartition(".")[0]
    start = f"{group}." if group else ""
    inside = [name.removeprefix(start) for name in names if name.startswith(start)]
    legal = {start + name.partition(".")[0] for name in inside}
    # A group around the field is no other field.
    near = [name for name in names if not field.startswith(f"{name}.")]
    return not_one_of("a field of --config", field, sorted(legal), elsewhere=near)


def _absent_group(field: str, document: Mapping[str, Any]) -> str:
    """Returns the outermost group around a field that a config lacks or has as None; else ""."""
    node: Any = document
    names = field.split(".")
    for depth, name in enumerate(names[:-1], 1):
        node = node.get(name) if isinstance(node, Mapping) else node
        if node is None:
            return ".".join(names[:depth])
    return ""


def _node(document: Any, path: str) -> Any:
    """Returns the group of a config at a path."""
    for name in path.split("."):
        document = document[name]
    return document


def _is_group(field: str, legal: Iterable[str], overridden: Iterable[str]) -> bool:
    """Whether a config may have a group: it is legal, or a new attack, which has a name."""
    is_attack = field.rpartition(".")[0] == "evaluation.attacks"
    return _is_legal(field, legal) or (
        is_attack and not {field, f"{field}.name"}.isdisjoint(overridden)
    )


def _group_of(group: str, overridden: Mapping[str, str]) -> dict[str, Any]:
    """Returns the dict of a group that its overrides and those of its fields write."""
    whole = read(overridden.get(group, "{}"))
    found = whole if isinstance(whole, dict) else {}
    for field, text in overridden.items():
        if field.startswith(f"{group}."):
            path = field.removeprefix(f"{group}.")
            # The keys of a grid are paths.
            *parents, last = [path] if group == "replicas.grid" else path.split(".")
            node = found
            for parent in parents:
                if not isinstance(node.get(parent), dict):
                    node[parent] = {}
                node = node[parent]
            node[last] = read(text)
    return found


def _with_flagfiles(argv: list[str]) -> list[str]:
    """Returns a command line with the flags of each file in place of --flagfile=FILE."""
    try:
        return flags.FLAGS.read_flags_from_files(argv, force_gnu=False)
    except (flags.Error, ValueError) as error:
        cause, found = error.__context__, str(error)
        if isinstance(cause, OSError):
            found = f"{cause.filename!r} ({cause.strerror})"
        raise UserError(f"--flagfile must be a file of flags, one a line, got {found}") from error


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
    """Returns {flag: value} for `--flag=value`, with one dash or two."""
    parts = [arg.partition("=") for arg in argv if arg.startswith("-")]
    return {flag.removeprefix("-").removeprefix("-"): value for flag, _, value in parts}
