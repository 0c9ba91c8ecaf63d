"""The configs that come with adv_jax, by name: no path says where they were installed."""

import ast
import itertools
from collections.abc import Iterable
from pathlib import Path

_FOLDER = Path(__file__).parents[2] / "configs"


def names() -> list[str]:
    """Of all configs, sorted.

    >>> "quickstart" in names()
    True
    """
    return sorted(path.stem for path in _FOLDER.glob("*.py"))


def path(name: str) -> Path:
    """The file of a config."""
    return _FOLDER / f"{name}.py"


def about(name: str) -> str:
    """What a config trains: the first line of its docstring."""
    docstring = ast.get_docstring(ast.parse(path(name).read_text())) or ""
    return docstring.partition("\n")[0]


def located(argv: Iterable[str]) -> list[str]:
    """A command line with the file in place of a name, in `--config=NAME[:MODE]`.

    What is no name, as the path of a file, stays.

    >>> located(["--config=my/own.py:quick", "--config.seed=1"])
    ['--config=my/own.py:quick', '--config.seed=1']
    """
    return [_located(before, arg) for before, arg in itertools.pairwise(["", *argv])]


def _located(before: str, arg: str) -> str:
    flag = "" if before == "--config" else "--config="
    name, colon, mode = arg.removeprefix(flag).partition(":")
    if not arg.startswith(flag) or name not in names():
        return arg
    return f"{flag}{path(name)}{colon}{mode}"
