"""Data that cannot be loaded: the error names what to run instead."""

import pytest
from config_files import config_of

from adv_jax import main, types
from adv_jax.data import DataError, MissingData
from adv_jax.runner.config.replicas import replicas
from adv_jax.runner.run import inputs


@pytest.mark.parametrize(
    ("name", "line"),
    [
        (
            "quickstart",
            "--config.data.source=embedded --config.data.num_valid=500, or "
            "--config=quickstart:quick",
        ),
        ("ladder_mnist", "--config.data.source=embedded, or --config=ladder_mnist:quick"),
    ],
)
def test_missing_data_are_refused_with_the_flags_to_run_instead(tmp_path, name, line):
    config = config_of(name, "paper")
    config["data"] |= {"source": "files", "dir": str(tmp_path / "none")}
    assert main.on_other_data(config) == line
    with pytest.raises(MissingData, match="; data.source may also be 'tfds' or 'embedded'$"):
        inputs.load(config, replicas(config), tmp_path / "run")


def test_the_command_names_the_flags_and_leaves_no_workdir(tmp_path, commands):
    missing = f"--config.data.source=files --config.data.dir={tmp_path / 'none'}"
    workdir = tmp_path / "run"
    line = f"--config=quickstart:quick {missing} --workdir={workdir}"
    code, _, said = commands.run(*line.split())
    assert code and not workdir.exists() and said.count("\n") == 1
    assert said.endswith(
        "; to run on other data: --config.data.source=embedded, or --config=quickstart:quick\n"
    )


@pytest.mark.parametrize("source", ["import", "npz"])
def test_the_users_own_data_have_no_flags(source):
    spec = {"name": "mine:load", "source": source}
    assert main.on_other_data({"experiment": "mine", "data": spec}) is None


def test_data_that_cannot_be_fetched_may_be_files():
    config = config_of("resnet_cifar10", "paper")
    line = "--config.data.source=files --config.data.dir=FOLDER"
    assert main.on_other_data(config) == line


def test_data_that_only_their_files_hold_are_refused_without_flags(tmp_path):
    config = config_of("resnet_cifar10", "paper")
    config["data"] |= {"source": "files", "dir": str(tmp_path / "none")}
    assert main.on_other_data(config) is None
    with pytest.raises(MissingData, match="; data.source may also be 'tfds'$"):
        inputs.load(config, replicas(config), tmp_path / "run")


def test_other_errors_of_data_are_no_missing_data(tmp_path):
    config = config_of("quickstart", "quick")
    for changed, words in (
        ({"num_valid": 10**6}, "^data.num_valid must be .* got 1000000$"),
        ({"source": "embeded"}, r"did you mean 'embedded'\?$"),
    ):
        wrong = {**config, "data": config["data"] | changed}
        with pytest.raises(DataError, match=words) as error:
            inputs.load(wrong, replicas(config), tmp_path / "run")
        assert not isinstance(error.value, MissingData)


def test_a_wheel_names_the_packages_of_an_extra_and_a_clone_the_extra(tmp_path, monkeypatch):
    assert types.install_hint("sweep") == "pip install -e '.[sweep]'"
    monkeypatch.setattr(types, "__file__", str(tmp_path / "adv_jax" / "types.py"))
    lines = ["jax>=1", "ray<3,>=2.5; extra == 'sweep'", 'optuna ; extra == "sweep"']
    monkeypatch.setattr(types.importlib.metadata, "requires", lambda name: lines)
    assert types.install_hint("sweep") == "pip install 'ray<3,>=2.5' 'optuna'"
