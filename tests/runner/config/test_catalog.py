"""The list of configs, and the output of `python -m adv_jax`, in a clone and installed."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from marks import exhaustive_after

import adv_jax
from adv_jax.configs import common
from adv_jax.runner.config import catalog
from configs import common as old_common

ROOT = Path(__file__).parents[3]
CONFIGS = {path.stem: path for path in (ROOT / "configs").glob("[!_]*.py")}
del CONFIGS["common"]


def command(*arguments, module="adv_jax", site=ROOT, folder=ROOT):
    """Runs `python -m adv_jax` in a folder, with the package in `site`."""
    line = [sys.executable, "-m", module, *arguments]
    env = {"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(line, cwd=folder, env=env, capture_output=True, text=True)


@pytest.fixture
def installed(tmp_path):
    """A folder with the files that the command needs, laid out as in a wheel."""
    needed = ["__init__", "__main__", "runner/__init__"]
    needed += ["runner/config/__init__", "runner/config/catalog"]
    needed += ["runner/store/__init__", "runner/store/stragglers"]
    needed += ["runner/host/__init__", "runner/host/ending", "runner/host/signals"]
    for name in needed:
        (tmp_path / f"site/adv_jax/{name}.py").parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / f"adv_jax/{name}.py", tmp_path / f"site/adv_jax/{name}.py")
    shutil.copytree(ROOT / "configs", tmp_path / "site" / "adv_jax" / "configs")
    a_package(tmp_path / "site")  # Another distribution's.
    return tmp_path / "site"


def nothing(folder):
    """Leaves the folder empty."""


def a_folder(folder):
    """Makes a folder `configs` that is not a package."""
    (folder / "configs").mkdir()
    (folder / "configs" / "common.py").write_text("raise RuntimeError('foreign')")
    (folder / "configs" / "foreign.py").touch()


def a_package(folder):
    """Makes a package `configs`."""
    a_folder(folder)
    (folder / "configs" / "__init__.py").write_text("raise RuntimeError('foreign')")


def a_module(folder):
    """Makes a module `configs`."""
    (folder / "configs.py").write_text("raise RuntimeError('foreign')")


def test_the_configs_of_a_clone_are_found_by_name():
    assert catalog.names() == sorted(CONFIGS) and len(CONFIGS) > 10
    assert {name: catalog.path(name).resolve() for name in CONFIGS} == CONFIGS


def test_the_first_line_of_the_docstring_describes_a_config():
    expected = (
        "A multilayer perceptron trained on clean and FGSM examples: the place to start from."
    )
    assert catalog.about("quickstart") == expected
    assert all(catalog.about(name).endswith(".") for name in CONFIGS)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--config=quickstart"], ["--config={}/quickstart.py"]),
        (["--config=ladder_mnist:a,b=1"], ["--config={}/ladder_mnist.py:a,b=1"]),
        (["--x=1", "-config=quickstart:a"], ["--x=1", "-config={}/quickstart.py:a"]),
        # Paths and other flags are not changed.
        (["--config=configs/quickstart.py:a"], ["--config=configs/quickstart.py:a"]),
        (["--config=nothing:a"], ["--config=nothing:a"]),
        (["--config.experiment=quickstart"], ["--config.experiment=quickstart"]),
        (["quickstart", "--workdir", "quickstart"], ["quickstart", "--workdir", "quickstart"]),
        (["--config"], ["--config"]),
    ],
)
def test_a_config_name_on_a_command_line_becomes_a_file(argv, expected):
    folder = catalog.path("quickstart").parent
    assert catalog.located(argv) == [arg.format(folder) for arg in expected]


@pytest.mark.parametrize("arguments", [(), ("--help",)])
def test_help_names_the_commands_and_every_config(arguments):
    done = command(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("main", "evaluate", "report"):
        assert f"python -m adv_jax.{name} " in done.stdout
        assert (ROOT / "adv_jax" / f"{name}.py").exists() or (ROOT / "adv_jax" / name).is_dir()
    for name in ("reproduce", "sweep"):
        assert f"python -m launch.{name} " in done.stdout
        assert (ROOT / "launch" / f"{name}.py").exists()
    listed = [line.split()[0] for line in done.stdout.partition("\nConfigs")[2].splitlines()[1:]]
    assert listed == sorted(CONFIGS)


def test_an_installed_package_lists_the_packaged_configs_only(installed, tmp_path):
    a_package(tmp_path)
    done = command(site=installed, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == command().stdout


@pytest.mark.slow
@pytest.mark.parametrize("other", exhaustive_after(1, [nothing, a_folder, a_package, a_module]))
@pytest.mark.parametrize(
    "config", exhaustive_after(1, ["quickstart", f"{ROOT}/configs/quickstart.py"])
)
def test_a_config_is_read_in_a_folder_with_any_other_configs(other, config, tmp_path):
    other(tmp_path)
    # No epoch is trained: the error says that the config and its override were read.
    flags = (f"--config={config}:quick", "--config.epochs=0")
    done = command(*flags, module="adv_jax.main", folder=tmp_path)
    assert done.returncode == 1
    assert re.fullmatch(r"error: epochs .*0.*\n", done.stderr)


@pytest.mark.slow
def test_a_config_of_the_user_imports_the_configs_package_of_the_user(tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "__init__.py").touch()
    (tmp_path / "configs" / "common.py").write_text("raise ValueError('the common of the user')")
    (tmp_path / "configs" / "own.py").write_text("import configs.common")
    done = command("--config=configs/own.py", module="adv_jax.main", folder=tmp_path)
    assert (done.returncode, done.stderr) == (1, "error: the common of the user\n")


def test_the_name_of_common_in_a_clone_has_the_same_functions():
    names = [name for name in vars(common) if not name.startswith("_")]
    assert all(getattr(old_common, name) is getattr(common, name) for name in names)


def test_adv_jax_prints_the_version():
    done = command("--version")
    assert (done.returncode, done.stdout) == (0, f"adv_jax {adv_jax.__version__}\n")


def test_an_unknown_argument_of_adv_jax_is_refused_in_one_line():
    done = command("train", "--quick")
    assert (done.returncode, done.stdout) == (1, "")
    legal = "--help, --version or none"
    assert done.stderr == f"error: the argument must be {legal}, got 'train --quick'\n"
