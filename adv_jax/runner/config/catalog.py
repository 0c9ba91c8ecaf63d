"""The configs that come with adv_jax, by name, wherever it is installed."""

import ast
from collections.abc import Iterable
from pathlib import Path

_PACKAGE = Path(__file__).parents[2]
# In a clone the configs lie beside adv_jax. A wheel has them inside; beside it, in site-packages,
# another package may have their folder's name.
_INSIDE, _BESIDE = _PACKAGE / "configs", _PACKAGE.parent / "configs"
_FOLDER = _INSIDE if (_INSIDE / "quickstart.py").exists() else _BESIDE
_SHARED = {"__init__", "common"}


def names() -> list[str]:
    """Returns the names of all configs, sorted.

    >>> "quickstart" in names(), "common" in names()
    (True, False)
    """
    return sorted({path.stem for path in _FOLDER.glob("*.py")} - _SHARED)


def path(name: str) -> Path:
    """Returns the file of a config."""
    return _FOLDER / f"{name}.py"


def about(name: str) -> str:
    """Returns the first line of a config's docstring."""
    docstring = ast.get_docstring(ast.parse(path(name).read_text())) or ""
    return docstring.partition("\n")[0]


def located(argv: Iterable[str]) -> list[str]:
    """Returns a command line with the file in place of the name in `--config=NAME[:MODE]`.

    A path stays as it is.

    >>> located(["--config=my/own.py:quick", "--config.seed=1"])
    ['--config=my/own.py:quick', '--config.seed=1']
    """
    return [_located(arg) for arg in argv]


def _located(arg: str) -> str:
    flag, _, value = arg.partition("=")
    name, colon, mode = value.partition(":")
    is_name = flag in ("--config", "-config") and name in names()
    return f"{flag}={path(name)}{colon}{mode}" if is_name else arg
