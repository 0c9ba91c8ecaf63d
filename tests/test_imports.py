"""Imports point downwards, as the table says, and every third party is declared."""

import ast
import functools
import graphlib
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections.abc import Container, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Room -> rooms that it may import; a new room needs a line here. Below them all, and therefore not
# repeated, lie the aliases, the suggestions, the random numbers, the annotations, the ranges and
# the package's `__version__`.
BOTTOM = ("annotations", "random", "ranges", "suggestions", "types")
BELOW = {"adv_jax", *(f"adv_jax.{name}" for name in BOTTOM)}
LIBRARY = {
    f"adv_jax.{name}"
    for name in (
        *("attacks", "bridges", "checks", "convolution", "data", "evaluate"),
        *(
            "generative",
            "loss_gradients",
            "losses",
            "linear_bounds",
            "meshes",
            "models",
            "norms",
            "objectives",
            "optimizers",
            "perturbations",
            "programs",
            "row_flags",
            "step",
            "style",
            "tabular",
        ),
    )
}
# The runner's landings from bottom to top: each may import those before it, and the library.
LANDINGS = [f"adv_jax.runner.{name}" for name in ("config", "store", "host", "run")]
PACKAGE = LIBRARY | {*LANDINGS, "adv_jax.train"}
# What all papers share, from bottom to top, and the papers, which do not import each other.
JUDGING, RUNNING, PAGES = "papers.judging", "papers.running", "papers.pages"
PAPERS = [f"papers.{path.parent.name}" for path in sorted((ROOT / "papers").glob("*/targets.py"))]
BOTTOM += ("data", "meshes", "norms", "perturbations", "programs", "step", "style")
# What attacks and evaluations share.
SHARED_BY_ATTACKS = {
    f"adv_jax.{name}"
    for name in ("checks", "loss_gradients", "losses", "perturbations", "row_flags")
}
MAY_IMPORT = {
    "adv_jax": LIBRARY,  # adv_jax/__init__.py
    **{f"adv_jax.{name}": set() for name in BOTTOM},
    "adv_jax.convolution": {"adv_jax.meshes", "adv_jax.programs"},
    "adv_jax.ranges": {"adv_jax.annotations"},
    "adv_jax.types": {"adv_jax.suggestions"},
    "adv_jax.style": {"adv_jax.attacks"},  # their names
    "adv_jax.linear_bounds": {f"adv_jax.{name}" for name in ("checks", "norms", "programs")}
    | {"adv_jax.perturbations"},
    "adv_jax.losses": set(),
    "adv_jax.models": {"adv_jax.convolution", "adv_jax.losses", "adv_jax.programs"},
    "adv_jax.checks": {"adv_jax.losses", "adv_jax.norms", "adv_jax.programs"},
    "adv_jax.bridges": {"adv_jax.checks"},
    "adv_jax.optimizers": {"adv_jax.checks"},
    "adv_jax.row_flags": {"adv_jax.checks"},
    "adv_jax.loss_gradients": {"adv_jax.checks", "adv_jax.losses", "adv_jax.programs"}
    | {"adv_jax.perturbations"},
    "adv_jax.attacks": {
        f"adv_jax.{name}" for name in ("convolution", "meshes", "norms", "programs")
    }
    | SHARED_BY_ATTACKS,
    "adv_jax.objectives": {"adv_jax.checks", "adv_jax.linear_bounds"}
    | {"adv_jax.losses", "adv_jax.norms"},
    "adv_jax.generative": {f"adv_jax.{name}" for name in ("checks", "losses")}
    | {"adv_jax.models", "adv_jax.objectives", "adv_jax.programs"},
    "adv_jax.evaluate": {"adv_jax.attacks", "adv_jax.linear_bounds", "adv_jax.meshes"}
    | {"adv_jax.norms", "adv_jax.programs", "adv_jax.step", "adv_jax.style"}
    | SHARED_BY_ATTACKS,
    "adv_jax.tabular": {"adv_jax.attacks", "adv_jax.norms"} | SHARED_BY_ATTACKS,
    "adv_jax.configs": set(),
    "adv_jax.runner": set(),  # adv_jax/runner/__init__.py
    **{room: LIBRARY | set(LANDINGS[:i]) for i, room in enumerate(LANDINGS)},
    "adv_jax.train": set(LANDINGS),
    **dict.fromkeys(("adv_jax.__main__", "adv_jax.main", "adv_jax.evaluate.__main__"), PACKAGE),
    "papers": set(),  # papers/__init__.py
    JUDGING: PACKAGE,
    RUNNING: PACKAGE | {JUDGING},
    **dict.fromkeys(PAPERS, PACKAGE | {"adv_jax.configs", JUDGING, RUNNING}),
    PAGES: PACKAGE | {JUDGING, RUNNING},
    "adv_jax.report": PACKAGE | {JUDGING, RUNNING},
    "launch.compiling": PACKAGE | {JUDGING, RUNNING, PAGES},
    "launch": PACKAGE | {"adv_jax.main", "launch.compiling", JUDGING, RUNNING, PAGES},
}

# Core dependencies that no import statement of ours names, and why they are there.
INDIRECT = {
    "importlib-resources": "TFDS imports it without declaring it",
    "jaxlib": "JAX runs on it",
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
        return longest_prefix(self.name, MAY_IMPORT)


def longest_prefix(name: str, known: Container[str]) -> str:
    """Returns the longest prefix of a dotted name that is known, or its first part."""
    parts = name.split(".")
    prefixes = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next((prefix for prefix in prefixes if prefix in known), parts[0])


def imports(source: str) -> Iterator[Import]:
    """Returns all imports of a file, also those inside functions."""

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


def files(folder: str | Path) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


@functools.cache
def modules(root: Path = ROOT) -> dict[Path, str]:
    """Returns each file of the packages, and the name of its module."""
    return {
        path: ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        for folder in ("adv_jax", "launch", "papers")
        for path in files(root / folder)
    }


def room_of(name: str) -> str:
    """Returns the room of a module; raises if the table has no room for it."""
    room = longest_prefix(name, MAY_IMPORT)
    # The files of a package without a row of their own are no rooms.
    assert room == name or room not in ("adv_jax", "adv_jax.runner", "papers"), f"no room: {name}"
    return room


def of_room(room: str, root: Path = ROOT) -> list[Path]:
    """Returns the files of a room."""
    return [path for path, name in modules(root).items() if room_of(name) == room]


def all_upwards(room: str, root: Path = ROOT) -> list[str]:
    """Returns the imports of a room's files that the table does not allow."""
    paths = of_room(room, root)
    return [f"{path.name} {wrong}" for path in paths for wrong in upwards(room, path.read_text())]


def upwards(room: str, source: str) -> list[str]:
    """Returns the imports of a file in `room` that the table does not allow."""
    allowed = MAY_IMPORT[room] | {room} | (set() if room in BELOW else BELOW) | {"adv_jax.types"}
    ours = ("adv_jax", "benchmarks", "configs", "launch", "papers")
    return [
        f"line {i.line}: {room} must not import {i.name}"
        for i in imports(source)
        if i.top in ours and i.room not in allowed
    ]


def trespasses(room: str, source: str) -> list[str]:
    """The imports of a file in `room` that name a private part of another room."""
    return [
        f"line {i.line}: {i.name} is private to {i.room}"
        for i in imports(source)
        if i.room != room and re.search(r"(^|\.)_(?!_)", i.name)
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
    """Returns the distributions of a module, or its own name if it is not installed."""
    found = installed().get(module, [module])
    return {canonical(name) for name in found}


def third_party(folder: str) -> list[tuple[str, Import]]:
    own = {"adv_jax", "configs", "launch", "papers"} | sys.stdlib_module_names
    return [
        (str(path.relative_to(ROOT)), i)
        for path in files(folder)
        for i in imports(path.read_text())
        if i.top not in own
    ]


def test_the_table_of_imports_has_no_cycle():
    list(graphlib.TopologicalSorter(MAY_IMPORT).static_order())


def test_every_module_lies_in_a_room_of_the_table():
    assert {room_of(name) for name in modules().values()} <= MAY_IMPORT.keys()


@pytest.mark.parametrize("room", sorted(LIBRARY))
def test_each_permission_of_a_room_of_the_library_is_used(room):
    used = {found.room for path in of_room(room) for found in imports(path.read_text("utf-8"))}
    assert MAY_IMPORT[room] <= used


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_room_imports_only_what_the_table_allows(room):
    assert of_room(room) and all_upwards(room) == []


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("runner/config/fields.py", "from adv_jax.runner.store.writing import replace"),
        ("runner/store/workdir.py", "from adv_jax.runner.host import processes"),
        ("runner/host/devices.py", "from adv_jax.runner import run"),
        ("runner/host/signals.py", "import adv_jax.runner.run.training"),
        ("runner/run/training.py", "from adv_jax.train import run"),
        ("objectives/lwa.py", "def f():\n    from adv_jax.runner.config import literals"),
        ("attacks/pgd.py", "from adv_jax.evaluate import curves"),
    ],
)
def test_an_import_that_points_upwards_is_found_in_a_copy_of_the_package(tmp_path, file, line):
    path = tmp_path / "adv_jax" / file
    room = room_of(modules()[ROOT / "adv_jax" / file])
    path.parent.mkdir(parents=True)
    path.write_text((ROOT / "adv_jax" / file).read_text() + line)
    (found,) = all_upwards(room, tmp_path)
    assert re.fullmatch(rf"{path.name} line \d+: {room} must not import adv_jax\..*", found)


def test_no_module_of_the_runner_imports_itself_through_others():
    runner = {name: p for p, name in modules().items() if name.startswith("adv_jax.runner.")}
    graph = {
        name: {longest_prefix(i.name, runner) for i in imports(path.read_text())} - {name}
        for name, path in runner.items()
    }
    list(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize(
    "source",
    [
        "from adv_jax import norms, train",
        "from adv_jax.runner.run.training import run",
        "import adv_jax.runner.run.training as t",
        "def f():\n    from adv_jax.runner.run.training import run",
        "class C:\n    def f(self):\n        if True:\n            import adv_jax.runner.run",
        "import configs.quickstart",
        "from launch import sweep",
        "from papers import numbers",
        "import adv_jax.runner.config",
    ],
)
def test_forbidden_import_is_found(source):
    assert len(upwards("adv_jax.attacks", source)) == 1


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_room_imports_no_private_module_of_another(room):
    paths = of_room(room)
    assert [f"{path.name} {t}" for path in paths for t in trespasses(room, path.read_text())] == []


@pytest.mark.parametrize(
    "source",
    [
        "from adv_jax.attacks._bare import run_body",
        "from adv_jax.attacks import _bare",
        "import adv_jax.attacks._bare as bare",
        "from adv_jax.attacks.apgd import _schedule",
        "def f():\n    from adv_jax.attacks import _bare",
    ],
)
def test_private_import_is_found(source):
    assert len(trespasses("adv_jax.evaluate", source)) == 1
    assert trespasses("adv_jax.attacks", source) == []


def test_allowed_imports_pass():
    source = "from adv_jax import __version__, norms\nfrom adv_jax.types import Array\nimport jax"
    assert upwards("adv_jax.attacks", source) == []
    assert trespasses("adv_jax.attacks", source) == []


@pytest.mark.parametrize("path", files("configs"), ids=lambda path: path.name)
def test_config_imports_ml_collections_and_common_only(path):
    modules = {i.name.rpartition(".")[0] for i in imports(path.read_text())}
    assert modules <= {"ml_collections", "adv_jax.configs.common"}


def test_launch_and_papers_are_imported_by_from():
    """`import launch.sweep` would bind another name in a wheel, where they lie in adv_jax."""
    plain = re.compile(r"^\s*import (launch|papers)\b", re.MULTILINE)
    assert plain.search("import papers.pages as p\n") and plain.search("if x:\n    import launch")
    assert [path.name for path in modules() if plain.search(path.read_text())] == []


EXTRAS = ("covtype", "mlflow", "safetensors", "tensorboard", "tfds", "torch", "wandb")


def test_third_parties_of_the_core_are_declared():
    core, extras = declared(), declared(*EXTRAS)
    undeclared = [
        f"{path}:{i.line} imports {i.name}"
        for path, i in [*third_party("adv_jax"), *third_party("papers")]
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
    ours = [*third_party("adv_jax"), *third_party("papers")]
    imported = set().union(*(distributions(i.top) for _, i in ours))
    assert declared() <= imported | INDIRECT.keys()


@pytest.mark.parametrize("statement", ["import adv_jax", "from adv_jax import attacks, evaluate"])
def test_importing_attacks_and_evaluation_loads_no_matplotlib_or_tensorflow(statement):
    heavy = "{'matplotlib', 'tensorflow', 'tensorflow_datasets'}"
    code = f"import sys; {statement}; print(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
