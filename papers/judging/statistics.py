"""Means and spreads over seeds, and tests of the difference between two trainings.

Trainings are compared in pairs of equal seeds, which have the same data and, if the programs agree,
the same initial weights.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import optimize, stats

# Bonferroni: all tests of the results together have an error rate of .05. `verdicts.num_tests`
# counts them; a test fails if they are more than these.
FAMILY_LEVEL, MOST_TESTS = 0.05, 160
LEVEL = FAMILY_LEVEL / MOST_TESTS
POWER = 0.8

BySeed = dict[int, float]  # seed -> value


class Spread(NamedTuple):
    """Mean and sample standard deviation (n - 1) of n values; sd is None for n = 1."""

    n: int
    mean: float
    sd: float | None


class Paired(NamedTuple):
    """Statistics of the differences a - b of n pairs.

    Attributes:
      n: number of pairs.
      mean: mean difference.
      sd: sample standard deviation; None for one pair.
      t_p: two-sided p of the paired t-test; None for one pair or equal differences.
      wilcoxon_p: two-sided p of the signed-rank test; None for one pair or no differences.
      wilcoxon_floor: smallest possible p of the signed-rank test, 2 / 2^n.
    """

    n: int
    mean: float
    sd: float | None
    t_p: float | None
    wilcoxon_p: float | None
    wilcoxon_floor: float


def spread(values: Sequence[float]) -> Spread:
    """Returns the mean and sd of at least one value."""
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Spread(len(values), float(np.mean(values)), sd)


def paired(a: Mapping[int, float], b: Mapping[int, float]) -> Paired | None:
    """Compares two trainings {seed: value} on their common seeds; None without common seeds."""
    seeds = sorted(a.keys() & b.keys())
    if not seeds:
        return None
    first, second = (np.array([values[seed] for seed in seeds]) for values in (a, b))
    differences = first - second
    n, mean, sd = spread(differences.tolist())
    # .53 - .5 and .57 - .54 differ in their last bits.
    scale = float(np.abs([first, second]).max())
    constant = n < 2 or float(np.ptp(differences)) <= 1e-12 * scale
    zero = float(np.abs(differences).max()) <= 1e-12 * scale
    # Make equal differences exact ties in floating point.
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
    """Returns half the width of Welch's (1 - LEVEL) confidence interval of a.mean - b.mean.

    If one side has no sd, uses the other's (Student's interval); None if neither has one.
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
    """Returns half the width of the mean difference's confidence interval; None for one pair."""
    if found.sd is None:
        return None
    return 0.0 if found.t_p is None else _quantile(found.n - 1) * found.sd / math.sqrt(found.n)


def detectable(found: Paired) -> float | None:
    """Returns the smallest difference that the paired t-test at LEVEL detects with power .8.

    Assumes the number and the sd of the given pairs; None for one pair.
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
    """Formats the range of numbers: "30 to 150", or "30" if all are equal."""
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low} to {high}"


def seeds_in_words(seeds: Sequence[int]) -> str:
    """Returns "seed 1" or "seeds 1, 2"."""
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def epochs_in_words(epochs: Collection[int], allowed: Collection[int] = ()) -> str:
    """Returns "1 epoch", a range, "30 to 150 epochs", or of a short run "4 of 100 epochs"."""
    if allowed:
        return f"{span(epochs)} of {epochs_in_words(allowed)}"
    return f"{span(epochs)} epoch{'s' if max(epochs) > 1 else ''}"


def _quantile(freedom: float) -> float:
    """Returns the two-sided quantile of Student's t at LEVEL."""
    return float(stats.t.isf(LEVEL / 2, freedom))
