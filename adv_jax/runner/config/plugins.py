"""Finds the parts of a config that live in the user's own modules.

A name with a colon, "package.module:attribute", is an import path. The module is found from the
current directory, as by `python -m`. A run records the SHA-256 of its file in the config's field
`modules`, by which a changed file is noticed.
"""

import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from adv_jax.data import files
from adv_jax.runner.config.document import ConfigError, import_paths
from adv_jax.types import not_one_of

_loaded: dict[str, str] = {}  # module -> SHA-256 of its file when it was imported


def find(path: str, *, field: str) -> Callable[..., Any]:
    """Returns the function or class at an import path.

    Args:
      path: "package.module:attribute".
      field: where the path stands in the config, for messages.

    Raises:
      ConfigError: the module cannot be imported from the current directory or has no file, the
        attribute does not exist (the nearest is suggested), or cannot be called.
    """
    module, attribute = _module(path, field), path.partition(":")[2]
    found = getattr(module, attribute, None)
    if not hasattr(module, attribute):
        own = [name for name, value in vars(module).items() if _is_public(name, value, module)]
        raise ConfigError(not_one_of(field, path, [f"{module.__name__}:{name}" for name in own]))
    if not callable(found):
        kind = type(found).__name__
        raise ConfigError(f"{field} must be a function or a class, got {path!r}, a {kind}")
    try:
        inspect.signature(found)
    except (TypeError, ValueError):
        raise ConfigError(f"{field} must have a signature, got {path!r}, which has none") from None
    return found


def recorded(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the config with `modules`, {module: SHA-256 of its file}, if it has import paths.

    Imports the modules, again if their files have changed since.

    Raises:
      ConfigError: an import path is invalid, or the file of a module in the config's own `modules`
        has changed.
    """
    paths, before = import_paths(config), config.get("modules") or {}
    if not paths and not before:
        return config
    modules = {}
    for field, path in paths.items():
        module = _module(path, field)
        name, file = module.__name__, _file(module, path, field)
        modules[name] = sha256 = files.sha256(file)
        if before.get(name, sha256) != sha256:
            raise ConfigError(
                f"modules.{name} must be the SHA-256 of {file}, which has changed since the run "
                f"started, got {before[name]!r}"
            )
        if _loaded.setdefault(name, sha256) != sha256:
            with _importing(path, field):
                importlib.reload(module)
            _loaded[name] = sha256
        find(path, field=field)
    return {**config, "modules": modules}


def error_line(error: BaseException) -> str:
    """Returns an error of a user's module in one line, with the file and line of its cause."""
    line = str(error).strip().partition("\n")[0]
    frames = traceback.extract_tb(error.__traceback__)
    where = location(error) or f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}"
    return f"{type(error).__name__}: {line}{where}"


def location(error: BaseException) -> str:
    """Returns " in FILE, line N" for an error that passed through a user's module, else ""."""
    files = {getattr(sys.modules.get(name), "__file__", None) for name in _loaded}
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename in files]
    return f" in {Path(own[-1].filename).name}, line {own[-1].lineno}" if own else ""


def _module(path: str, field: str) -> ModuleType:
    name, _, attribute = path.partition(":")
    parts = [*name.split("."), attribute]
    if not all(part.isidentifier() for part in parts):
        raise ConfigError(f"{field} must be a name or package.module:attribute, got {path!r}")
    if name in sys.modules:
        return sys.modules[name]
    with _importing(path, field):
        importlib.invalidate_caches()
        return importlib.import_module(name)


@contextmanager
def _importing(path: str, field: str) -> Iterator[None]:
    """Finds modules from the current directory; raises ConfigError for whatever they raise."""
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        yield
    # A module is a program, which may raise anything and even exit.
    except (Exception, SystemExit) as error:
        own = isinstance(error, ModuleNotFoundError | SyntaxError)
        why = f"{type(error).__name__}: {error}" if own else error_line(error)
        allowed = f"package.module:attribute of a module that can be imported from {here}"
        raise ConfigError(f"{field} must be {allowed}, got {path!r} ({why})") from error
    finally:
        sys.path.remove(here)


def _file(module: ModuleType, path: str, field: str) -> Path:
    file = getattr(module, "__file__", None)
    if file is None:
        raise ConfigError(f"{field} must be in a module with a file, got {path!r}")
    return Path(file)


def _is_public(name: str, value: Any, module: ModuleType) -> bool:
    own = getattr(value, "__module__", None) == module.__name__
    return callable(value) and own and not name.startswith("_")
