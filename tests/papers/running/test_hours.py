"""The hours of what is missing, against made-up results."""

import pytest

from papers.running.budget import BUDGETS
from papers.running.hours import missing
from papers.running.stored import Results
from papers.running.target import Row, Run, Target
from papers.running.trainings import plan

SEEDS = {"replicas.seeds": 3}
GAN = Run("gan_mnist", "", SEEDS)  # 100 epochs
TARGET = Target("goodfellow2014.a", "", (Row("a", GAN),))
ELSEWHERE = Target("goodfellow2014.b", "", (Row("b", GAN),))


def training(seconds, epochs, *, run=GAN, source="files", device="cpu", changes=()):
    """A stored training of these replicas."""
    target = Target("goodfellow2014.c", "", (Row("c", run),))
    config = plan(target, BUDGETS["paper"], runs="runs", data={})[run.key].config
    found = {"data": {"source": source}, "device": device, "seconds": seconds, "epochs": epochs}
    about = {"experiment": config["experiment"], "config": {**config, **dict(changes)}}
    return {run.key: found | about | {"replicas": len(epochs)}}


def results(*targets, runs=()):
    documents = {
        str(index): {"target": target.name, "budget": budget, "trainings": trainings}
        for index, (target, budget, trainings) in enumerate(targets)
    }
    return Results(documents, dict(enumerate(runs)), {})


def lacked(found, target=TARGET):
    return [one[1:] for one in missing([target], found)]


def test_a_missing_target_takes_all_its_epochs_at_the_speed_of_equal_steps():
    found = results((ELSEWHERE, "short", training(360, [20] * 3)))  # 6 s an epoch
    assert lacked(found) == [(None, pytest.approx(300 * 6 / 3600), False)]


def test_a_short_result_and_missing_seeds_of_a_full_one_count():
    short = results((TARGET, "short", training(360, [20] * 3)))
    assert lacked(short) == [("short", pytest.approx(300 * 6 / 3600), False)]
    one_of_three = results((TARGET, "paper", training(600, [100])))
    assert lacked(one_of_three) == [("paper", pytest.approx(200 * 6 / 3600), False)]


def test_a_full_target_is_not_listed():
    for seeds in (3, 4):
        assert lacked(results((TARGET, "paper", training(600, [100] * seeds)))) == []


def test_another_model_of_the_config_gives_the_speed_only_where_no_equal_one_is_stored():
    larger = (ELSEWHERE, "short", training(600, [20] * 3, changes={"model": {"latent": 1}}))
    assert lacked(results(larger)) == [(None, pytest.approx(300 * 10 / 3600), True)]
    equal = (TARGET, "short", training(360, [20] * 3))
    assert lacked(results(larger, equal)) == [("short", pytest.approx(300 * 6 / 3600), False)]


def test_single_runs_give_a_speed_and_runs_on_embedded_samples_do_not():
    single = {
        "experiment": "gan_mnist",
        "data": {"source": "files"},
        "device": "cpu",
        "seconds": 80,
        "replicas": [{"epochs": 5}, {"epochs": 5}],
    }
    assert lacked(results(runs=[single])) == [(None, pytest.approx(300 * 8 / 3600), True)]
    small = (TARGET, "quick", training(360, [20] * 3, source="embedded"))
    assert lacked(results(small)) == [("quick", None, True)]


def test_runs_on_an_accelerator_give_no_speed():
    fast = (ELSEWHERE, "short", training(6, [20] * 3, device="NVIDIA H200"))
    assert lacked(results(fast)) == [(None, None, True)]
    assert lacked(results((TARGET, "paper", training(6, [100] * 3, device="NVIDIA H200")))) == []


def test_trainings_in_full_of_another_target_are_not_missing():
    assert lacked(results((ELSEWHERE, "paper", training(600, [100] * 3)))) == []
    both = Target(
        "goodfellow2014.d", "", (Row("a", GAN), Row("b", Run("gan_mnist", "loss=minimax")))
    )
    found = results((ELSEWHERE, "paper", training(1800, [100] * 3)))
    assert lacked(found, both) == [(None, pytest.approx(100 * 6 / 3600), True)]  # another objective


def test_a_target_with_a_training_of_unknown_speed_is_not_timed():
    both = Target("goodfellow2014.d", "", (Row("a", GAN), Row("b", Run("vae_mnist", "", SEEDS))))
    found = results((ELSEWHERE, "short", training(360, [20] * 3)))
    assert lacked(found, both) == [(None, None, True)]


def test_a_training_that_two_targets_share_counts_once_in_the_median():
    shared = training(360, [20] * 3)  # 6 s an epoch
    other = training(1200, [20] * 3, run=Run("gan_mnist", "loss=minimax", SEEDS))  # 20 s
    third = training(600, [20] * 3, run=Run("gan_mnist", "loss=minimax"))  # 10 s
    stored = [
        (t, "short", shared) for t in (ELSEWHERE, ELSEWHERE._replace(name="goodfellow2014.e"))
    ]
    stored += [
        (ELSEWHERE._replace(name=f"goodfellow2014.{n}"), "short", t)
        for n, t in (("f", other), ("g", third))
    ]
    unlike = Target(
        "goodfellow2014.h", "", (Row("a", Run("gan_mnist", "", SEEDS | {"batch_size": 50})),)
    )
    assert lacked(results(*stored), unlike) == [(None, pytest.approx(300 * 10 / 3600), True)]
