"""Measures of a generator's samples, by the features and classes that a classifier gives them.

They say something about a generator only beside the same measure of real inputs, and numbers of
other features, such as those of an Inception net, are not comparable.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from adv_jax.checks import checked_count, checked_number
from adv_jax.generative.measures._rows import as_rows
from adv_jax.models.nearest_neighbor import squared_distances
from adv_jax.programs import run_compiled
from adv_jax.types import Array, UserError, described, host_array, is_real

FEWEST = 10  # A class is covered from a share of 1 / (FEWEST K) of the samples on.
# A generator has collapsed below these; see `collapse`.
CLOSEST, UNNOTICED = 0.1, 0.01


class Coverage(NamedTuple):
    """The spread of samples over the classes; entropies in nats.

    shares: f[K], the share of samples of each class.
    modes: the number of classes with a share of a tenth of 1 / K or more.
    class_entropy: H(E p), at most log K, which is best.
    doubt: E H(p), the mean entropy of a sample's probabilities; 0 if each has a sure class.
    score: exp(H(E p) - E H(p)), from 1 to K: the inception score in the classifier's probabilities.
    """

    shares: np.ndarray
    modes: int
    class_entropy: float
    doubt: float
    score: float


def coverage(logits: ArrayLike) -> Coverage:
    """Returns the `Coverage` of samples by the logits f[n, K] that a classifier gives them.

    Raises:
      UserError: another shape, or not finite.

    Source: [salimans2016], sec. 4.

    >>> found = coverage([[50., 0., 0.], [50., 0., 0.], [0., 50., 0.]])
    >>> found.modes, found.shares.round(2), round(found.score, 3)  # exp(log 3 - 2/3 log 2)
    (2, array([0.67, 0.33, 0.  ]), 1.89)
    """
    import scipy.special  # Slow to import.

    z = _rows("logits", logits, at_least=1)
    probs = scipy.special.softmax(z, axis=1)
    counts = np.bincount(z.argmax(axis=1), minlength=z.shape[1])
    marginal = float(scipy.special.entr(probs.mean(axis=0)).sum())
    conditional = float(scipy.special.entr(probs).sum(axis=1).mean())
    # In integers, as a share of exactly 1 / (FEWEST K) may round below it.
    modes = int((FEWEST * counts * z.shape[1] >= len(z)).sum())
    score = float(np.exp(marginal - conditional))
    return Coverage(counts / len(z), modes, marginal, conditional, score)


def frechet(features: ArrayLike, others: ArrayLike) -> float:
    """Returns the Frechet distance of two sets of features, taken as Gaussian.

        |m_1 - m_2|^2 + tr(C_1 + C_2 - 2 (C_1 C_2)^{1/2})

    in float64, with the means m and the unbiased covariances C. It falls with the number of rows,
    so compare numbers of equally many only.

    Args:
      features: f[n, F], n >= 2.
      others: f[m, F], m >= 2.

    Raises:
      UserError: other shapes, or not finite.

    Source: [heusel2017], sec. 1.

    >>> frechet([[0.], [2.]], [[1.], [5.]])  # |1 - 3|^2 + (sqrt 2 - sqrt 8)^2
    6.0
    """
    a, b = _rows("features", features, at_least=2), _rows("others", others, at_least=2)
    if a.shape[1] != b.shape[1]:
        raise UserError(f"others must have {a.shape[1]} features, as the first, got {b.shape[1]}")
    apart = a.mean(axis=0) - b.mean(axis=0)
    of_a, of_b = (np.atleast_2d(np.cov(rows, rowvar=False)) for rows in (a, b))
    # tr (C_1 C_2)^{1/2} is the sum of the singular values of C_1^{1/2} C_2^{1/2}.
    product = np.linalg.norm(_root(of_a) @ _root(of_b), "nuc")
    return float(apart @ apart + np.trace(of_a) + np.trace(of_b) - 2 * product)


def nearest(samples: ArrayLike, x: ArrayLike, *, batch_size: int = 100) -> tuple[Array, Array]:
    """Returns the row of x nearest to each sample, i32[n], and its l2 distance, f32[n].

    A sample that repeats a training row has a distance near 0.

    Args:
      samples: f[n, *D].
      x: f[m, *D].
      batch_size: samples at a time; memory is batch_size * m.

    Raises:
      UserError: samples and x of different inputs, without rows or not finite; batch_size < 1.

    >>> index, distance = nearest(jnp.array([[3., 4.]]), jnp.array([[9., 9.], [0., 0.]]))
    >>> index.tolist(), distance.tolist()
    ([1], [5.0])
    """
    rows, others = as_rows(samples, x)
    return _nearest(rows, others, jnp.full(len(rows), -1), batch_size)


def diversity(samples: ArrayLike, x: ArrayLike, *, batch_size: int = 100) -> float:
    """Returns how far samples lie apart, as a share of the same distance of real inputs.

        median_i min_{j != i} |s_i - s_j|  /  median_i min_{j != i} |x_i - x_j|

    It is 0 if samples repeat, also if they repeat several images. x should have as many rows.

    Args:
      samples, x: f[n, *D] and f[m, *D], two rows or more.
      batch_size: as in `nearest`.

    Raises:
      UserError: as `nearest`; fewer rows; half of the rows of x repeat.

    >>> diversity(jnp.array([[0.], [1.], [2.]]), jnp.array([[0.], [4.], [8.]]))
    0.25
    """
    sides = as_rows(samples, x)
    counts = [len(rows) for rows in sides]
    if min(counts) < 2:
        raise UserError(f"samples and x must have two rows or more, got {counts[0]}, {counts[1]}")
    own, real = (
        jnp.median(_nearest(rows, rows, jnp.arange(len(rows)), batch_size)[1]) for rows in sides
    )
    if not real:
        raise UserError("x must be rows that mostly differ, got a median distance of 0")
    return float(own / real)


def collapse(
    *, diversity: float, fooled: float | None = None, coverage: Coverage | None = None
) -> list[str]:
    """Returns the signs in words that a generator has collapsed; none if it has not.

    It has collapsed if its samples repeat (a diversity below .1), if the discriminator has won (a
    mean D(G(z)) below .01), so that the generator gets no gradient, or if one of K classes has less
    than .1 / K of the samples. Classes that are so rare in the data need another rule.

    Args:
      diversity: of the samples, as from `diversity`.
      fooled: the mean D(G(z)); None if there is no discriminator of real inputs.
      coverage: of the samples, by a classifier; None without one.

    Raises:
      UserError: a diversity below 0, a share outside [0, 1], or a coverage that is no `Coverage`.

    >>> of_two_classes = coverage([[9., 0., 0.], [0., 9., 0.]])
    >>> collapse(diversity=.8, fooled=.2, coverage=of_two_classes)
    ['1 of 3 classes has less than 3.33 % of the samples']
    """
    checked_number("diversity", diversity, "[0, inf)")
    checked_number("fooled", fooled, "[0, 1]", optional=True)
    if not isinstance(coverage, Coverage | None):
        allowed = "a Coverage, as `measures.coverage` returns it, or None"
        raise UserError(f"coverage must be {allowed}, got {described(coverage)}")
    signs = []
    if diversity < CLOSEST:
        signs.append(f"samples repeat: their diversity is {diversity:.2g}, below {CLOSEST:g}")
    if fooled is not None and fooled < UNNOTICED:
        signs.append(f"the discriminator has won: D(G(z)) is {fooled:.2g}, below {UNNOTICED:g}")
    if coverage is not None and (lost := len(coverage.shares) - coverage.modes):
        have = "has" if lost == 1 else "have"
        share = f"less than {100 / FEWEST / len(coverage.shares):.3g} % of the samples"
        signs.append(f"{lost} of {len(coverage.shares)} classes {have} {share}")
    return signs


def _nearest(rows: Array, others: Array, skipped: Array, batch_size: int) -> tuple[Array, Array]:
    """`nearest` of f[n, d] and f[m, d], but for the row `skipped` i32[n] of others; -1: none."""
    batch_size = checked_count("batch_size", batch_size)
    features = others.T

    def of_row(arrays: tuple[Array, Array]) -> tuple[Array, Array]:
        row, skip = arrays
        (squares,) = squared_distances(row[:, None], features)
        away = jnp.where(jnp.arange(len(others)) == skip, jnp.inf, squares)
        index = jnp.argmin(away)
        return index.astype(jnp.int32), jnp.sqrt(away[index])

    over_rows = lambda *arrays: jax.lax.map(of_row, arrays, batch_size=batch_size)
    return run_compiled(over_rows, rows, skipped)


def _root(covariance: np.ndarray) -> np.ndarray:
    """Returns the symmetric square root; eigenvalues below 0 are rounding."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(values.clip(0))) @ vectors.T


def _rows(name: str, values: ArrayLike, *, at_least: int) -> np.ndarray:
    """Returns f64[n, F] after checking the shape and the values."""
    found = host_array(values)
    if (
        found is None
        or not is_real(found)
        or found.ndim != 2
        or len(found) < at_least
        or not found.shape[1]
    ):
        legal = f"f[n, F] with {at_least} rows or more"
        raise UserError(f"{name} must be {legal}, got {described(values)}")
    rows = found.astype(np.float64)
    if (bad := rows[~np.isfinite(rows)]).size:
        raise UserError(f"{name} must be finite numbers, got {bad[0]}")
    return rows
