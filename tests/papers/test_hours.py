"""The hours of what is missing, against made-up results."""

import pytest

from papers.book.reading import Results
from papers.budget import BUDGETS
from papers.hours import left
from papers.target import Row, Run, Target
from papers.trainings import plan

SEEDS = {"replicas.seeds": 3}
GAN = Run("gan_mnist", "", SEEDS)  # 100 epochs
TARGET = Target("goodfellow2014.a", "", (Row("a", GAN),))
ELSEWHERE = Target("goodfellow2014.b", "", (Row("b", GAN),))


def training(seconds, epochs, *, run=GAN, source="files", changes=()):
    """A stored training of these replicas."""
    target = Target("goodfellow2014.c", "", (Row("c", run),))
    config = plan(target, BUDGETS["paper"], runs="runs", data={})[run.key].config
    found = {"data": {"source": source}, "seconds": seconds, "epochs": epochs}
    about = {"experiment": config["experiment"], "config": {**config, **dict(changes)}}
    return {run.key: found | about | {"replicas": len(epochs)}}


def results(*targets, runs=()):
    documents = {
        str(index): {"target": target.name, "budget": budget, "trainings": trainings}
        for index, (target, budget, trainings) in enumerate(targets)
    }
    return Results(documents, dict(enumerate(runs)), {})


def missing(found, target=TARGET):
    return [one[1:] for one in left([target], found)]


def test_a_missing_target_takes_all_its_epochs_at_the_speed_of_equal_steps():
    found = results((ELSEWHERE, "short", training(360, [20] * 3)))  # 6 s an epoch
    assert missing(found) == [(None, pytest.approx(300 * 6 / 3600))]


def test_a_short_result_and_missing_seeds_of_a_full_one_count():
    short = results((TARGET, "short", training(360, [20] * 3)))
    assert missing(short) == [("short", pytest.approx(300 * 6 / 3600))]
    one_of_three = results((TARGET, "paper", training(600, [100])))
    assert missing(one_of_three) == [("paper", pytest.approx(200 * 6 / 3600))]


def test_a_full_target_is_not_listed():
    for seeds in (3, 4):
        assert missing(results((TARGET, "paper", training(600, [100] * seeds)))) == []


def test_another_model_of_the_config_gives_the_speed_only_where_no_equal_one_is_stored():
    larger = (ELSEWHERE, "short", training(600, [20] * 3, changes={"model": {"latent": 1}}))
    assert missing(results(larger)) == [(None, pytest.approx(300 * 10 / 3600))]
    equal = (TARGET, "short", training(360, [20] * 3))
    assert missing(results(larger, equal)) == [("short", pytest.approx(300 * 6 / 3600))]


def test_single_runs_give_a_speed_and_runs_on_embedded_samples_do_not():
    single = {
        "experiment": "gan_mnist",
        "data": {"source": "files"},
        "seconds": 80,
        "replicas": [{"epochs": 5}, {"epochs": 5}],
    }
    assert missing(results(runs=[single])) == [(None, pytest.approx(300 * 8 / 3600))]
    small = (TARGET, "quick", training(360, [20] * 3, source="embedded"))
    assert missing(results(small)) == [("quick", None)]
