"""Spreads and paired tests, against formulas by hand and the tests of printed tables."""

import itertools
import math

import numpy as np
import pytest
from scipy import special

from adv_jax.report import papers
from adv_jax.report.statistics import in_words, paired, spread


def test_a_spread_by_hand():
    assert spread([1.0, 2.0, 6.0]) == (3, 3.0, pytest.approx(math.sqrt((4 + 1 + 9) / 2)))
    assert spread([0.7]) == (1, 0.7, None)


def t_test(differences):
    """Two-sided p by the incomplete beta function."""
    n = len(differences)
    t = np.mean(differences) / (np.std(differences, ddof=1) / math.sqrt(n))
    return t, special.betainc((n - 1) / 2, 0.5, (n - 1) / (n - 1 + t * t))


def signed_rank(differences):
    """Two-sided p of the signed-rank test by all 2^n signs; no ties, no zeros."""
    ranks = np.argsort(np.argsort(np.abs(differences))) + 1
    observed = ranks[np.array(differences) > 0].sum()
    sums = [
        sum(rank for rank, sign in zip(ranks, signs, strict=True) if sign)
        for signs in itertools.product((0, 1), repeat=len(ranks))
    ]
    tails = (np.mean(np.array(sums) <= observed), np.mean(np.array(sums) >= observed))
    return min(1.0, 2 * min(tails))


def test_paired_tests_are_those_of_their_formulas():
    a = {1: 0.53, 2: 0.55, 3: 0.54, 4: 0.62, 5: 0.56, 6: 0.41, 9: 7.0}
    b = {1: 0.50, 2: 0.57, 3: 0.59, 4: 0.53, 5: 0.55, 6: 0.35, 8: 9.0}
    differences = [a[seed] - b[seed] for seed in range(1, 7)]
    found = paired(a, b)
    assert (found.n, found.mean) == (6, pytest.approx(np.mean(differences)))
    assert found.t_p == pytest.approx(t_test(differences)[1])
    assert found.wilcoxon_p == pytest.approx(signed_rank(differences))
    assert found.wilcoxon_floor == 2 / 2**6
    assert paired(b, a).mean == -found.mean and paired(b, a).t_p == pytest.approx(found.t_p)


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
    tables = (papers.entry(f"maronas.table{n}.row1")["per_seed"] for n in (noisy, plain))
    found = paired(*({int(seed): value for seed, value in table.items()} for table in tables))
    assert (found.mean, found.sd) == (pytest.approx(mean, abs=6e-5), pytest.approx(sd, abs=6e-5))
    assert found.t_p == pytest.approx(2 * special.stdtr(9, t), abs=6e-3)
    assert found.wilcoxon_p > 0.05


def test_what_has_no_test_has_none():
    assert paired({1: 0.5}, {2: 0.4}) is None
    one = paired({1: 0.5}, {1: 0.25})
    assert one == (1, 0.25, None, None, None, 1.0)
    assert in_words(one) == "one pair of runs: no test"
    # .53 - .5 and .57 - .54 differ in floating point only.
    equal = paired({1: 0.53, 2: 0.57}, {1: 0.5, 2: 0.54})
    assert equal.t_p is None and equal.wilcoxon_p == pytest.approx(0.5)
    same = paired({1: 0.5, 2: 0.6}, {1: 0.5, 2: 0.6})
    assert same.t_p is None and same.wilcoxon_p is None


def test_words_say_when_a_signed_rank_test_cannot_be_significant():
    five, six = (
        paired({s: 1 + 0.01 * s for s in range(n)}, dict.fromkeys(range(n), 0.5)) for n in (5, 6)
    )
    assert five.wilcoxon_p == 2 / 32 and six.wilcoxon_p == 2 / 64
    assert in_words(five).endswith(
        "Wilcoxon p = 0.062 (of 5 pairs at least 0.062: never significant)"
    )
    assert "never" not in in_words(six)
