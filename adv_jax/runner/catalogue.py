"""The configs that come with adv_jax, by name, wherever it is installed."""

import ast
import importlib.util
import itertools
import os
import sys
from collections.abc import Iterable
from pathlib import Path

# The package `configs` lies beside `adv_jax`, in a clone as in site-packages.
_FOLDER = Path(__file__).parents[2] / "configs"
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

    A path stays as it is. For a config that comes with adv_jax, `import_shared` is called.

    >>> located(["--config=my/own.py:quick", "--config.seed=1"])
    ['--config=my/own.py:quick', '--config.seed=1']
    """
    return [_located(before, arg) for before, arg in itertools.pairwise(["", *argv])]


def import_shared() -> None:
    """Makes `import configs` find the package beside adv_jax, whatever else has that name.

    A config that comes with adv_jax imports `configs.common`. The current folder may hold a package
    `configs` of the user's, which Python would find first.
    """
    init = _FOLDER / "__init__.py"
    if getattr(sys.modules.get("configs"), "__file__", None) == str(init):
        return
    for module in [name for name in sys.modules if name.partition(".")[0] == "configs"]:
        del sys.modules[module]
    spec = importlib.util.spec_from_file_location("configs", init)
    assert spec is not None and spec.loader is not None
    sys.modules["configs"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["configs"])


def _located(before: str, arg: str) -> str:
    dashes = "--" if arg.startswith("--") else "-"
    flag = "" if before in ("--config", "-config") else f"{dashes}config="
    name, colon, mode = arg.removeprefix(flag).partition(":")
    if not arg.startswith(flag):
        return arg
    if name in names():
        import_shared()
        return f"{flag}{path(name)}{colon}{mode}"
    if os.path.dirname(os.path.realpath(name)) == os.path.realpath(_FOLDER):
        import_shared()
    return arg
