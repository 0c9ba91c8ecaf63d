"""The plan of the campaign: missing trainings, stored values that stay, and the order."""

import json
import math

import pytest
from fabricated import finish

from adv_jax.runner.store.formats import as_json
from papers.pages import report
from papers.running import missing
from papers.running.budget import BUDGETS
from papers.running.epoch_times import Workload, measured_or_guessed, workload
from papers.running.missing import in_order, lacks, seconds_left, timed_in_workdirs
from papers.running.stored import Results
from papers.running.target import Claim, Measure, Row, Run, Target
from papers.running.trainings import plan

PAPER = BUDGETS["paper"]
SEEDS = {"replicas.seeds": 3, "evaluation.eps": (0.0, 0.25)}
PLAIN = Run("rules_mnist", "", SEEDS)
OTHER = Run("rules_mnist", "optimizer=adam", SEEDS)
ONE_SEED = Run("rules_mnist", "optimizer=adam", SEEDS | {"replicas.seeds": 1})
NUMBER = "wardefarley2016.table1_1.maxout_to_nn"
GAIN = Claim("it helps", "gain", ("other", "plain"))


def target(name, *rows, claims=()):
    return Target(f"wardefarley2016.{name}", name, rows, claims)


BASE = target("base", Row("plain", PLAIN))
GAINED = target("gained", Row("plain", PLAIN), Row("other", OTHER), claims=(GAIN,))


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setattr(missing, "TARGETS", {one.name: one for one in (BASE, GAINED)})


def document(one, *, budget="paper", values=None, **changes):
    """A stored result with these values by seed."""
    trainings = plan(
        one, PAPER, runs="runs", data={"data.source": "files", "data.dir": "elsewhere"}
    )
    entry = {"versions": {}, "device": "cpu", "seconds": 90} | changes
    return {
        "paper": one.paper,
        "target": one.name,
        "budget": budget,
        "rows": [
            {"label": r.label, "training": r.run.key, "values": values or {}, "verdict": None}
            for r in one.rows
        ],
        "claims": [],
        "trainings": {
            key: entry | {"replicas": 3, "config": as_json(training.config)}
            for key, training in trainings.items()
        },
    }


def lacking(targets, *documents):
    found = Results(dict(enumerate(documents)), {}, {})
    return lacks(targets, found, runs="runs", data={})


VALUES = {"0": 1.0, "1": 1.5, "2": 2.0}


def test_a_full_result_lacks_nothing_and_a_short_one_lacks_all():
    assert lacking([BASE], document(BASE, values=VALUES)) == []
    (lack,) = lacking([BASE], document(BASE, budget="short", values=VALUES))
    assert list(lack.trainings) == [PLAIN.key] and lack.kept == {}


def test_values_that_a_full_result_of_another_target_has_are_not_trained_again():
    (lack,) = lacking([GAINED], document(BASE, values=VALUES))
    assert list(lack.trainings) == [OTHER.key]
    assert lack.kept[PLAIN.key].values == {"plain": {0: 1.0, 1: 1.5, 2: 2.0}}


def test_values_of_other_versions_are_kept_with_them():
    older = document(BASE, values=VALUES, versions={"jax": "0.1"})
    (lack,) = lacking([GAINED], older)
    assert lack.kept[PLAIN.key].training["versions"] == {"jax": "0.1"}


def test_values_of_other_configs_or_measures_are_trained_again():
    changed = document(BASE, values=VALUES)
    changed["trainings"][PLAIN.key]["config"]["batch_size"] = 7
    assert lacking([GAINED], changed)[0].kept == {}
    attacked = target("attacked", Row("plain", PLAIN, measure=Measure("error", "fgsm", 0.25)))
    assert lacking([attacked], document(BASE, values=VALUES))[0].kept == {}


def test_a_result_is_written_of_kept_values_and_trained_ones(tmp_path):
    stored = reproduced(BASE, tmp_path / "a", lambda replica, eps: 0.01 + replica.seed / 1000)
    stored["trainings"][PLAIN.key]["versions"]["jax"] = "0.1"
    (lack,) = lacks([GAINED], Results({1: stored}, {}, {}), runs=tmp_path / "b", data={})
    for training in lack.trainings.values():
        finish(training, lambda replica, eps: 0.005)
    where = {"runs": tmp_path / "b", "results": tmp_path / "results", "data": {}}
    found = report.reproduce(GAINED, PAPER, kept=lack.kept, **where)
    plain, other = found["rows"]
    assert list(plain["values"].values()) == pytest.approx([1.1, 1.2, 1.3])  # seeds 1 to 3
    assert other["mean"] == pytest.approx(0.5)
    assert found["claims"][0]["difference"] == pytest.approx(0.7)
    assert found["trainings"][PLAIN.key] == stored["trainings"][PLAIN.key]


def reproduced(one, folder, error):
    for training in plan(one, PAPER, runs=folder, data={}).values():
        finish(training, error)
    where = {"runs": folder, "results": folder / "results", "data": {}}
    return report.reproduce(one, PAPER, **where)


def test_a_claim_needs_three_seeds_to_count_and_a_number_one():
    single = target("single", Row("plain", PLAIN), Row("other", ONE_SEED), claims=(GAIN,))
    printed = Row("other", ONE_SEED, "maronas2016.table5.row1.col1", tolerance=0.09)
    number = target("number", Row("plain", PLAIN), printed, claims=(GAIN,))
    assert [lack.verdicts for lack in lacking([GAINED, single, number])] == [1, 0, 1]


def test_a_number_that_a_single_run_decides_does_not_count():
    number = "maronas2016.table5.row1.col1"
    printed = Target("maronas2016.number", "", (Row("a", ONE_SEED, number, tolerance=0.09),), ())
    found = {"budget": "paper", "claims": []}
    of_runs = [found | {"rows": [{"label": "b", "id": number, "verdict": "reproduced"}]}]
    for documents, verdicts in ((of_runs, 0), ([of_runs[0] | {"another_way": True}], 1)):
        results = Results({}, {}, {}, of_runs={"maronas2016": documents})
        (lack,) = lacks([printed], results, runs="runs", data={})
        assert lack.verdicts == verdicts


def test_most_verdicts_per_second_come_first_and_a_shared_training_costs_once():
    """Alone: 1 / 10, 1 / 12 and 2 / 30; after the first the third costs 20 for 2, 1 / 10."""
    first = target("first", Row("plain", PLAIN), claims=(Claim("a", "gain", ("plain", "plain")),))
    second = target("second", Row("other", ONE_SEED, "maronas2016.table5.row1.col1"))
    third = target(
        "third",
        Row("plain", PLAIN),
        Row("other", OTHER),
        claims=(GAIN, Claim("b", "gain", ("plain", "other"))),
    )
    seconds = {PLAIN.key: 10, ONE_SEED.key: 12, OTHER.key: 20}
    lacks = [
        lack._replace(verdicts=max(lack.verdicts, 1)) for lack in lacking([third, second, first])
    ]
    ordered = in_order(lacks, lambda training: seconds[training.run.key])
    assert [lack.target.title for lack in ordered] == ["first", "third", "second"]


def test_targets_of_unknown_time_come_last_in_the_order_of_the_works():
    huang = Target("huang2015.a", "a", (Row("plain", ONE_SEED),))
    found = lacking([BASE, huang, GAINED])
    assert found[0].target.paper == "huang2015"
    times = {PLAIN.key: 1.0, OTHER.key: 1.0, ONE_SEED.key: math.nan}
    ordered = in_order(found, lambda training: times[training.run.key])
    assert [lack.target.title for lack in ordered] == ["gained", "base", "a"]


def test_the_time_left_is_that_of_the_epochs_of_all_replicas(tmp_path):
    (training,) = plan(BASE, PAPER, runs=tmp_path, data={}).values()
    timed = {Workload("rules_mnist"): 2.0}
    assert seconds_left(training, timed) == 2 * 3 * training.config["epochs"]
    assert math.isnan(seconds_left(training, {}))
    finish(training, lambda replica, eps: 0.01)
    assert seconds_left(training, {}) == 0


def test_another_device_gives_a_guess_scaled_by_the_workloads_that_both_have_timed():
    def timed(one, device, seconds):
        found = {"device": device, "seconds": seconds, "epochs": [30], "data": {"source": "files"}}
        return document(one, **found)

    alone = target("alone", Row("squared", Run("rules_mnist", "loss=squared_error", SEEDS)))
    found = Results(
        {0: timed(BASE, "cpu", 60), 1: timed(BASE, "H100", 3), 2: timed(alone, "cpu", 300)}, {}, {}
    )
    plain, squared = (
        workload(training.config)
        for one in (BASE, alone)
        for training in plan(one, PAPER, runs="runs", data={}).values()
    )
    speeds = measured_or_guessed(found, "H100")
    assert speeds == {plain: pytest.approx(0.1), squared: pytest.approx(10 * 0.1 / 2)}
    assert measured_or_guessed(found, "cpu")[squared] == pytest.approx(10)


def test_a_number_that_another_target_decides_is_not_open():
    both = target("both", Row("plain", PLAIN, NUMBER, 0.1), Row("other", OTHER), claims=(GAIN,))
    decided = document(BASE, budget="short", values=VALUES)
    decided["rows"][0] |= {"id": NUMBER, "verdict": "reproduced"}
    decided["claims"] = [{"text": GAIN.text, "verdict": "reproduced"}]
    (lack,) = lacking([both], decided)
    assert lack.verdicts == 2  # a short result decides nothing
    (lack,) = lacking([both], decided | {"budget": "paper"})
    assert lack.verdicts == 1  # the claim: its words may be of another test


def test_an_epoch_is_timed_by_the_newest_checkpoint_on_this_device(tmp_path):
    (training,) = plan(BASE, PAPER, runs=tmp_path, data={}).values()
    notes = {"seconds": 6000.0, "epoch_seconds": 6.0, "environment": {"device": "a card"}}
    for epoch, changes in (("1", {"epoch_seconds": 90.0}), ("12", {})):
        folder = training.workdir / "checkpoints" / epoch / "notes"
        folder.mkdir(parents=True)
        (folder / "metadata").write_text(json.dumps(notes | changes))
    assert timed_in_workdirs([training], "a card") == {
        workload(training.config): 2.0
    }  # three replicas
    assert timed_in_workdirs([training], "cpu") == {}
    del notes["epoch_seconds"]
    (folder / "metadata").write_text(json.dumps(notes))
    assert timed_in_workdirs([training], "a card") == {}
