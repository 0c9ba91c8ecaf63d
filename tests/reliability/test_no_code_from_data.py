"""The code never runs values from users or files: no pickle, no eval, no shell."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("adv_jax", "configs", "launch", "papers")
FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
# Modules and functions that make code of data; scikit-learn's own cache of Covertype, which is
# pickled, is read by scikit-learn.
RUNS_CODE = {"eval", "exec", "compile", "__import__", "os.system", "os.popen"}
RUNS_CODE |= {"subprocess.getoutput", "subprocess.getstatusoutput"}
RUNS_CODE |= {"torch.load", "torch.hub.load", "torch.jit.load"}
LOADERS = {"marshal", "shelve", "dill", "cloudpickle", "joblib", "yaml"}
ARRAYS = {"numpy.load", "numpy.save", "numpy.savez", "numpy.savez_compressed"}
# A config is a program: `explain_flags` runs the one that the user names, as ml_collections does,
# and `launch.reproduce` those of this repository.
MAY_RUN_CONFIGS = {"command_line.py", "budget.py"}


def faults(path: Path, source: str) -> list[str]:
    tree = ast.parse(source)
    imported = imports(tree)
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Name | ast.Attribute)]
    mentioned = {*imported.values(), *(full_name(node, imported) for node in nodes)}
    found = sorted(name for name in mentioned if runs_code(path, name))
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = full_name(node.func, imported)
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if name in ARRAYS and keywords.get("allow_pickle") != "False":
            found.append(f"{name} with pickle")
        # Without it, an archive may write outside its folder.
        if name.endswith(".extractall") and keywords.get("filter") != "'data'":
            found.append(f"{name} without the filter 'data'")
        if "shell" in keywords:
            found.append(f"{name} in a shell")
        is_text = node.args and isinstance(node.args[0], ast.Constant | ast.JoinedStr)
        if name.startswith("subprocess.") and is_text:
            found.append(f"{name} of a text")
    return found


def imports(tree: ast.AST) -> dict[str, str]:
    """Returns {name in the file: full name, such as numpy.load}."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                found[alias.asname or top] = alias.name if alias.asname else top
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                found[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return found


def full_name(node: ast.AST, imported: dict[str, str]) -> str:
    if isinstance(node, ast.Attribute):
        return f"{full_name(node.value, imported)}.{node.attr}"
    return imported.get(node.id, node.id) if isinstance(node, ast.Name) else ""


def runs_code(path: Path, name: str) -> bool:
    module, _, last = name.rpartition(".")
    return (
        name.removeprefix("builtins.") in RUNS_CODE
        or not LOADERS.isdisjoint(name.split("."))
        or (module == "pickle" and last != "UnpicklingError")
        or (module == "runpy" and path.name not in MAY_RUN_CONFIGS)
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_source_files_contain_no_pickle_eval_or_shell(path):
    assert faults(path, path.read_text()) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle; pickle.load(f)",
        "import pickle as p; p.loads(data)",
        "from pickle import loads",
        "from pickle import loads as read; read(data)",
        "eval(text)",
        "import builtins; builtins.eval(text)",
        "from builtins import exec as run; run(text)",
        "run = eval",
        "import numpy as np; np.load(path)",
        "import numpy as np; np.load(path, allow_pickle=True)",
        "import numpy; numpy.load(path, allow_pickle=True)",
        "from numpy import load; load(path, allow_pickle=True)",
        "import os; os.system(command)",
        "import os as system; system.popen(command)",
        "from os import system",
        "import subprocess; subprocess.getoutput(command)",
        "import subprocess; subprocess.run(f'git {x}')",
        "from subprocess import run as call; call('git')",
        "import subprocess; subprocess.run(command, shell=True)",
        "from joblib import load",
        "import torch; torch.load(path)",
        "from torch import load; load(path)",
        "tar.extractall(folder)",
        "from runpy import run_path; run_path(name)",
    ],
)
def test_the_search_finds_code_that_runs_data(line):
    assert len(faults(Path("other.py"), line)) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        "import pickle; error = pickle.UnpicklingError",
        "import re; re.compile(pattern)",
        "jitted.lower(x).compile()",
        "from json import load; load(file)",
        "import numpy as np; np.load(path, allow_pickle=False)",
        "from subprocess import run; run(['git', x])",
    ],
)
def test_the_search_passes_harmless_code(line):
    assert faults(Path("other.py"), line) == []
