"""The planned trainings of targets: sources, options and workdirs."""

from pathlib import Path

from papers.running.budget import BUDGETS
from papers.running.target import Row, Run, Target
from papers.running.trainings import plan
from papers.running.works import TARGETS


def test_a_source_is_trained_first_and_its_workdir_is_in_the_options():
    trainings = list(
        plan(TARGETS["huang2015.table1"], BUDGETS["short"], runs="r", data={}).values()
    )
    source, *others = trainings
    assert source.config["seed"] == 101 and source.config["objective"]["name"] == "cross_entropy"
    assert len(others) == 5
    for training in others:
        fixed = training.config["evaluation"]["attacks"]["fixed"]
        assert fixed["source_fn"] == str(source.workdir)
        assert f"fixed={source.workdir}" in training.command
    # A fifth of 50 + 35 epochs, the rate falling after 10.
    lwa = others[3].config
    assert lwa["objective"]["name"] == "lwa" and lwa["epochs"] == 17
    assert lwa["optimizer"]["learning_rate"]["boundaries"] == (10,)


def test_absolute_and_relative_folders_give_the_same_config(tmp_path, monkeypatch):
    """The config of a run holds the workdir of its source, and its own workdir is named by that."""
    here = tmp_path / "here"
    here.mkdir()
    (here / "link").symlink_to("r")
    monkeypatch.chdir(here)
    planned = lambda runs: plan(TARGETS["huang2015.table1"], BUDGETS["short"], runs=runs, data={})
    expected = planned("r")
    assert {training.workdir.parent for training in expected.values()} == {Path("r")}
    for runs in (here / "r", "./r", "../here/r", "link"):
        assert planned(runs) == expected
    elsewhere = planned("../r")
    assert {training.workdir.parent for training in elsewhere.values()} == {tmp_path / "r"}
    assert planned(tmp_path / "r") == elsewhere


def test_a_source_of_a_source_is_trained_first():
    first = Run("dbm_mnist", "training=stacked")
    second = Run("dbm_mnist", "pretrained={source}", source=first)
    third = Run("mlp_mnist", "net=dbm,pretrained={source}", source=second)
    target = Target("maronas2016.chain", "a chain", (Row("last", third),))
    stack, machine, net = plan(target, BUDGETS["quick"], runs="runs", data={}).values()
    assert (stack.run, machine.run.source, net.run.source) == (first, first, second)
    assert machine.config["pretrained"]["workdir"] == str(stack.workdir)
    assert net.config["pretrained"]["workdir"] == str(machine.workdir)
