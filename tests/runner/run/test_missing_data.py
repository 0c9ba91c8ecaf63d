"""Data that cannot be loaded: the error names what to run instead."""

import re

import pytest
from config_files import config_of

from adv_jax import types
from adv_jax.data import DataError, load
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
    with pytest.raises(DataError, match=f"; to run on other data: {re.escape(line)}$"):
        inputs.load_to_train(config, replicas(config), tmp_path / "run")


def test_data_that_cannot_be_fetched_may_be_files(tmp_path, monkeypatch):
    def missing(spec):
        raise DataError("no network")

    monkeypatch.setattr(inputs, "_dataset", missing)
    config = config_of("resnet_cifar10", "paper")
    line = "no network; to run on other data: --config.data.source=files --config.data.dir=FOLDER"
    with pytest.raises(DataError, match=f"^{line}$"):
        inputs.load_to_train(config, replicas(config), tmp_path / "run")


def test_data_that_only_their_files_hold_are_refused_without_them(tmp_path):
    config = config_of("resnet_cifar10", "paper")
    config["data"] |= {"source": "files", "dir": str(tmp_path / "none")}
    with pytest.raises(DataError, match="; the other source is 'tfds'$"):
        inputs.load_to_train(config, replicas(config), tmp_path / "run")


def test_sizes_that_do_not_fit_the_data_are_refused_without_them(tmp_path, monkeypatch):
    monkeypatch.setattr(inputs, "_dataset", lambda spec: load("mnist", source="embedded"))
    config = config_of("quickstart", "paper")
    config["data"] |= {"source": "files", "num_valid": 10**6}
    with pytest.raises(DataError, match="^data.num_valid must be .* got 1000000$"):
        inputs.load_to_train(config, replicas(config), tmp_path / "run")


def test_an_unknown_source_is_refused_without_them(tmp_path):
    config = config_of("quickstart", "quick")
    config["data"]["source"] = "embeded"
    with pytest.raises(DataError, match="did you mean 'embedded'\\?$"):
        inputs.load_to_train(config, replicas(config), tmp_path / "run")


def test_a_wheel_names_the_packages_of_an_extra_and_a_clone_the_extra(tmp_path, monkeypatch):
    assert types.install_hint("sweep") == "pip install -e '.[sweep]'"
    monkeypatch.setattr(types, "__file__", str(tmp_path / "adv_jax" / "types.py"))
    lines = ["jax>=1", "ray<3,>=2.5; extra == 'sweep'", 'optuna ; extra == "sweep"']
    monkeypatch.setattr(types.importlib.metadata, "requires", lambda name: lines)
    assert types.install_hint("sweep") == "pip install 'ray<3,>=2.5' 'optuna'"
