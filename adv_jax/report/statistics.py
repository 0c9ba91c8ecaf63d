"""Means and spreads over seeds, and whether a difference between two trainings is more than luck.

Two trainings are compared seed by seed: one seed draws the same data and, as far as the programs
agree, the same initial weights in both.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

LEVEL = 0.05


class Spread(NamedTuple):
    """Of n values: mean and sample standard deviation (n - 1); of one value there is no sd."""

    n: int
    mean: float
    sd: float | None


class Paired(NamedTuple):
    """Of the differences a - b of n pairs.

    mean, sd: sample standard deviation; None of one pair.
    t_p: two-sided p of the paired t-test; None: one pair, or all differences are equal.
    wilcoxon_p: two-sided p of the signed-rank test; None: one pair, or no difference at all.
    wilcoxon_floor: the smallest p that so many pairs can give, 2 / 2^n.
    """

    n: int
    mean: float
    sd: float | None
    t_p: float | None
    wilcoxon_p: float | None
    wilcoxon_floor: float


def spread(values: Sequence[float]) -> Spread:
    """Mean and sd of at least one value."""
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Spread(len(values), float(np.mean(values)), sd)


def paired(a: Mapping[int, float], b: Mapping[int, float]) -> Paired | None:
    """Compares two trainings {seed: value} on the seeds that both have; None: they share none."""
    seeds = sorted(a.keys() & b.keys())
    if not seeds:
        return None
    first, second = (np.array([values[seed] for seed in seeds]) for values in (a, b))
    differences = first - second
    n, mean, sd = spread(differences.tolist())
    # Decimals such as .53 - .5 and .57 - .54 differ in their last bits.
    scale = float(np.abs([first, second]).max())
    constant = n < 2 or float(np.ptp(differences)) <= 1e-12 * scale
    zero = float(np.abs(differences).max()) <= 1e-12 * scale
    # Ties in size, which rates of a finite test set have, must be ties in floating point too.
    ranked = np.round(differences / (scale or 1), 10)
    return Paired(
        n,
        mean,
        sd,
        None if constant else float(stats.ttest_rel(first, second).pvalue),
        None if n < 2 or zero else float(stats.wilcoxon(ranked).pvalue),
        2.0 ** (1 - n),
    )


def in_words(found: Paired) -> str:
    """One sentence on what the tests say and what so few pairs cannot say."""
    if found.n < 2:
        return "one pair of runs: no test"
    t = "t-test: all differences are equal" if found.t_p is None else f"t-test p = {found.t_p:.2g}"
    wilcoxon = "none" if found.wilcoxon_p is None else f"p = {found.wilcoxon_p:.2g}"
    sentence = f"{found.n} pairs, paired {t}, Wilcoxon {wilcoxon}"
    if found.wilcoxon_floor >= LEVEL:
        sentence += f" (of {found.n} pairs at least {found.wilcoxon_floor:.2g}: never significant)"
    return sentence
