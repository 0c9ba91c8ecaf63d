"""Wheel and sdist, installed in a new environment, and the site."""

import ast
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

import adv_jax

ROOT = Path(__file__).parents[1]
VERSION = adv_jax.__version__
MOVED = ("configs", "launch", "papers")  # into adv_jax
TINY = ["--config.model.features=(8,)", "--config.epochs=1", "--config.evaluation.eps=(0.0, 0.1)"]

# Five to fifteen minutes in all, half of them pip's, which needs a package index.
pytestmark = pytest.mark.exhaustive


def outside(**more):
    """Returns the environment variables without those of this environment and clone."""
    hidden = {"PYTHONPATH", "VIRTUAL_ENV", "XLA_FLAGS"}
    return {key: value for key, value in os.environ.items() if key not in hidden} | more


def call(*command, folder, **more):
    """Runs a command without this environment and clone."""
    line = [str(part) for part in command]
    return subprocess.run(line, cwd=folder, env=outside(**more), capture_output=True, text=True)


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
    """Returns the python of an environment with the wheel and its extras docs and sweep."""
    return environment(tmp_path_factory.mktemp("installed"), f"{release[0]}[docs,sweep]")


@pytest.fixture
def project(tmp_path):
    """Returns the folder of a user's project, with packages of the names that a clone has."""
    for name in MOVED:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('foreign')")
    return tmp_path


@pytest.fixture
def run(python, project):
    """Returns a function that calls `python -m` in the user's project."""
    return lambda *arguments: call(python, "-m", *arguments, folder=project)


def sources(folder):
    """Returns the names of the files in a folder of the clone."""
    paths = (path for path in (ROOT / folder).rglob("*") if path.is_file())
    return {str(path.relative_to(ROOT)) for path in paths if "__pycache__" not in path.parts}


def test_the_wheel_has_only_the_packages_and_configs(release):
    wheel, _ = release
    assert wheel.name == f"adv_jax-{VERSION}-py3-none-any.whl"
    about = f"adv_jax-{VERSION}.dist-info/"
    files = {name for name in zipfile.ZipFile(wheel).namelist() if not name.startswith(about)}
    moved = set().union(*(sources(folder) for folder in MOVED))
    moved = {f"adv_jax/{name}" for name in moved if "/results/" not in name}
    assert files == sources("adv_jax") | moved
    assert {"adv_jax/py.typed", "adv_jax/configs/quickstart.py"} <= files


def test_no_module_of_the_wheel_imports_a_top_level_name_of_a_clone(release):
    wheel = zipfile.ZipFile(release[0])
    imported = {
        (file, name.partition(".")[0])
        for file in wheel.namelist()
        if file.endswith(".py")
        for node in ast.walk(ast.parse(wheel.read(file)))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert {top for _, top in imported} >= {"adv_jax", "jax"}
    assert [found for found in imported if found[1] in (*MOVED, "benchmarks", "tests")] == []


def test_the_sdist_has_the_tests_and_the_documentation(release):
    _, sdist = release
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    folders = ("adv_jax", *MOVED, "docs", "tests")
    wanted = set().union(*(sources(folder) for folder in folders))
    assert wanted | {"LICENSE", "README.md", "hatch_build.py", "pyproject.toml"} <= names


def test_an_installed_wheel_imports_from_the_environment_without_tests(python):
    names = (*MOVED, "tests", "benchmarks")
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
    for command in ("reproduce", "join", "sweep"):
        assert f"  python -m adv_jax.launch.{command} " in done.stdout
    for module in ("adv_jax", "adv_jax.main"):
        done = run(module, "--version")
        assert (done.returncode, done.stdout) == (0, f"adv_jax {VERSION}\n")


def test_a_packaged_config_trains_in_a_project_with_other_configs(run, project):
    done = run("adv_jax.main", "--config=quickstart:quick", *TINY)
    assert (done.returncode, done.stderr) == (0, "")
    (workdir,) = (project / "runs").iterdir()
    assert workdir.name.startswith("quickstart-")
    result = json.loads((workdir / "result.json").read_text())
    assert result["versions"]["adv_jax"] == VERSION and result["git"] is None
    done = run("adv_jax.evaluate", f"--workdir={workdir}", "--attacks=fgsm", "--eps=0,.1")
    assert done.returncode == 0, done.stderr
    assert (workdir / "evaluation").is_dir()


def test_a_stopped_run_goes_on_in_a_project_with_other_configs(python, run, project):
    log = project / "run" / "metrics.jsonl"
    # More epochs than fit into the time before the signal.
    flags = ["--config=quickstart:quick", *TINY, "--config.epochs=40", f"--workdir={log.parent}"]
    command = [python, "-m", "adv_jax.main", *flags]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=project, env=outside(), **quiet) as process:
        while not (log.exists() and log.read_text()) and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 128 + signal.SIGTERM
    assert 1 <= len(log.read_text().splitlines()) < 40
    done = run("adv_jax.main", *flags)
    assert (done.returncode, done.stderr) == (0, "")
    lines = map(json.loads, log.read_text().splitlines())
    assert [line["epoch"] for line in lines] == list(range(1, 41))


def test_a_config_of_the_user_imports_the_common_of_adv_jax_and_its_own(run, project):
    (project / "configs" / "__init__.py").write_text("")
    (project / "configs" / "common.py").write_text("EPOCHS = 1")
    (project / "configs" / "own.py").write_text(
        "from adv_jax.configs import quickstart\n"
        "from adv_jax.configs.common import parse_options\n"
        "from configs.common import EPOCHS\n"
        "def get_config(mode='paper'):\n"
        "    c = quickstart.get_config('quick')\n"
        "    c.epochs, c.seed = EPOCHS, parse_options(mode, seed=(3, int)).seed\n"
        "    return c\n"
    )
    done = run("adv_jax.main", "--config=configs/own.py:seed=5", *TINY, "--workdir=run")
    assert (done.returncode, done.stderr) == (0, "")
    config = json.loads((project / "run" / "config.json").read_text())
    assert (config["epochs"], config["seed"]) == (1, 5)


def test_a_config_with_the_name_of_common_in_a_clone_is_refused_with_the_other(run, project):
    (project / "old.py").write_text("from configs.common import base")
    (project / "configs" / "__init__.py").write_text("")
    done = run("adv_jax.main", "--config=old.py")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: old.py must import adv_jax.configs.common, got")


def test_a_sweep_trains_in_processes_of_ray_in_a_project_with_another_launch(run, project):
    flags = ["--config=quickstart:quick", *TINY, "--workdir=sweep", "--cpus=1"]
    done = run("adv_jax.launch.sweep", *flags, "--grid={'model.features': ((4,), (8,))}")
    assert (done.returncode, done.stderr) == (0, "")
    points = json.loads((project / "sweep" / "result.json").read_text())["points"]
    assert [point["status"] for point in points] == ["finished", "finished"]


def test_a_figure_is_drawn_into_a_project_with_other_papers(run, project):
    done = run("adv_jax.report", "maronas2016.fig10")
    assert (done.returncode, done.stderr) == (0, "")
    assert (project / "papers" / "maronas2016" / "results" / "figures" / "fig10.png").exists()


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (("adv_jax.launch.reproduce", "--list"), "huang2015.table1 "),
        (("adv_jax.report", "--list"), "huang2015.fig1 "),
    ],
)
def test_targets_and_figures_of_the_papers_are_listed(command, line, run):
    done = run(*command)
    assert (done.returncode, done.stderr) == (0, "")
    assert any(shown.strip(" │").startswith(line) for shown in done.stdout.splitlines())


def test_join_refuses_too_few_runs_in_one_line(run):
    done = run("adv_jax.launch.join", "alone")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: runs must be two or more, got ['alone']\n"


def test_an_unknown_config_is_refused_in_one_line_with_the_nearest_name(run, project):
    done = run("adv_jax.main", "--config=quikstart:quick")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: --config must be one of ")
    assert done.stderr.endswith("did you mean 'quickstart'?\n")
    assert {path.name for path in project.iterdir()} == {*MOVED}


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
