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


def test_runs_on_an_accelerator_give_a_guess():
    fast = (ELSEWHERE, "short", training(6, [20] * 3, device="NVIDIA H200"))
    assert lacked(results(fast)) == [(None, pytest.approx(300 * 0.1 / 3600), True)]
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
    others = [
        training(seconds, [20] * 3, run=GAN._replace(values=SEEDS | {"epochs": 20 + seconds}))
        for seconds in (1200, 600)  # the same steps, 20 s and 10 s an epoch
    ]
    stored = [
        (ELSEWHERE._replace(name=f"goodfellow2014.{name}"), "short", one)
        for name, one in zip("efgh", (shared, shared, *others), strict=True)
    ]
    assert lacked(results(*stored)) == [(None, pytest.approx(300 * 10 / 3600), False)]


def test_without_equal_steps_the_runs_count_that_differ_in_the_fewest_fields():
    def timed(name, seconds, **changes):
        run = GAN._replace(values=SEEDS | changes)
        return (ELSEWHERE._replace(name=name), "short", training(seconds, [20] * 3, run=run))

    one_away = timed("goodfellow2014.e", 600, batch_size=50)
    another = timed("goodfellow2014.f", 1200, batch_size=25)
    two_away = timed("goodfellow2014.g", 60, **{"batch_size": 50, "objective.loss": "minimax"})
    found = results(one_away, another, two_away)
    assert lacked(found) == [(None, pytest.approx(300 * 15 / 3600), True)]
    assert lacked(results(two_away)) == [(None, pytest.approx(300 * 1 / 3600), True)]
