"""Penalty method for the smallest perturbation: minimize |r|_2^2 + c * loss(x + r).

A binary search finds, for each row, the smallest c for which r fools the model.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from adv_jax import norms
from adv_jax.attacks._best import Shortest
from adv_jax.perturbations import dot
from adv_jax.types import Array

Bracket = tuple[Array, Array, Array, Shortest]  # c, largest c that failed, least that fooled, best


def squared(r: Array) -> Array:
    """Returns |r|_2^2 of each row: f32[B, *D] -> f32[B]."""
    return dot(r, r)


def search(
    attempt: Callable[[Array], Shortest],
    unmoved: Shortest,
    *,
    initial_const: Array,
    search_steps: int,
) -> Array:
    """Returns the shortest r found by `attempt(c)` over all c tried: f32[B, *D].

    Binary search, row by row: c grows tenfold until the row is fooled, then halves the interval
    between the largest c that failed (0 at first) and the smallest that succeeded. Rows fooled at
    r = 0, or never, keep r = 0.

    Args:
      attempt: f32[B] -> the best of each row with the penalty c.
      unmoved: r = 0 and whether it fools.
      initial_const: the first c, f32[1 or B], > 0.
      search_steps: values of c, >= 1.

    Source: [carlini2017], sec. V-B and their public program.
    """
    failed = jnp.zeros_like(unmoved.length)

    def bisect(carry: Bracket, _: None) -> tuple[Bracket, None]:
        const, failed, fooled, best = carry
        found = attempt(const)
        fools = jnp.isfinite(found.length)
        failed, fooled = jnp.where(fools, failed, const), jnp.where(fools, const, fooled)
        const = jnp.where(jnp.isinf(fooled), 10 * const, (failed + fooled) / 2)
        return (const, failed, fooled, best.or_shorter(found)), None

    carry = failed + initial_const, failed, failed + jnp.inf, unmoved
    (*_, best), _ = jax.lax.scan(bisect, carry, length=search_steps)
    return best.r


def first_const(given: ArrayLike | None, default: float, length: Array) -> Array:
    """Returns the first c f32[1 or B] for |r / length|^2, of one for |r|^2 or the default."""
    rows = length.reshape(-1)
    if given is None:
        return jnp.full_like(rows, default)
    return norms.per_row("initial_const", given, rows) / rows**2
