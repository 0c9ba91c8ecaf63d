"""Each row's best or shortest perturbation so far, kept by the iterative attacks."""

from typing import NamedTuple

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


class Shortest(NamedTuple):
    """Each row's shortest perturbation so far that fools the model.

    r: f32[B, *D]; length: f32[B], in the attack's norm, inf until one is found.
    """

    r: Array
    length: Array

    def or_shorter(self, other: "Shortest") -> "Shortest":
        return choose(other.length < self.length, other, self)
