"""Finds the configs of adv_jax by name, wherever they are installed."""

import ast
import itertools
from collections.abc import Iterable
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
# A wheel has the configs inside the package, a clone beside it.
_INSIDE, _BESIDE = _PACKAGE / "configs", _PACKAGE.parent / "configs"
_FOLDER = _INSIDE if _INSIDE.is_dir() else _BESIDE


def names() -> list[str]:
    """Returns the sorted names of all configs.

    >>> "quickstart" in names()
    True
    """
    return sorted(path.stem for path in _FOLDER.glob("*.py"))


def path(name: str) -> Path:
    """Returns the file of a config."""
    return _FOLDER / f"{name}.py"


def about(name: str) -> str:
    """Returns the first line of a config's docstring."""
    docstring = ast.get_docstring(ast.parse(path(name).read_text())) or ""
    return docstring.partition("\n")[0]


def located(argv: Iterable[str]) -> list[str]:
    """Replaces NAME by its file in `--config=NAME[:MODE]`; a path stays unchanged.

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
