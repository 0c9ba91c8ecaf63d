"""Spreads and paired tests, against formulas by hand and the tests of printed tables."""

import math

import numpy as np
import pytest
from scipy import integrate, special, stats

from papers.judging import numbers
from papers.judging.statistics import (
    Error,
    detectable,
    difference_error,
    paired,
    paired_error,
    prediction_error,
    spread,
)


def test_a_spread_by_hand():
    assert spread([1.0, 2.0, 6.0]) == (3, 3.0, pytest.approx(math.sqrt((4 + 1 + 9) / 2)))
    assert spread([0.7]) == (1, 0.7, None)


def t_test(differences):
    """Two-sided p by the incomplete beta function."""
    n = len(differences)
    t = np.mean(differences) / (np.std(differences, ddof=1) / math.sqrt(n))
    return t, special.betainc((n - 1) / 2, 0.5, (n - 1) / (n - 1 + t * t))


def test_paired_tests_are_those_of_their_formulas():
    a = {1: 0.53, 2: 0.55, 3: 0.54, 4: 0.62, 5: 0.56, 6: 0.41, 9: 7.0}
    b = {1: 0.50, 2: 0.57, 3: 0.59, 4: 0.53, 5: 0.55, 6: 0.35, 8: 9.0}
    differences = [a[seed] - b[seed] for seed in range(1, 7)]
    found = paired(a, b)
    assert (found.n, found.mean) == (6, pytest.approx(np.mean(differences)))
    assert found.p == pytest.approx(t_test(differences)[1])
    assert paired(b, a).mean == -found.mean and paired(b, a).p == pytest.approx(found.p)


@pytest.mark.parametrize(
    ("noisy", "plain", "mean", "sd", "t"),
    # As the notes on the printed tables have them, recomputed from their ten seeds.
    [
        (18, 17, -0.0080, 0.0476, -0.53),
        (22, 20, -0.0240, 0.0753, -1.01),
        (24, 23, -0.0200, 0.0801, -0.79),
        (26, 25, -0.1010, 0.2757, -1.16),
        (28, 27, -0.1730, 0.5020, -1.09),
    ],
)
def test_the_tables_of_the_ladder_thesis_show_no_significant_gain(noisy, plain, mean, sd, t):
    tables = (numbers.entry(f"maronas2016.table{n}.row1")["per_seed"] for n in (noisy, plain))
    found = paired(*({int(seed): value for seed, value in table.items()} for table in tables))
    assert (found.mean, found.sd) == (pytest.approx(mean, abs=6e-5), pytest.approx(sd, abs=6e-5))
    assert found.p == pytest.approx(2 * special.stdtr(9, t), abs=6e-3)


def test_one_pair_has_no_p_and_equal_differences_have_no_spread():
    assert paired({1: 0.5}, {2: 0.4}) is None
    one = paired({1: 0.5}, {1: 0.25})
    assert one == (1, 0.25, None, None, 0.25)
    # .53 - .5 and .57 - .54 differ in floating point only.
    equal = paired({1: 0.53, 2: 0.57}, {1: 0.5, 2: 0.54})
    assert (equal.sd, equal.p) == (0, 0)
    same = paired({1: 0.5, 2: 0.6}, {1: 0.5, 2: 0.6})
    assert (same.sd, same.p) == (0, 1)


def test_the_interval_of_paired_differences_is_scipys():
    a, b = {1: 0.53, 2: 0.55, 3: 0.54, 4: 0.62}, {1: 0.50, 2: 0.57, 3: 0.59, 4: 0.53}
    for confidence in (0.9, 0.95):
        test = stats.ttest_rel(list(a.values()), list(b.values()))
        low, high = test.confidence_interval(confidence)
        assert paired_error(paired(a, b)).half(confidence) == pytest.approx((high - low) / 2)
    assert paired_error(paired({1: 0.53, 2: 0.57}, {1: 0.5, 2: 0.54})).size == 0
    assert paired_error(paired({1: 0.5}, {1: 0.4})) is None


def test_welchs_interval_of_two_samples_is_scipys():
    a, b = [1.0, 1.2, 1.7], [2.0, 2.1, 2.4, 2.2]
    for confidence in (0.9, 0.95):
        test = stats.ttest_ind(a, b, equal_var=False)
        low, high = test.confidence_interval(confidence)
        error = difference_error(spread(a), spread(b))
        assert error.half(confidence) == pytest.approx((high - low) / 2)
    assert difference_error(spread([1.0, 1.0]), spread([2.0, 2.0])).size == 0
    assert difference_error(spread([1.0]), spread([2.0])) is None
    # One run beside four: t of three degrees of freedom is 3.182.
    one = 3.1824 * spread(b).sd * math.sqrt(1 + 1 / 4)
    assert difference_error(spread([1.0]), spread(b)).half(0.95) == pytest.approx(one, rel=1e-4)


def test_the_one_sided_p_of_an_error_is_scipys():
    a, b = [1.0, 1.2, 1.7], [2.0, 2.1, 2.4, 2.2]
    error = difference_error(spread(a), spread(b))
    test = stats.ttest_ind(b, a, equal_var=False, alternative="greater")
    assert error.p_of(np.mean(b) - np.mean(a)) == pytest.approx(test.pvalue)
    assert Error(0.0, 2).p_of(0.1) == 0 and Error(0.0, 2).p_of(0.0) == 1


def test_the_prediction_of_further_runs_is_wider_than_the_interval_of_the_mean():
    """s sqrt(1/n + 1/m) with n - 1 degrees of freedom; of very many runs, that of the mean."""
    ours = spread([1.0, 1.2, 1.7])
    assert prediction_error(ours, 2) == (pytest.approx(ours.sd * math.sqrt(1 / 3 + 1 / 2)), 2)
    mean = stats.t.interval(0.95, 2, ours.mean, ours.sd / math.sqrt(3))
    assert prediction_error(ours, 1e12).half(0.95) == pytest.approx(mean[1] - ours.mean)
    assert prediction_error(spread([1.0]), 2) is None


def test_the_paired_test_finds_the_detectable_gain_with_a_power_of_80_percent():
    """The t-test's power of 10 pairs from the noncentral t by integration over the chi."""
    found = paired({s: 0.1 * s**2 for s in range(10)}, dict.fromkeys(range(10), 0.0))
    for level in (0.05, 0.01):
        shift = detectable(found, level) / found.sd * math.sqrt(10)
        critical = stats.t.isf(level / 2, 9)
        power, _ = integrate.quad(
            lambda v, critical=critical, shift=shift: (
                stats.norm.sf(critical * math.sqrt(v / 9) - shift) * stats.chi2.pdf(v, 9)
            ),
            0,
            90,
        )
        assert power == pytest.approx(0.8, abs=1e-4)
