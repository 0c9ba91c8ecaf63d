"""The hours of trainings by the epochs of made-up results."""

import pytest

from papers.running.budget import BUDGETS
from papers.running.missing import Lack, cost_on
from papers.running.power import rate_on
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


def cost(found, target=TARGET):
    """The seconds of all trainings of a target, and whether they are guessed."""
    trainings = plan(target, BUDGETS["paper"], runs="runs", data={})
    return cost_on(Lack(target, trainings, {}, 0), rate_on("cpu", found))


def test_a_missing_target_takes_all_its_epochs_at_the_speed_of_equal_steps():
    found = results((ELSEWHERE, "short", training(360, [20] * 3)))  # 6 s an epoch
    assert cost(found) == (pytest.approx(300 * 6), False)


def test_another_model_of_the_config_gives_the_speed_only_where_no_equal_one_is_stored():
    larger = (ELSEWHERE, "short", training(600, [20] * 3, changes={"model": {"latent": 1}}))
    assert cost(results(larger)) == (pytest.approx(300 * 10), True)
    equal = (TARGET, "short", training(360, [20] * 3))
    assert cost(results(larger, equal)) == (pytest.approx(300 * 6), False)


def test_single_runs_give_a_speed_and_runs_on_embedded_samples_do_not():
    single = {
        "experiment": "gan_mnist",
        "data": {"source": "files"},
        "device": "cpu",
        "seconds": 80,
        "replicas": [{"epochs": 5}, {"epochs": 5}],
    }
    assert cost(results(runs=[single])) == (pytest.approx(300 * 8), True)
    small = (TARGET, "quick", training(360, [20] * 3, source="embedded"))
    assert cost(results(small)) is None


def test_runs_on_an_accelerator_give_a_guess():
    fast = (ELSEWHERE, "short", training(6, [20] * 3, device="NVIDIA H200"))
    assert cost(results(fast)) == (pytest.approx(300 * 0.1), True)


def test_a_target_with_a_training_of_unknown_speed_is_not_timed():
    both = Target("goodfellow2014.d", "", (Row("a", GAN), Row("b", Run("vae_mnist", "", SEEDS))))
    found = results((ELSEWHERE, "short", training(360, [20] * 3)))
    assert cost(found, both) is None


def test_a_training_that_two_targets_share_counts_once_in_the_median():
    shared = training(360, [20] * 3)  # 6 s an epoch
    others = [
        training(seconds, [20] * 3, run=GAN._replace(values=SEEDS | {"epochs": 20 + seconds}))
        for seconds in (1200, 600)  # the same workload, 20 s and 10 s an epoch
    ]
    stored = [
        (ELSEWHERE._replace(name=f"goodfellow2014.{name}"), "short", one)
        for name, one in zip("efgh", (shared, shared, *others), strict=True)
    ]
    assert cost(results(*stored)) == (pytest.approx(300 * 10), False)


def test_without_equal_steps_the_runs_count_that_differ_in_the_fewest_fields():
    def timed(name, seconds, **changes):
        run = GAN._replace(values=SEEDS | changes)
        return (ELSEWHERE._replace(name=name), "short", training(seconds, [20] * 3, run=run))

    one_away = timed("goodfellow2014.e", 600, batch_size=50)
    another = timed("goodfellow2014.f", 1200, batch_size=25)
    two_away = timed("goodfellow2014.g", 60, **{"batch_size": 50, "objective.loss": "minimax"})
    found = results(one_away, another, two_away)
    assert cost(found) == (pytest.approx(300 * 15), True)
    assert cost(results(two_away)) == (pytest.approx(300 * 1), True)
