"""Runs an attack only on the rows that are not fooled yet, with fixed shapes."""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from adv_jax.perturbations import choose
from adv_jax.types import Array

Rows = TypeVar("Rows")


class Fooling(NamedTuple):
    """Each row's perturbation that fools the model.

    r: f32[B, *D], 0 until one is found; fools: bool[B], whether one is found.
    """

    r: Array
    fools: Array


def on_survivors(
    attack: Callable[[Rows, Array], Fooling], rows: Rows, state: Fooling, size: int
) -> Fooling:
    """Attacks the rows that are not fooled yet, `size` rows at a time; returns the new state.

    Sorted first, these rows fill the fewest blocks. The result does not depend on the blocks if
    the attack treats rows independently.

    Args:
      attack: (rows of a block, done bool[size]) -> Fooling; its result for rows that are done is
        ignored.
      rows: trees of arrays with B rows, or with one row for all.
      size: rows of a block, at most B.
    """
    batch, count = len(state.fools), (~state.fools).sum()
    order = jnp.argsort(state.fools, stable=True)
    order = jnp.pad(order, (0, -len(order) % size), mode="edge")

    def block(carry: tuple[Array, Fooling]) -> tuple[Array, Fooling]:
        start, state = carry
        which = jax.lax.dynamic_slice_in_dim(order, start, size)
        here, before = jax.tree.map(lambda a: a[which] if len(a) == batch else a, (rows, state))
        after = attack(here, before.fools)
        fresh = after.fools & ~before.fools
        after = Fooling(choose(fresh, after.r, before.r), before.fools | fresh)
        return start + size, jax.tree.map(lambda a, b: a.at[which].set(b), state, after)

    start = jnp.zeros((), count.dtype)
    return jax.lax.while_loop(lambda carry: carry[0] < count, block, (start, state))[1]
