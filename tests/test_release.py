"""Wheel and sdist, installed in a new environment, and the site."""

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import adv_jax

ROOT = Path(__file__).parents[1]
VERSION = adv_jax.__version__
PACKAGES = ("adv_jax", "configs", "launch", "papers")
TINY = ["--config.model.features=(8,)", "--config.epochs=1", "--config.evaluation.eps=(0.0, 0.1)"]

# Two to four minutes in all, most of them pip's, which needs a package index.
pytestmark = pytest.mark.exhaustive


def call(*command, folder, **more):
    """Runs a command without this environment and clone."""
    hidden = {"PYTHONPATH", "VIRTUAL_ENV", "XLA_FLAGS"}
    env = {key: value for key, value in os.environ.items() if key not in hidden} | more
    line = [str(part) for part in command]
    return subprocess.run(line, cwd=folder, env=env, capture_output=True, text=True)


def environment(folder, *packages):
    """A new virtual environment with packages -> its python."""
    python = folder / "venv" / "bin" / "python"
    for command in (
        [sys.executable, "-m", "venv", folder / "venv"],
        [python, "-m", "pip", "install", "--quiet", *packages],
    ):
        done = call(*command, folder=folder)
        assert done.returncode == 0, done.stderr
    return python


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """Builds (wheel, sdist), the wheel from the sdist."""
    folder = tmp_path_factory.mktemp("release")
    python = environment(folder, "build")
    done = call(python, "-m", "build", "--outdir", folder / "dist", ROOT, folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,), (sdist,) = (folder / "dist").glob("*.whl"), (folder / "dist").glob("*.tar.gz")
    return wheel, sdist


@pytest.fixture(scope="module")
def python(release, tmp_path_factory):
    """Returns the python of an environment with the wheel and its extra docs."""
    return environment(tmp_path_factory.mktemp("installed"), f"{release[0]}[docs]")


@pytest.fixture
def run(python, tmp_path):
    """Returns a function that calls `python -m` in an empty folder."""
    return lambda *arguments: call(python, "-m", *arguments, folder=tmp_path)


def sources(folder):
    """Returns the names of the files in a folder of the clone."""
    paths = (path for path in (ROOT / folder).rglob("*") if path.is_file())
    return {str(path.relative_to(ROOT)) for path in paths if "__pycache__" not in path.parts}


def test_the_wheel_has_only_the_packages_and_configs(release):
    wheel, _ = release
    assert wheel.name == f"adv_jax-{VERSION}-py3-none-any.whl"
    about = f"adv_jax-{VERSION}.dist-info/"
    files = {name for name in zipfile.ZipFile(wheel).namelist() if not name.startswith(about)}
    packaged = set().union(*(sources(folder) for folder in PACKAGES))
    assert files == {name for name in packaged if "/results/" not in name}
    assert "adv_jax/py.typed" in files and "configs/quickstart.py" in files


def test_the_sdist_has_the_tests_and_the_documentation(release):
    _, sdist = release
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    folders = (*PACKAGES, "docs", "tests")
    wanted = set().union(*(sources(folder) for folder in folders))
    assert wanted | {"LICENSE", "README.md", "pyproject.toml"} <= names


def test_an_installed_wheel_imports_from_the_environment_without_tests(python):
    names = ("tests", "benchmarks")
    code = "import adv_jax, importlib.util as u; print(adv_jax.__file__, *map(u.find_spec, {}))"
    done = call(python, "-c", code.format(names), folder=python.parent)
    path, *others = done.stdout.split()
    assert Path(path).is_relative_to(python.parents[1]) and others == ["None"] * len(names)


def test_the_installed_package_prints_help_and_version(run):
    done = run("adv_jax")
    assert done.returncode == 0
    configs = {path.stem for path in (ROOT / "configs").glob("*.py")} - {"__init__", "common"}
    listed = done.stdout.partition("\nConfigs")[2].splitlines()[1:]
    assert {line.split()[0] for line in listed} == configs
    for module in ("adv_jax", "adv_jax.main"):
        done = run(module, "--version")
        assert (done.returncode, done.stdout) == (0, f"adv_jax {VERSION}\n")


def test_a_packaged_config_trains_beside_another_configs_package(run, tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "__init__.py").write_text("raise RuntimeError('foreign')")
    done = run("adv_jax.main", "--config=quickstart:quick", *TINY)
    assert (done.returncode, done.stderr) == (0, "")
    (workdir,) = (tmp_path / "runs").iterdir()
    assert workdir.name.startswith("quickstart-")
    result = json.loads((workdir / "result.json").read_text())
    assert result["versions"]["adv_jax"] == VERSION and result["git"] is None
    done = run("adv_jax.evaluate", f"--workdir={workdir}", "--attacks=fgsm", "--eps=0,.1")
    assert done.returncode == 0, done.stderr
    assert (workdir / "evaluation").is_dir()


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (("launch.reproduce", "--list"), "huang2015.table1 "),
        (("adv_jax.report", "--list"), "huang2015.fig1 "),
    ],
)
def test_targets_and_figures_of_the_papers_are_listed(command, line, run):
    done = run(*command)
    assert (done.returncode, done.stderr) == (0, "")
    assert any(shown.strip(" │").startswith(line) for shown in done.stdout.splitlines())


def test_join_refuses_too_few_runs_in_one_line(run):
    done = run("launch.join", "alone")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: runs must be two or more, got ['alone']\n"


def test_an_unknown_config_is_refused_in_one_line_with_the_nearest_name(run, tmp_path):
    done = run("adv_jax.main", "--config=quikstart:quick")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: --config must be one of ")
    assert done.stderr.endswith("did you mean 'quickstart'?\n")
    assert not list(tmp_path.iterdir())


def test_the_site_is_built_without_a_warning_and_without_a_network(python, tmp_path):
    nowhere = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    command = ["-m", "sphinx", "-W", "--keep-going", "-c", "docs", ".", tmp_path / "site"]
    done = call(python, *command, folder=ROOT, **nowhere)
    assert done.returncode == 0, done.stderr
    site = tmp_path / "site"
    assert 'url=docs/index.html"' in (site / "index.html").read_text()
    for page in ("docs/index", "docs/tutorial", "docs/api/attacks", "README", "launch/README"):
        assert (site / f"{page}.html").exists()
    work = (site / "docs" / "works" / "maronas2016.html").read_text()
    assert "_images/maronas2016.table17.png" in work and "_images/fig26.png" in work
    pgd = (site / "docs" / "api" / "generated" / "adv_jax.attacks.pgd.html").read_text()
    assert "f[B, *D]" in pgd and "ArrayLike" in pgd
