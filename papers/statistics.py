"""Means and spreads over seeds, and whether a difference between two trainings is more than luck.

Two trainings are compared seed by seed: one seed draws the same data and, as far as the programs
agree, the same initial weights in both.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import optimize, stats

# Bonferroni: the results hold about 50 tests, which together err with a probability of .05.
LEVEL = 0.05 / 50
POWER = 0.8


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


def welch(a: Spread, b: Spread) -> float | None:
    """Half the width of Welch's confidence interval of a.mean - b.mean, of confidence 1 - LEVEL.

    A side of a single run is given the sd of the other, which is Student's interval; None if
    neither side has an sd.
    """
    if a.sd is None or b.sd is None:
        known = b if a.sd is None else a
        if known.sd is None:
            return None
        return _quantile(known.n - 1) * known.sd * math.sqrt(1 / a.n + 1 / b.n)
    parts = a.sd**2 / a.n, b.sd**2 / b.n
    error = sum(parts)
    if error == 0:
        return 0.0
    freedom = error**2 / (parts[0] ** 2 / (a.n - 1) + parts[1] ** 2 / (b.n - 1))
    return _quantile(freedom) * math.sqrt(error)


def paired_interval(found: Paired) -> float | None:
    """Half the width of the confidence interval of the mean difference; None of one pair."""
    if found.sd is None:
        return None
    return 0.0 if found.t_p is None else _quantile(found.n - 1) * found.sd / math.sqrt(found.n)


def detectable(found: Paired) -> float | None:
    """The smallest true difference that the paired t-test at LEVEL finds with a power of .8.

    Of so many pairs with their sd; None of one pair.
    """
    if found.sd is None:
        return None
    if found.t_p is None:
        return 0.0
    freedom = found.n - 1
    critical = _quantile(freedom)
    shift = optimize.root_scalar(
        lambda shift: stats.nct.sf(critical, freedom, shift) - POWER, bracket=(0, 10 * critical)
    )
    return float(shift.root) * found.sd / math.sqrt(found.n)


def span(numbers: Collection[int]) -> str:
    """From the least to the largest: "30 to 150", or "30" where there is one alone."""
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low} to {high}"


def _quantile(freedom: float) -> float:
    """Of Student's t, two-sided at LEVEL."""
    return float(stats.t.isf(LEVEL / 2, freedom))
