"""The smallest perturbation as the limit of penalties: minimise |r|_2^2 + c * loss(x + r).

A small c keeps r small, a large one makes it fool the model; each row searches its own c.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from adv_jax import norms
from adv_jax.attacks._contract import choose, perturbed
from adv_jax.types import Array, Bounds


class Shortest(NamedTuple):
    """Each row's shortest perturbation so far that fools the model.

    r: f32[B, *D]; length: f32[B], its l2 norm, inf where none fools.
    """

    r: Array
    length: Array

    def or_shorter(self, other: "Shortest") -> "Shortest":
        return choose(other.length < self.length, other, self)


BisectionState = tuple[Array, Array, Array, Shortest]  # c, its lower and upper bound, best


def squared(r: Array) -> Array:
    """|r|_2^2 of each row: f32[B, *D] -> f32[B]."""
    return jnp.sum(r**2, axis=tuple(range(1, r.ndim)))


def among(r: Array, fools: Array) -> Shortest:
    """The perturbations of the rows that fool: f32[B, *D], bool[B]."""
    return Shortest(r, jnp.where(fools, norms.norm(r, "l2"), jnp.inf))


def search(
    attempt: Callable[[Array], Shortest],
    unmoved: Shortest,
    *,
    initial_const: ArrayLike,
    search_steps: int,
) -> Array:
    """The shortest r that `attempt(c)` finds over the values of c tried: f32[B, *D].

    Binary search, row by row: ten times c until the row fools the model, then halfway between
    the largest c that failed (0 at first) and the smallest that fooled. A row that fools already
    where it is stays there, and so does one that never does.

    Args:
      attempt: f32[B] -> the best of each row with the penalty c.
      unmoved: r = 0 and whether it fools.
      initial_const: the first c, f32[] or f32[B], > 0.
      search_steps: values of c, >= 1.

    Source: [carlini2017], sec. V-B and their public program.
    """
    first = norms.per_row("initial_const", initial_const, unmoved.length)
    failed = jnp.zeros_like(unmoved.length)

    def bisect(carry: BisectionState, _: None) -> tuple[BisectionState, None]:
        const, failed, fooled, best = carry
        found = attempt(const)
        fools = jnp.isfinite(found.length)
        failed, fooled = jnp.where(fools, failed, const), jnp.where(fools, const, fooled)
        const = jnp.where(jnp.isinf(fooled), 10 * const, (failed + fooled) / 2)
        return (const, failed, fooled, best.or_shorter(found)), None

    carry = failed + first, failed, failed + jnp.inf, unmoved
    (*_, best), _ = jax.lax.scan(bisect, carry, length=search_steps)
    return best.r


def within(x: Array, r: Array, eps: ArrayLike | None, bounds: Bounds) -> Array:
    """x + r, or where eps is a number, with r projected into the l2 ball of that radius."""
    if eps is not None:
        r = norms.project(r, eps, "l2")
    return perturbed(x, r, bounds)
