"""Every target fits to the papers' numbers and to the configs, with every budget."""

import inspect
import json
import re
from pathlib import Path

import numpy as np
import pytest
from absl import flags
from ml_collections import config_flags

from adv_jax.runner import catalogue
from adv_jax.runner.config import replicas, validate
from adv_jax.types import UserError
from papers import numbers
from papers.budget import BUDGETS, changes, config_of, options
from papers.comparison import judged_again, metric, ours
from papers.maronas2016 import targets as maronas
from papers.registry import FIGURES, TARGETS
from papers.target import METRICS, Below, Drawn, Falling, Lowest, Measure, Row, Run, Target
from papers.trainings import plan, same_point

RESULTS = Path(__file__).parents[2] / "papers"
RUNS = {run.key: run for target in TARGETS.values() for run in target.runs}


@pytest.fixture(scope="module")
def configs():
    """Key of a run -> its config with the budget of the paper."""
    return {key: config_of(run, BUDGETS["paper"], {}) for key, run in RUNS.items()}


def flaws(target, configs):
    """What does not fit in a target: a line each."""
    paper = numbers.load().get(target.paper)
    if paper is None:
        yield f"there is no paper {target.paper}"
        return
    figure = FIGURES.get(target.name)
    if target.is_drawn and "workdirs" not in inspect.signature(figure or flaws).parameters:
        yield f"there is no figure {target.name} of runs"
    labels = [row.label for row in target.rows]
    if len(set(labels)) < len(labels):
        yield "a label occurs twice"
    for label in labels:
        if re.search(r"=|[a-z0-9]_[a-z0-9]", label):
            yield f"{label} is a key, not words"
    for row in target.rows:
        config = configs[row.run.key]
        if row.paper is not None and row.paper not in paper.entries:
            yield f"{row.paper} is no number of the paper"
        elif metric(row) not in METRICS:
            yield f"{row.label}: nothing is known of the metric {metric(row)}"
        if isinstance(row.measure, Drawn):
            continue
        what, attack, eps, _ = row.measure
        evaluation = config["evaluation"]
        if attack is not None and attack not in evaluation["attacks"]:
            yield f"{row.label}: {attack} is not evaluated"
        if attack is not None and eps not in evaluation["eps"]:
            yield f"{row.label}: eps {eps} is not evaluated"
        if attack is None and what not in ("error", "confidence"):
            yield f"{row.label}: there is no clean {what}"
        if not any(same_point(row.at, replica.overrides) for replica in replicas(config)):
            yield f"{row.label}: no replica is at {dict(row.at)}"
    for claim in target.claims:
        if claim.paper is not None and claim.paper not in paper.entries:
            yield f"{claim.paper} is no claim of the paper"
        named = {
            Below: lambda claim: (claim.lower, claim.higher),
            Lowest: lambda claim: (claim.row, *claim.among),
            Falling: lambda claim: claim.rows,
        }[type(claim)](claim)
        yield from (f"there is no row {label}" for label in named if label not in labels)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_a_target_fits_to_the_paper_and_to_its_configs(target, configs):
    assert list(flaws(target, configs)) == []


@pytest.mark.parametrize(
    ("row", "claims", "flaw"),
    [
        (Row("a", Run("quickstart"), "maronas2016.table4.row2"), (), "is no number of the paper"),
        (Row("a", Run("quickstart"), at={"objective.attack.eps": 1.0}), (), "no replica is at"),
        (Row("a", Run("quickstart"), metric="mood"), (), "nothing is known of the metric mood"),
        (
            Row("a", Run("quickstart"), measure=Drawn("b")),
            (),
            "no figure maronas2016.table0 of runs",
        ),
        (Row("a", Run("quickstart")), (Below("", "a", "b"),), "there is no row b"),
        (Row("pgd_40", Run("quickstart")), (), "pgd_40 is a key, not words"),
        (Row("noise=udg, tau .25", Run("quickstart")), (), "is a key, not words"),
        (Row("a", Run("quickstart")), (Lowest("", "a", paper="maronas2016.x"),), "no claim of the"),
    ],
)
def test_what_does_not_fit_is_found(row, claims, flaw):
    target = Target("maronas2016.table0", "", (row,), claims)
    (found,) = flaws(target, {row.run.key: config_of(row.run, BUDGETS["paper"], {})})
    assert flaw in found


def test_every_table_of_maronas_has_a_target_whose_cells_are_all_of_the_paper():
    of_paper = {
        name
        for name, entry in numbers.load()["maronas2016"].entries.items()
        if entry["kind"] in ("result", "search")
    }
    covered = {row.paper for target in TARGETS.values() for row in target.rows}
    assert of_paper <= covered
    assert {f"maronas2016.table{n}" for n in range(4, 29)} <= TARGETS.keys()


@pytest.mark.parametrize("name", [name for name in TARGETS if name.startswith("maronas.")])
def test_the_settings_of_a_row_are_those_that_the_paper_prints(name, configs):
    for row in TARGETS[name].rows:
        entry = numbers.entry(row.paper) if row.paper else {}
        if entry.get("kind") not in ("result", "search"):
            continue
        config = configs[row.run.key]
        runs = [r for r in replicas(config) if same_point(row.at, r.overrides)]
        assert len(runs) == entry["n_runs"] and [r.seed for r in runs] == entry["seeds"]
        assert config["epochs"] == entry["epochs"]
        assert config["data"]["num_labels"] == (entry["n_labels"] % 60000)
        if "ambiguous" in entry["confidence"]:
            continue  # Of these the config says which reading it has.
        for field, tau in (
            ("attack", entry.get("tau_supervised")),
            ("unlabelled_attack", entry.get("tau_unsupervised")),
        ):
            attack = config["objective"].get(field)
            assert (attack is None) == (not tau)
            if attack is not None:
                size = "tau" if attack["name"] == "raw_gradient" else "eps"
                found = runs[0].overrides.get(f"objective.{field}.{size}", attack[size])
                scale = 100 if size == "tau" else 1  # of the mean over a batch of 100
                assert found * scale == pytest.approx(tau)


@pytest.mark.parametrize("budget", BUDGETS.values(), ids=BUDGETS)
@pytest.mark.parametrize("config", sorted({run.config for run in RUNS.values()}))
def test_every_budget_gives_a_config_that_can_run_and_the_command_gives_the_same(config, budget):
    data = {"data.source": "files", "data.dir": "/some where"}
    for run in [run for run in RUNS.values() if run.config == config][:4]:
        made = config_of(run, budget, data)
        validate(made)
        mode = options(run, budget)
        line = ["main", f"--config={run.config}{':' if mode else ''}{mode}"]
        line += [f"--config.{path}={value}" for path, value in changes(run, budget, data).items()]
        line = catalogue.located(line)
        values = flags.FlagValues()
        flag = config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=line)
        values(line)
        assert flag.value.to_dict() == made


def test_a_source_is_trained_first_and_its_workdir_named_by_what_needs_it():
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


def test_a_folder_has_one_name_however_it_is_given(tmp_path, monkeypatch):
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


def test_a_measure_may_be_the_mean_of_the_last_epochs():
    row = Row("a", Run("quickstart"), "nokland2015.table2.relu.2x400", measure=Measure(last=2))
    result = {"replicas": [{"seed": 7, "overrides": {}}, {"seed": 8, "overrides": {}}]}
    errors = [(0, 0.5), (1, 0.9), (0, 0.02), (1, 0.04), (0, 0.01), (1, 0.03)]
    lines = [{"replica": i, "test_error": error} for i, error in errors]
    lines.insert(3, {"replica": 0, "loss": 1.0})  # an epoch that was not tested
    assert ours(row, row.measure, result, lines) == pytest.approx({7: 1.5, 8: 3.5})


def test_an_option_that_a_config_has_not_is_one_line():
    with pytest.raises(
        UserError, match="configs/huang_mlp_mnist.py: mode must be paper or quick, got 'b'"
    ):
        config_of(Run("huang_mlp_mnist", "fixed=a,b"), BUDGETS["paper"], {})


def test_what_the_budgets_change():
    run = Run("ladder_mnist", "table=13")
    by_name = {name: config_of(run, BUDGETS[name], {}) for name in BUDGETS}
    paper, short, quick = by_name["paper"], by_name["short"], by_name["quick"]
    assert [len(replicas(config)) for config in (paper, short, quick)] == [28, 28, 4]
    assert [config["epochs"] for config in (paper, short, quick)] == [150, 30, 20]
    rate = short["optimizer"]["learning_rate"]
    assert (rate["transition_begin"], rate["transition_steps"]) == pytest.approx((20.1, 9.9))
    assert (paper["data"]["source"], quick["data"]["source"]) == ("tfds", "embedded")
    ten = Run("ladder_mnist", "table=20")
    seeds = [
        config_of(ten, BUDGETS[n], {})["replicas"]["seeds"] for n in ("paper", "short", "quick")
    ]
    assert seeds == [10, 3, 2]
    few = [BUDGETS[n].limited(seeds=2, epochs=None) for n in ("paper", "short", "quick")]
    assert [config_of(ten, budget, {})["replicas"]["seeds"] for budget in few] == [2, 2, 2]
    assert config_of(ten, few[0], {})["epochs"] == 150
    assert (
        config_of(ten, BUDGETS["quick"].limited(seeds=5, epochs=None), {})["replicas"]["seeds"] == 2
    )
    shallow = config_of(Run("shallow_mnist", "model=A"), BUDGETS["short"], {})
    assert (shallow["epochs"], shallow["patience"], shallow["replicas"]["seeds"]) == (300, 20, 1)
    assert shallow["optimizer"]["momentum"]["transition_steps"] == 2  # a fifth of 9


def test_fewer_epochs_are_those_of_a_budget_that_is_not_the_papers():
    run = Run("ladder_mnist", "table=20")
    for name, epochs, expected in (("short", 10, 10), ("short", 40, 30), ("quick", 5, 5)):
        config = config_of(run, BUDGETS[name].limited(seeds=None, epochs=epochs), {})
        rate = config["optimizer"]["learning_rate"]
        assert config["epochs"] == expected
        assert rate["transition_begin"] == pytest.approx(0.67 * expected)
        assert rate["transition_begin"] + rate["transition_steps"] == pytest.approx(expected)
    with pytest.raises(
        UserError, match="epochs must be unset with the budget paper.*quick or short.*got 10"
    ):
        BUDGETS["paper"].limited(seeds=None, epochs=10)


def test_all_that_counts_epochs_is_shortened_alike():
    run = Run("goodfellow_mnist", "method=plain")
    paper, short = (config_of(run, BUDGETS[name], {})["optimizer"] for name in ("paper", "short"))

    def rate(spec, epoch):
        start, steps, decay = (
            spec["learning_rate"][k] for k in ("init_value", "transition_steps", "decay_rate")
        )
        return start * decay ** (epoch / steps)

    def momentum(spec, epoch):
        return 0.5 + 0.2 * min(1, epoch / spec["momentum"]["transition_steps"])

    for epoch in (0, 7, 40, 99):
        assert rate(short, epoch) == pytest.approx(rate(paper, 5 * epoch))
        # 249 epochs become 50, as they are whole.
        assert momentum(short, epoch) == pytest.approx(momentum(paper, 5 * epoch), rel=1e-3)
    assert rate(short, 99) < 0.4 * rate(short, 0)  # 1.000004^-247,500 is .37
    plateau = config_of(Run("backprop_cifar10", "net=fc"), BUDGETS["short"], {})["optimizer"]
    assert plateau["plateau"]["patience"] == 1  # of 3


def test_what_counts_as_equal_is_the_repeatability_limit_of_the_printed_spread():
    """1.96 sqrt(2) = 2.77 standard deviations of a run; in the tables of ten without outliers."""
    for name in ("nokland2015.table2", "nokland2015.table3"):
        for row in TARGETS[name].rows:
            spread = numbers.entry(row.paper)["spread"] if row.paper else None
            assert row.tolerance == (spread and pytest.approx(2.77 * spread, rel=0.02)), row.label
    for table, outliers in ((17, ()), (20, (8,))):
        (row,) = TARGETS[f"maronas2016.table{table}"].rows
        runs = numbers.entry(row.paper)["per_seed"].items()
        spread = np.std([v for seed, v in runs if int(seed) not in outliers], ddof=1)
        assert row.tolerance == pytest.approx(2.77 * spread, rel=0.15), row.label


@pytest.mark.parametrize(
    "name", [n for n, target in TARGETS.items() if target.file(RESULTS).exists()]
)
def test_the_stored_verdicts_follow_from_the_stored_values(name):
    """If not: python -m launch.reproduce all --judge"""
    found = json.loads(TARGETS[name].file(RESULTS).read_text())
    again = judged_again(TARGETS[name], found)
    assert found["rows"] == again["rows"] and found["claims"] == again["claims"]
    assert found["trainings"] == again["trainings"]
    told = TARGETS[name].file(RESULTS).with_suffix(".md").read_text()
    for claim in found["claims"]:
        assert f"- **{claim['verdict']}**: {claim['text']} ({claim['why']})." in told


@pytest.mark.parametrize("table", maronas.TEN_SEEDS)
def test_the_title_of_a_table_has_the_noise_that_is_trained_and_what_else_is_printed(table):
    target = TARGETS[f"maronas2016.table{table}"]
    objective = config_of(target.rows[0].run, BUDGETS["paper"], {})["objective"]
    entry = numbers.entry(target.rows[0].paper)
    title = target.title.replace("SGN and norm 4.5e-5", "SGN 4.5e-5 and norm 4.5e-5")
    for word, field, printed in (
        ("SGN", "attack", "tau_supervised"),
        ("norm", "unlabelled_attack", "tau_unsupervised"),
    ):
        said = re.search(rf"{word} (\S+)", title.partition(" (caption")[0])
        assert (said is not None) == (field in objective)
        if said is None:
            continue
        trained = objective[field]["eps"]
        assert float(said[1]) == trained
        if trained != pytest.approx(entry[printed]):
            assert f"(caption: both {entry[printed]:g}".replace("e-05", "e-5") in title
