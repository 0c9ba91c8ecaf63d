"""Means and spreads over seeds, and tests of the difference between two trainings.

Trainings are compared in pairs of equal seeds, which have the same data and, if the programs agree,
the same initial weights.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import optimize, stats

LEVEL = 0.05  # of each test, and of each interval of 95 %
POWER = 0.8

BySeed = dict[int, float]  # seed -> value


class Spread(NamedTuple):
    """Mean and sample standard deviation (n - 1) of n values; sd is None for n = 1."""

    n: int
    mean: float
    sd: float | None


class Paired(NamedTuple):
    """Statistics of the differences a - b of n pairs.

    n: number of pairs.
    mean: mean difference.
    sd: sample standard deviation, 0 for equal differences; None for one pair.
    p: two-sided p of the paired t-test, of equal differences 0, or 1 if they are 0; None for one
      pair.
    least: the smallest difference.
    """

    n: int
    mean: float
    sd: float | None
    p: float | None
    least: float


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
    least = float(differences.min())
    # .53 - .5 and .57 - .54 differ in their last bits.
    rounding = 1e-12 * float(np.abs([first, second]).max())
    if n > 1 and float(np.ptp(differences)) <= rounding:
        return Paired(n, mean, 0.0, 1.0 if abs(mean) <= rounding else 0.0, least)
    p = float(stats.ttest_rel(first, second).pvalue) if n > 1 else None
    return Paired(n, mean, sd, p, least)


class Error(NamedTuple):
    """The standard error of a mean or of a difference of means.

    size: in the unit of the means.
    freedom: its degrees of freedom.
    """

    size: float
    freedom: float

    def half(self, confidence: float) -> float:
        """Returns half the width of the confidence interval, by Student's t."""
        return float(stats.t.isf((1 - confidence) / 2, self.freedom)) * self.size

    def p_of(self, distance: float) -> float:
        """Returns the one-sided p of a distance in the direction that is tested."""
        if self.size == 0:
            return 0.0 if distance > 0 else 1.0
        return float(stats.t.sf(distance / self.size, self.freedom))

    def p_within(self, room: float) -> float:
        """Returns the one-sided p of lying within a limit by `room`; twice that of beyond it."""
        return self.p_of(room) if room >= 0 else 2 * self.p_of(-room)


def difference(ours: float, theirs: float) -> float:
    """Returns our mean minus the paper's, without the rounding errors of decimals.

    >>> difference(0.53, 0.5)
    0.03
    """
    return round(ours - theirs, 10)


def difference_error(a: Spread, b: Spread) -> Error | None:
    """Returns the error of a.mean - b.mean, by Welch; None if neither side has an sd.

    A side without an sd gets the other's (Student).
    """
    if a.sd is None or b.sd is None:
        known = b if a.sd is None else a
        if known.sd is None:
            return None
        return Error(known.sd * math.sqrt(1 / a.n + 1 / b.n), known.n - 1)
    parts = a.sd**2 / a.n, b.sd**2 / b.n
    variance = sum(parts)
    if variance == 0:
        return Error(0.0, a.n + b.n - 2)
    freedom = variance**2 / (parts[0] ** 2 / (a.n - 1) + parts[1] ** 2 / (b.n - 1))
    return Error(math.sqrt(variance), freedom)


def prediction_error(ours: Spread, runs: float) -> Error | None:
    """Returns the error with which our runs predict the mean of further `runs`; None for one."""
    if ours.sd is None:
        return None
    return Error(ours.sd * math.sqrt(1 / ours.n + 1 / runs), ours.n - 1)


def paired_error(found: Paired) -> Error | None:
    """Returns the error of the mean difference; None for one pair."""
    return None if found.sd is None else Error(found.sd / math.sqrt(found.n), found.n - 1)


def detectable(found: Paired, level: float) -> float | None:
    """Returns the smallest difference that the paired t-test detects with power .8.

    Assumes the number and the sd of the given pairs; None for one pair.
    """
    if found.sd is None:
        return None
    freedom = found.n - 1
    critical = float(stats.t.isf(level / 2, freedom))
    shift = optimize.root_scalar(
        lambda shift: stats.nct.sf(critical, freedom, shift) - POWER, bracket=(0, 10 * critical)
    )
    return float(shift.root) * found.sd / math.sqrt(found.n)
