"""Each row's best or shortest perturbation so far, kept by the iterative attacks."""

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp

from adv_jax.perturbations import choose
from adv_jax.types import Array


class Iterate(NamedTuple):
    """A perturbation r f32[B, *D], its loss f32[B] and gradient f32[B, *D]."""

    r: Array
    loss: Array
    gradient: Array


class Best(NamedTuple):
    """Each row's best perturbation: those that fool the model first, then by higher loss.

    r: f32[B, *D]; loss: f32[B]; fools: bool[B].
    """

    r: Array
    loss: Array
    fools: Array

    @classmethod
    def none(cls, r: Array, fools: Array) -> "Best":
        """Returns the best of no perturbations, for a search of r like `r`: any other is better.

        fools: bool[B], the rows to count as fooled all the same.
        """
        return cls(jnp.zeros_like(r), jnp.full_like(fools, -jnp.inf, r.dtype), fools)

    def or_better(self, other: "Best") -> "Best":
        better = (other.fools & ~self.fools) | (
            (other.fools == self.fools) & (other.loss > self.loss)
        )
        return choose(better, other, self)


class _Counted(Protocol):
    """A state of an ascent: its count of iterations, from 0, and the best so far."""

    @property
    def count(self) -> Array: ...
    @property
    def best(self) -> Best: ...


_State = TypeVar("_State", bound=_Counted)


def best_of_ascent(
    iterate: Callable[[_State], _State], state: _State, *, num_steps: int, early_stop: bool
) -> Best:
    """Returns the best of num_steps steps and of their start: iterates num_steps + 1 times.

    early_stop: ends once all rows are fooled.
    """

    def unfinished(state: _State) -> Array:
        left = state.count <= num_steps
        return left & ~state.best.fools.all() if early_stop else left

    return jax.lax.while_loop(unfinished, iterate, state).best


class Shortest(NamedTuple):
    """Each row's shortest perturbation so far that fools the model.

    r: f32[B, *D]; length: f32[B], in the attack's norm, inf until one is found.
    """

    r: Array
    length: Array

    @classmethod
    def of(cls, r: Array, length: Array, fools: Array) -> "Shortest":
        """Returns r where `fools` bool[B] is True, and nothing found elsewhere."""
        return cls(r, jnp.where(fools, length, jnp.inf))

    @classmethod
    def none(cls, r: Array) -> "Shortest":
        """Returns that nothing is found, for a search of r like `r`."""
        return cls(jnp.zeros_like(r), jnp.full_like(r, jnp.inf, shape=r.shape[:1]))

    def or_shorter(self, other: "Shortest") -> "Shortest":
        return choose(other.length < self.length, other, self)
