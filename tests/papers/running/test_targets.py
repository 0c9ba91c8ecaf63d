"""Every target fits to the papers' numbers and to the configs, with every budget."""

import inspect
import json
import re
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from adv_jax.runner.config.replicas import replicas
from papers.judging import numbers
from papers.judging.claims import ORDERS
from papers.judging.documents import Form
from papers.judging.metrics import METRICS, in_percent
from papers.maronas2016 import targets as maronas
from papers.running.budget import BUDGETS, config_of
from papers.running.comparison import metric
from papers.running.target import Claim, Drawn, Row, Run, Target
from papers.running.trainings import same_point
from papers.running.works import FIGURES, TARGETS

RESULTS = Path(__file__).parents[3] / "papers"
RUNS = {run.key: run for target in TARGETS.values() for run in target.runs}


@pytest.fixture(scope="module")
def configs():
    """Key of a run -> its config with the budget of the paper."""
    return {key: config_of(run, BUDGETS["paper"], {}) for key, run in RUNS.items()}


def flaws(target, configs):
    """Returns a line for each fault of a target."""
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
        if row.id is not None and row.id not in paper.entries:
            yield f"{row.id} is no number of the paper"
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
        if claim.id is not None and claim.id not in paper.entries:
            yield f"{claim.id} is no claim of the paper"
        if claim.form not in get_args(Form):
            yield f"there is no form {claim.form}"
        elif len(claim.rows) < 2 or (claim.form not in ORDERS and len(claim.rows) > 2):
            yield f"a claim of the form {claim.form} is not of {len(claim.rows)} rows"
        if (claim.form in ("size", "no loss")) == (None in (claim.by, claim.tolerance)):
            yield f"by and tolerance do not fit the form {claim.form}"
        yield from (f"there is no row {label}" for label in claim.rows if label not in labels)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_a_target_fits_to_the_paper_and_to_its_configs(target, configs):
    assert list(flaws(target, configs)) == []


PAIR = ("a", "a")


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
        (Row("a", Run("quickstart")), (Claim("", "gain", ("a", "b")),), "there is no row b"),
        (Row("pgd_40", Run("quickstart")), (), "pgd_40 is a key, not words"),
        (Row("noise=udg, tau .25", Run("quickstart")), (), "is a key, not words"),
        (
            Row("a", Run("quickstart")),
            (Claim("", "gain", PAIR, "maronas2016.x"),),
            "no claim of the",
        ),
        (Row("a", Run("quickstart")), (Claim("", "best", PAIR),), "there is no form best"),
        (Row("a", Run("quickstart")), (Claim("", "gain", ("a",)),), "gain is not of 1 rows"),
        (Row("a", Run("quickstart")), (Claim("", "gain", (*PAIR, "a")),), "gain is not of 3 rows"),
        (Row("a", Run("quickstart")), (Claim("", "lowest", ("a",)),), "lowest is not of 1 rows"),
        (Row("a", Run("quickstart")), (Claim("", "size", PAIR, by=1),), "do not fit the form size"),
    ],
)
def test_a_misfit_of_a_target_is_found(row, claims, flaw):
    target = Target("maronas2016.table0", "", (row,), claims)
    (found,) = flaws(target, {row.run.key: config_of(row.run, BUDGETS["paper"], {})})
    assert flaw in found


def test_every_table_of_maronas_has_a_target_whose_cells_are_all_of_the_paper():
    of_paper = {
        name
        for name, entry in numbers.load()["maronas2016"].entries.items()
        if entry["kind"] in ("result", "search")
    }
    covered = {row.id for target in TARGETS.values() for row in target.rows}
    assert of_paper <= covered
    assert {f"maronas2016.table{n}" for n in range(1, 29)} <= TARGETS.keys()


@pytest.mark.parametrize("name", [name for name in TARGETS if name.startswith("maronas2016.")])
def test_the_settings_of_a_row_are_those_that_the_paper_prints(name, configs):
    for row in TARGETS[name].rows:
        entry = numbers.entry(row.id) if row.id else {}
        if entry.get("kind") not in ("result", "search"):
            continue
        config = configs[row.run.key]
        runs = [r for r in replicas(config) if same_point(row.at, r.overrides)]
        assert len(runs) == entry["n_runs"] and [r.seed for r in runs] == entry["seeds"]
        assert config["epochs"] == entry["epochs"]
        assert config["data"]["num_labels"] == (entry["n_labels"] % 60000)
        entry = entry | entry.get("meant", {})
        for field, tau in (
            ("attack", entry.get("tau_supervised")),
            ("unlabeled_attack", entry.get("tau_unsupervised")),
        ):
            attack = config["objective"].get(field)
            assert (attack is None) == (not tau)
            if attack is not None:
                size = "tau" if attack["name"] == "raw_gradient" else "eps"
                found = runs[0].overrides.get(f"objective.{field}.{size}", attack[size])
                scale = 100 if size == "tau" else 1  # of the mean over a batch of 100
                assert found * scale == pytest.approx(tau)


def test_tolerances_are_the_repeatability_limit_of_the_printed_spread():
    """1.96 sqrt(2) = 2.77 standard deviations of a run; in the tables of ten without outliers."""
    for name in ("nokland2015.table2", "nokland2015.table3"):
        for row in TARGETS[name].rows:
            spread = numbers.entry(row.id)["spread"] if row.id else None
            assert row.tolerance == (spread and pytest.approx(2.77 * spread, rel=0.02)), row.label
    for table, outliers in ((17, ()), (20, (8,))):
        (row,) = TARGETS[f"maronas2016.table{table}"].rows
        runs = numbers.entry(row.id)["per_seed"].items()
        spread = np.std([v for seed, v in runs if int(seed) not in outliers], ddof=1)
        assert row.tolerance == pytest.approx(2.77 * spread, rel=0.15), row.label


def stored(name):
    return json.loads(TARGETS[name].file(RESULTS).read_text())


def test_no_claim_of_equal_rates_compares_rows_that_are_all_wrong_or_all_right():
    compared = 0
    for name, target in TARGETS.items():
        if not target.file(RESULTS).exists():
            continue
        document = stored(name)
        means = {row["label"]: in_percent(row)["mean"] for row in document["rows"]}
        for claim in document["claims"]:
            if claim["form"] in ("size", "no loss"):
                compared += 1
                assert all(0.1 < means[label] < 99.9 for label in claim["rows"]), claim["text"]
    assert compared > 2


def test_lwa_is_compared_only_where_it_learns_clean_digits():
    document = stored("huang2015.training_c")
    mean = {row["label"]: row["mean"] for row in document["rows"]}
    methods = [label.rpartition(", ")[0] for claim in document["claims"] for label in claim["rows"]]
    assert methods and all(mean[f"{method}, clean"] > 0.9 for method in methods)
    assert mean["LWA, c 3.5, clean"] < 0.5 < mean["LWA, c 3.5, Adv_Loss"]


@pytest.mark.parametrize("table", maronas.TEN_SEEDS)
def test_the_title_of_a_table_has_its_trained_noise_and_its_caption(table):
    target = TARGETS[f"maronas2016.table{table}"]
    objective = config_of(target.rows[0].run, BUDGETS["paper"], {})["objective"]
    entry = numbers.entry(target.rows[0].id)
    title = target.title.replace("SGN and norm 4.5e-5", "SGN 4.5e-5 and norm 4.5e-5")
    for word, field, printed in (
        ("SGN", "attack", "tau_supervised"),
        ("norm", "unlabeled_attack", "tau_unsupervised"),
    ):
        said = re.search(rf"{word} (\S+)", title.partition(" (caption")[0])
        assert (said is not None) == (field in objective)
        if said is None:
            continue
        trained = objective[field]["eps"]
        assert float(said[1]) == trained
        if trained != pytest.approx(entry[printed]):
            assert f"(caption: both {entry[printed]:g}".replace("e-05", "e-5") in title
