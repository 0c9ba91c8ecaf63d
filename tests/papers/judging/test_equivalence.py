"""The findings of numbers, against SciPy's tests of made values."""

import math

import numpy as np
import pytest
from judged import QUICK, SHORT, number
from scipy import stats

OURS = [1.0, 1.2, 1.4, 1.1]


def values_of(n, mean, sd):
    """Returns n values with this mean and sample standard deviation."""
    unit = np.array([-1, 1] * (n // 2) + [0] * (n % 2)) * math.sqrt((n - 1) / (n - n % 2))
    return (mean + sd * unit).tolist()


def one_sided(ours, theirs, tolerance):
    """The larger p of SciPy's two one-sided Welch tests, that D is above -T and below T."""
    shifted = (
        stats.ttest_ind(ours, np.add(theirs, -tolerance), equal_var=False, alternative="greater"),
        stats.ttest_ind(ours, np.add(theirs, tolerance), equal_var=False, alternative="less"),
    )
    return max(test.pvalue for test in shifted)


def test_the_interval_of_a_number_is_scipys_welch():
    theirs = values_of(6, 1.0, 0.1)
    found = number(OURS, 1.0, 0.1, 6, 0.5)
    welch = stats.ttest_ind(OURS, theirs, equal_var=False).confidence_interval(0.95)
    assert found["interval"] == pytest.approx(welch, rel=1e-3)


@pytest.mark.parametrize("tolerance", [0.3, 0.36, 0.37, 0.6])
def test_a_number_is_reproduced_where_scipys_two_one_sided_tests_are_significant(tolerance):
    p = one_sided(OURS, values_of(6, 1.0, 0.1), tolerance)
    found = number(OURS, 1.0, 0.1, 6, tolerance)
    assert (found["verdict"] == "reproduced") == (p < 0.05)
    assert found["p"] == pytest.approx(p, rel=1e-3)


def test_a_single_run_of_the_paper_takes_our_sd():
    """t of two degrees of freedom at .025 is 4.303; the sd is 1, the factor sqrt(1/3 + 1)."""
    found = number([1.0, 2.0, 3.0], 2.0, None, 1, 66.0)
    half = 4.3027 * math.sqrt(4 / 3)
    assert found["interval"] == pytest.approx([-half, half], rel=1e-3)
    # One of ours beside ten of the paper takes the paper's: t of nine is 2.262.
    found = number([2.0], 2.0, 1.0, 10, 6.0)
    assert found["interval"][1] == pytest.approx(2.2622 * math.sqrt(1.1), rel=1e-3)


@pytest.mark.parametrize(
    ("ours", "paper", "tolerance"),
    [(0.53, 0.5, 0.03), (1.1, 1.0, 0.1), (97.4, 97.1, 0.3), (2.3, 2.0, 0.3), (0.97, 1.0, 0.03)],
)
def test_a_run_that_is_off_by_the_tolerance_is_within_it(ours, paper, tolerance):
    """Decimals are not exact in binary: .53 - .5 is above .03."""
    assert number([ours], paper, None, 1, tolerance)["verdict"] == "consistent"
    assert number([ours + 0.01], paper, None, 1, tolerance / 2)["verdict"] == "not reproduced"


@pytest.mark.parametrize(
    ("off", "tolerance", "verdict"),
    # Ten runs each with an sd of .1: half of the 90 % interval is 1.734 sqrt(.2) .1 = .0775, of the
    # 95 % one .094, and of the prediction of ten more 2.262 sqrt(.2) .1 = .101.
    [
        (0.0, 0.08, "reproduced"),
        (0.1, 0.18, "reproduced"),
        (0.1, 0.17, "consistent"),
        (0.0, 0.07, "consistent"),
        (0.11, 0.15, "unclear"),  # Within T, and further than the prediction.
        (0.2, 0.15, "unclear"),
        (0.25, 0.15, "not reproduced"),
        (-0.25, 0.15, "not reproduced"),
    ],
)
def test_a_number_is_judged_by_where_its_intervals_lie(off, tolerance, verdict):
    found = number(values_of(10, 1 + off, 0.1), 1.0, 0.1, 10, tolerance)
    assert found["verdict"] == verdict and found["extent"] == "full"


def test_the_prediction_interval_holds_the_mean_of_further_runs_in_95_of_100_cases():
    """By simulation: four runs of ours predict the mean of two of the paper."""
    draws = np.random.default_rng(0).normal(size=(4000, 6))
    predicted = 0
    for ours, theirs in zip(draws[:, :4], draws[:, 4:].mean(1), strict=True):
        # A wide tolerance that no interval fits in, so that the prediction decides.
        off = abs(ours.mean() - theirs)
        half = stats.t.isf(0.025, 3) * ours.std(ddof=1) * math.sqrt(1 / 4 + 1 / 2)
        predicted += off <= half
    assert predicted / 4000 == pytest.approx(0.95, abs=0.01)
    # The rule has that half: 3.182 * sqrt(.75) sd = 2.756 sd.
    wide = {"paper": 0.0, "sd": None, "n": 2, "tolerance": 2.9}
    for mean, verdict in ((2.7, "consistent"), (2.8, "unclear")):
        assert number(values_of(4, mean, 1.0), *wide.values())["verdict"] == verdict


def test_with_one_run_on_each_side_the_tolerance_alone_counts():
    for ours, verdict in ((1.2, "consistent"), (1.3, "not reproduced")):
        found = number([ours], 1.0, None, 1, 0.25)
        assert found["verdict"] == verdict and found["interval"] is None and found["p"] is None
        assert "one run here and one in the paper" in found["why"]


def test_runs_without_a_spread_are_judged_by_their_difference():
    for ours, verdict in ((1.2, "reproduced"), (1.3, "not reproduced")):
        assert number([ours] * 3, 1.0, None, 1, 0.25)["verdict"] == verdict
        assert number([ours] * 3, 1.0, 0.0, 5, 0.25)["verdict"] == verdict


@pytest.mark.parametrize(("budget", "extent"), [(SHORT, "short"), (QUICK, "quick")])
def test_a_short_or_quick_run_is_never_judged(budget, extent):
    for off in (0.0, 0.4):
        found = number([1.0 + off] * 10, 1.0, 0.1, 10, 0.2, budget=budget)
        assert (found["verdict"], found["p"], found["extent"]) == (None, None, extent)
        assert f"a {extent} run" in found["why"]


def test_a_number_without_a_paper_value_a_tolerance_or_seeds_is_not_judged():
    assert number([1.0, 1.1])["verdict"] is None
    assert number([1.0, 1.1], 1.0, 0.1, 10, None)["verdict"] is None
    found = number([], 1.0, 0.1, 10, 0.2)
    assert (found["verdict"], found["extent"], found["why"]) == (None, "not run", "not run")
