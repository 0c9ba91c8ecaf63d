"""The seeds that would settle the unclear, against findings of made-up seeds and simulations."""

import math

import numpy as np
import pytest
from scipy import stats

from papers.judging.verdicts import judge
from papers.running.epoch_times import workload
from papers.running.power import MOST_SEEDS, Cost, Rate, seeds_needed

ID = "maronas2016.table5.row1.col1"
CONFIG = {"experiment": "a", "model": {}, "objective": {}, "batch_size": 1, "data": {}}
WORKLOAD = workload(CONFIG)


def of(n, mean, sd):
    """n values with this mean and sd."""
    values = np.arange(n) - (n - 1) / 2
    return mean + sd * values / np.std(values, ddof=1)


def row(label, values, paper=None, sd=None, n=None, tolerance=None, training=""):
    return {
        "label": label,
        "id": None if paper is None else ID,
        "metric": "error_percent",
        "paper": paper,
        "paper_sd": sd,
        "paper_n": n,
        "tolerance": tolerance,
        "values": {str(seed): float(value) for seed, value in enumerate(values)},
        "training": training or label,
    }


def judged(rows, *claims, budget="paper", **training):
    training = {"epochs": [40, 60], "paper_epochs": 500, "device": "cpu", **training}
    return judge(
        [
            {
                "budget": budget,
                "rows": rows,
                "claims": [{"text": "", "id": None, **claim} for claim in claims],
                "trainings": {row["training"]: training for row in rows},
            }
        ]
    )[0]


def needed(rows, *claims, rates=None, **settings):
    """What would settle the only unclear number or claim."""
    ((_, found),) = seeds_needed(judged(rows, *claims, **settings), rates or {})
    return found


@pytest.mark.parametrize(("mean", "sd", "tolerance"), [(1.2, 0.1, 0.14), (0.87, 0.05, 0.1)])
def test_the_planned_seeds_settle_a_number_and_one_fewer_does_not(mean, sd, tolerance):
    paper = (1.0, 0.02, 6, tolerance)
    found = needed([row("a", of(3, mean, sd), *paper)])

    def verdict(n):
        return judged([row("a", of(n, mean, sd), *paper)])["rows"][0]["verdict"]

    assert verdict(found.seeds - 1) == "unclear" != verdict(found.seeds)


@pytest.mark.parametrize("stored", [6, 8])
def test_fewer_seeds_than_are_stored_settle_nothing(stored):
    """With a single run of the paper 2 to 5 seeds are consistent, 6 to 9 unclear."""
    paper = (0.0, None, 1, 1.0)
    verdicts = {
        n: judged([row("a", of(n, 0.6, 0.2), *paper)])["rows"][0]["verdict"] for n in range(2, 40)
    }
    assert verdicts[2] == "consistent" and verdicts[stored] == "unclear"
    found = needed([row("a", of(stored, 0.6, 0.2), *paper)]).seeds
    assert found == min(n for n in range(stored + 1, 40) if verdicts[n] != "unclear")


def test_a_single_run_of_the_paper_may_leave_a_number_unclear_for_ever():
    paper = (1.0, None, 1, 0.1)
    found = needed([row("a", of(3, 1.11, 0.06), *paper)])
    left = stats.t.isf(0.025, MOST_SEEDS - 1) * 0.06 * math.sqrt(1 + 1 / MOST_SEEDS)
    words = f"more than 1,000 seeds would be needed, as the paper's 1 run leaves +-{left:.3g}"
    assert found.seeds is None and str(found) == words
    assert judged([row("a", of(MOST_SEEDS, 1.11, 0.06), *paper)])["rows"][0]["verdict"] == "unclear"


def test_the_planned_seeds_find_a_gain_in_eight_of_ten_experiments():
    gain, sd = 0.5, 0.8
    lower, higher = row("low", np.zeros(3)), row("high", of(3, gain, sd))
    seeds = needed([lower, higher], {"form": "gain", "rows": ["low", "high"]}).seeds

    def power(n):
        trials = np.random.default_rng(0).normal(gain, sd, (20_000, n))
        return (stats.ttest_1samp(trials, 0, axis=1).pvalue < 0.05).mean()

    assert power(seeds - 1) < 0.8 < power(seeds)


def test_the_planned_seeds_refute_a_gain():
    claim = {"form": "gain", "rows": ["low", "high"]}
    found = needed([row("low", np.zeros(3)), row("high", of(3, -0.1, 0.2))], claim)

    def verdict(n):
        rows = [row("low", np.zeros(n)), row("high", of(n, -0.1, 0.2))]
        return judged(rows, claim)["claims"][0]["verdict"]

    assert [verdict(found.seeds - 1), verdict(found.seeds)] == ["unclear", "not reproduced"]


@pytest.mark.slow
def test_the_planned_seeds_show_no_loss():
    claim = {"form": "no loss", "rows": ["low", "high"], "by": 0, "tolerance": 0.1}
    found = needed([row("low", np.zeros(3)), row("high", of(3, 0.0, 0.2))], claim)

    def verdict(n):
        rows = [row("low", np.zeros(n)), row("high", of(n, 0.0, 0.2))]
        return judged(rows, claim)["claims"][0]["verdict"]

    assert [verdict(found.seeds - 1), verdict(found.seeds)] == ["unclear", "reproduced"]


def test_an_order_needs_the_seeds_of_its_hardest_step():
    rows = [row("c", of(4, 2.2, 0.5)), row("b", of(4, 2.0, 0.1)[::-1]), row("a", np.zeros(4))]
    found = needed(rows, {"form": "falling", "rows": ["c", "b", "a"]})
    alone = needed(rows[:2], {"form": "gain", "rows": ["b", "c"]})
    # In the order, the other step is a test of the family, too.
    assert found.seeds >= alone.seeds > 4


UNCLEAR = (of(3, 1.2, 0.1), 1.0, 0.02, 6, 0.14)


def test_the_time_is_that_of_the_missing_runs_by_device():
    measured = {"config": CONFIG, "seeds": [1, 2, 3], "replicas": 3, "epochs": [40, 50, 60]}
    rates = {"cpu": Rate({WORKLOAD: 72.0}, {WORKLOAD}), "GPU": Rate({WORKLOAD: 1.2}, ())}
    found = needed([row("a", *UNCLEAR)], rates=rates, **measured)
    missing = found.seeds - 3
    assert found.costs == {
        "cpu": Cost(pytest.approx(missing * 50 * 72.0), is_guess=False),
        "GPU": Cost(pytest.approx(missing * 50 * 1.2), is_guess=True),
    }
    words = f"{missing} hours of a CPU or ~{missing} minutes of GPU"
    assert str(found) == f"{found.seeds} seeds would settle it ({words})"


def test_the_time_has_that_of_the_trainings_that_a_run_starts_from():
    measured = {"config": CONFIG, "seeds": [1, 2, 3], "replicas": 3, "epochs": [50] * 3}
    document = judged([row("a", *UNCLEAR, training="tuned on stack on rbm")], **measured)
    other = document["trainings"]["tuned on stack on rbm"]
    document["trainings"] |= {"stack on rbm": other, "rbm": other, "another": other}
    rates = {"cpu": Rate({WORKLOAD: 1.0}, {WORKLOAD})}
    ((_, found),) = seeds_needed(document, rates)
    assert found.costs["cpu"].seconds == pytest.approx((found.seeds - 3) * 50 * 3)
    # One run for all seeds.
    document["trainings"] |= {"rbm": other | {"seeds": [101], "replicas": 1}}
    ((_, found),) = seeds_needed(document, rates)
    assert found.costs["cpu"].seconds == pytest.approx((found.seeds - 3) * 50 * 2)


def test_a_workload_that_no_device_has_timed_has_no_time():
    measured = {"config": CONFIG, "seeds": [1, 2, 3], "replicas": 3, "epochs": [50] * 3}
    found = needed([row("a", *UNCLEAR)], rates={"cpu": Rate({}, ())}, **measured)
    assert found.costs == {} and str(found) == f"{found.seeds} seeds would settle it"


def test_rows_of_one_replica_cost_it_once():
    measured = {"config": CONFIG, "seeds": [1, 2, 3], "replicas": 3, "epochs": [50, 50, 50]}
    claim = {"form": "gain", "rows": ["low", "high"]}
    rows = [row("low", np.zeros(3), training="t"), row("high", of(3, 0.5, 0.8), training="t")]
    found = needed(rows, claim, rates={"cpu": Rate({WORKLOAD: 1.0}, {WORKLOAD})}, **measured)
    assert found.costs["cpu"].seconds == pytest.approx((found.seeds - 3) * 50)


def test_a_claim_of_one_seed_needs_a_second_one_first():
    rows = [row("low", [1.0]), row("high", [2.0])]
    found = needed(rows, {"form": "gain", "rows": ["low", "high"]})
    assert (found.seeds, found.costs, str(found)) == (
        None,
        {},
        "the spread is unknown from one seed",
    )


def test_nothing_is_planned_for_short_runs():
    assert list(seeds_needed(judged([row("a", *UNCLEAR)], budget="short"), {})) == []
