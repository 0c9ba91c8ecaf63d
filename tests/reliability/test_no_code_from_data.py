"""Nothing that a user or a file gives is run: no pickle, no eval, no shell."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(p for d in ("adv_jax", "configs", "launch") for p in (ROOT / d).rglob("*.py"))
# Modules and functions that make code of data; scikit-learn's own cache of Covertype, which is
# pickled, is read by scikit-learn.
RUNS_CODE = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "extractall"}
LOADERS = {"marshal", "shelve", "dill", "cloudpickle", "joblib", "yaml", "torch"}
# A config is a program: `explain_flags` runs the one that the user names, as ml_collections does,
# and `launch.reproduce` those of this repository.
MAY_RUN_CONFIGS = {"config.py", "budget.py"}


def faults(path: Path, source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            module = getattr(node, "module", None)
            found += [n for n in (*names, module or "") if n.partition(".")[0] in LOADERS]
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "pickle":
            found += [] if node.attr == "UnpicklingError" else [ast.unparse(node)]
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if name in RUNS_CODE or name.endswith(".extractall"):
            found.append(name)
        if name.startswith("runpy.") and path.name not in MAY_RUN_CONFIGS:
            found.append(name)
        if name in ("np.load", "np.savez", "np.savez_compressed", "np.save"):
            found += [] if keywords.get("allow_pickle") == "False" else [f"{name} with pickle"]
        if "shell" in keywords:
            found.append(f"{name} in a shell")
        is_text = node.args and isinstance(node.args[0], ast.Constant | ast.JoinedStr)
        if name.startswith("subprocess.") and is_text:
            found.append(f"{name} of a text")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_makes_no_code_of_data(path):
    assert faults(path, path.read_text()) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle; pickle.load(f)",
        "eval(text)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "subprocess.run(f'git {x}')",
        "subprocess.run(command, shell=True)",
        "from joblib import load",
        "tar.extractall(folder)",
        "runpy.run_path(name)",
    ],
)
def test_the_search_finds_what_it_looks_for(line):
    assert len(faults(Path("other.py"), line)) == 1
