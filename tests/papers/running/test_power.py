"""The plans of what would decide, against verdicts of made-up seeds and simulated experiments."""

import math

import numpy as np
import pytest
from scipy import stats

from papers.judging.statistics import LEVEL
from papers.judging.verdicts import judge
from papers.running.power import MOST_SEEDS, plans

ID = "maronas2016.table5.row1.col1"


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
        {
            "budget": budget,
            "rows": rows,
            "claims": [{"text": "", "id": None, **claim} for claim in claims],
            "trainings": {row["training"]: training for row in rows},
        }
    )


def plan(rows, *claims, **settings):
    """The plan of the only undecided number or claim."""
    ((_, found),) = plans(judged(rows, *claims, **settings))
    return found


@pytest.mark.parametrize(
    ("mean", "sd", "tolerance"), [(1.02, 0.05, 0.1), (1.3, 0.1, 0.1), (0.8, 0.02, 0.1)]
)
def test_the_planned_seeds_decide_a_number_and_one_fewer_does_not(mean, sd, tolerance):
    paper = (1.0, 0.02, 6, tolerance)
    found = plan([row("a", of(3, mean, sd), *paper)])

    def verdict(n):
        return judged([row("a", of(n, mean, sd), *paper)])["rows"][0]["verdict"]

    assert verdict(found.seeds - 1) == "undecided" != verdict(found.seeds)


def test_a_single_run_of_the_paper_may_leave_a_number_undecided_for_ever():
    found = plan([row("a", of(3, 1.0, 0.05), 1.0, None, 1, 0.1)])
    left = stats.t.isf(LEVEL / 2, MOST_SEEDS - 1) * 0.05 * math.sqrt(1 + 1 / MOST_SEEDS)
    words = f"1,000 seeds would not decide it, as the paper's 1 run leaves +-{left:.3g}"
    assert found.seeds is None and str(found) == words
    many = judged([row("a", of(MOST_SEEDS, 1.0, 0.05), 1.0, None, 1, 0.1)])
    assert many["rows"][0]["verdict"] == "undecided"


def test_the_planned_seeds_find_a_gain_in_eight_of_ten_experiments():
    gain, sd = 0.5, 0.4
    lower, higher = row("low", np.zeros(3)), row("high", of(3, gain, sd))
    seeds = plan([lower, higher], {"form": "gain", "rows": ["low", "high"]}).seeds

    def power(n):
        trials = np.random.default_rng(0).normal(gain, sd, (20_000, n))
        return (stats.ttest_1samp(trials, 0, axis=1).pvalue < LEVEL).mean()

    assert power(seeds - 1) < 0.8 < power(seeds)


def test_the_planned_seeds_refute_a_gain():
    values = {"low": np.zeros(3), "high": of(3, -0.2, 0.1)}
    claim = {"form": "gain", "rows": ["low", "high"]}
    found = plan([row(*one) for one in values.items()], claim)

    def verdict(n):
        rows = [row("low", np.zeros(n)), row("high", of(n, -0.2, 0.1))]
        return judged(rows, claim)["claims"][0]["verdict"]

    assert [verdict(found.seeds - 1), verdict(found.seeds)] == ["undecided", "not reproduced"]


def test_the_planned_seeds_decide_a_size():
    claim = {"form": "size", "rows": ["low", "high"], "by": 1.0, "tolerance": 0.3}
    found = plan([row("low", np.zeros(3)), row("high", of(3, 1.1, 0.2))], claim)

    def verdict(n):
        rows = [row("low", np.zeros(n)), row("high", of(n, 1.1, 0.2))]
        return judged(rows, claim)["claims"][0]["verdict"]

    assert [verdict(found.seeds - 1), verdict(found.seeds)] == ["undecided", "reproduced"]


def test_an_order_needs_the_seeds_of_its_hardest_step():
    rows = [row("c", of(4, 3.0, 0.3)), row("b", of(4, 2.0, 0.1)[::-1]), row("a", np.zeros(4))]
    order = {"form": "falling", "rows": ["c", "b", "a"]}
    step = {"form": "gain", "rows": ["b", "c"]}
    assert plan(rows, order).seeds == plan(rows[:2], step).seeds > 4


def test_hours_are_those_of_the_missing_runs_at_full_length():
    measured = {"seconds": 360.0, "seeds": [1, 2, 3], "replicas": 3, "epochs": [40, 50, 60]}
    paper = (1.0, 0.02, 6, 0.1)
    rows = [row("a", of(3, 1.02, 0.05), *paper)]
    full = plan(rows, **measured)
    assert full.hours == pytest.approx((full.seeds - 3) * 120 / 3600)
    short = plan(rows, budget="short", **measured)  # 2.4 seconds an epoch, of 500; none is full
    assert short.seeds == full.seeds
    assert short.hours == pytest.approx(short.seeds * 500 * 2.4 / 3600)
    assert str(short) == f"{short.seeds} full seeds would decide it ({short.hours:.2g} more hours)"


def test_hours_have_those_of_the_trainings_that_a_run_starts_from():
    measured = {"seconds": 360.0, "seeds": [1, 2, 3], "replicas": 3, "epochs": [50] * 3}
    tuned = row("a", of(3, 1.02, 0.05), 1.0, 0.02, 6, 0.1, training="tuned on stack on rbm")
    document = judged([tuned], budget="short", **measured)  # 2.4 seconds an epoch, of 500
    twice = document["trainings"]["tuned on stack on rbm"] | {"seconds": 720.0}
    document["trainings"] |= {"stack on rbm": twice, "rbm": twice, "another": twice}
    ((_, found),) = plans(document)
    assert found.hours == pytest.approx(found.seeds * 500 * (2.4 + 4.8 + 4.8) / 3600)
    # One run for all seeds.
    document["trainings"] |= {"rbm": twice | {"seeds": [101], "replicas": 1}}
    ((_, found),) = plans(document)
    assert found.hours == pytest.approx(found.seeds * 500 * (2.4 + 4.8) / 3600)


def test_runs_on_an_accelerator_tell_no_hours():
    measured = {"seconds": 3.0, "seeds": [1, 2, 3], "replicas": 3, "epochs": [50] * 3}
    rows = [row("a", of(3, 1.02, 0.05), 1.0, 0.02, 6, 0.1)]
    found = plan(rows, **measured, device="NVIDIA H200")
    assert found == plan(rows, **measured)._replace(hours=None)
    assert str(found) == f"{found.seeds} full seeds would decide it"


def test_rows_of_one_replica_cost_it_once():
    measured = {"seconds": 150.0, "seeds": [1, 2, 3], "replicas": 3, "epochs": [50, 50, 50]}
    claim = {"form": "gain", "rows": ["low", "high"]}
    rows = [row("low", np.zeros(3), training="t"), row("high", of(3, 0.5, 0.4), training="t")]
    found = plan(rows, claim, **measured)
    assert found.hours == pytest.approx((found.seeds - 3) * 50 / 3600)


@pytest.mark.parametrize(
    ("values", "budget", "words"),
    [
        (of(3, 1.02, 0.05), "quick", "full runs must come first"),
        ([1.02], "paper", "a second seed must show the spread"),
    ],
)
def test_without_full_runs_of_two_seeds_the_plan_names_what_is_missing(values, budget, words):
    found = plan([row("a", values, 1.0, None, 1, 0.1)], budget=budget)
    assert (found.seeds, found.hours, str(found)) == (None, None, words)
