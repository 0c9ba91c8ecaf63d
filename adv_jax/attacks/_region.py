"""The points that an attack may reach: the ball around x within the bounds."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from adv_jax import norms
from adv_jax.checks import ball, is_per_feature
from adv_jax.perturbations import (
    choose,
    in_units,
    inside,
    limits,
    of_units,
    perturbed,
    without_fixed,
)
from adv_jax.types import Array, Bounds, Key, Mask, Norm, UserError, working_dtype


class Region(NamedTuple):
    """The ball ||r / scale|| <= radius around each row of x, within the bounds.

    x: f[B, *D]; bounds: (lo, hi) or None.
    radius: f32[1 or B, 1, ..., 1]; None: no limit.
    norm: its canonical name.
    scale: the units of each feature (`norms`), 0 where it must not move; None: 1 everywhere.
    """

    x: Array
    radius: Any
    norm: str
    bounds: Bounds | None
    scale: Array | None

    @classmethod
    def of(
        cls, x: Array, eps: Any, norm: Norm, bounds: Bounds | None, mask: Mask | None
    ) -> "Region":
        """Returns the region of the arguments of an attack, whose decorator checked the norm."""
        radius, scale = ball(eps, x, norm, bounds, mask, legal_norms=norms.ALL, optional=True)
        return cls(x, radius, norms.canonical(norm), bounds, scale)

    def units(self, eps: Any) -> Array | None:
        """Returns the units in which r shall be short: the radii of the features, or `scale`."""
        return self.radius * self.scale if is_per_feature(eps, self.x) else self.scale

    def nearest(self, r: Array) -> Array:
        """Projects r f32[B, *D] onto the ball, then clips it to the bounds.

        Under l1 and l0 it is the nearest point of both. Under l0, [croce2019sparse], the entries
        stay whose clipping to 0 would cost most, r^2 - (r - clip(r))^2.
        """
        _, radius, norm, bounds, scale = self
        if norm not in ("l1", "l0") or bounds is None:
            return self.clipped(norms.project(r, radius, norm, scale))
        clipped = self.clipped(without_fixed(r, scale))
        if norm == "l1":
            x = self.x.astype(r.dtype)
            lo, hi = limits(x, bounds)
            room = jnp.where(r > 0, hi - x, x - lo)
            shrunk = self.clipped(_onto_l1_sphere_in_box(r, room, radius, scale))
            return choose(self.length(clipped) <= radius.reshape(-1), clipped, shrunk)
        gain = clipped * (2 * r - clipped)
        kept = norms.largest(gain.reshape(len(r), -1), radius.reshape(-1, 1)).reshape(r.shape)
        return jnp.where(kept, clipped, 0)

    def drawn(self, keys: Key) -> Array:
        """Draws r f32[B, *D] uniformly from the ball and clips it to the bounds.

        Under l0, whose ball is unbounded, r is drawn uniformly from the bounds and projected.
        """
        x, radius, norm, bounds, scale = self
        if norm != "l0":
            return self.clipped(radius * norms.sample(keys, x, 1.0, norm, scale))
        if bounds is None:
            raise UserError("bounds must be (lo, hi) for a random start under l0, got None")
        dtype = working_dtype(x.dtype)
        share = norms.sample(keys, x, 0.5, "linf") + 0.5
        lo, hi = (bound.astype(dtype) for bound in limits(x, bounds))
        return self.nearest(lo + share * (hi - lo) - x.astype(dtype))

    def steepest(self, gradient: Array) -> Array:
        """Returns the step of length 1 that climbs most: argmax_{||u|| <= 1} <gradient, u>."""
        return norms.dual(gradient, self.norm, self.scale)

    def length(self, r: Array) -> Array:
        """Returns the norm of r, f32[B]."""
        return norms.norm(r, self.norm, self.scale)

    def clipped(self, r: Array) -> Array:
        """Clips r to the bounds."""
        return inside(self.x, r, self.bounds)

    def perturbed(self, r: Array) -> Array:
        """Returns x + r, projected and rounded: the last operation of every attack."""
        if self.radius is not None:
            r = norms.project(r, self.radius, self.norm, self.scale)
        return perturbed(self.x, r, self.bounds)


def _onto_l1_sphere_in_box(r: Array, room: Array, radius: Array, scale: Array | None) -> Array:
    """Returns the nearest p f32[B, *D] with ||p||_1 = radius and |p_i| <= room_i.

        |p_i| = clip(|r_i| - t, 0, room_i)

    With a scale it is the nearest of p / scale. r, clipped to its room, is outside the ball.
    Variable fixing finds t exactly: each round solves for t among the entries that are neither 0
    nor at their bound, and fixes those that cross either in the direction of the error.

    room: f32[B, *D], the way from x_i to its bound in the direction of r_i.

    Source: [croce2021box], sec. 2.1; of the method: [kiwiel2008], and the references there.
    """
    size, room = (in_units(a, scale) for a in (jnp.abs(r), room))
    size, room, radius = (a.reshape(a.shape[0], -1) for a in (size, room, radius))
    room = jnp.minimum(room, radius)  # No entry is longer than the whole row.
    # A shift of all sizes shifts t; near 0 the differences of large sizes are exact.
    size = size - size.max(axis=1, keepdims=True)

    def threshold(free: Array, full: Array) -> Array:
        total = _sum(size, free) + _sum(room, full) - radius
        return total / jnp.maximum(_sum(jnp.ones_like(size), free), 1)

    def fix(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        free, full, _ = carry
        t = threshold(free, full)
        error = _sum(jnp.clip(size - t, 0, room), free) + _sum(room, full) - radius
        empties = free & (size <= t) & (error > 0)
        fills = free & (size - t >= room) & (error < 0)
        return free & ~empties & ~fills, full | fills, (empties | fills).any()

    nothing = jnp.zeros_like(size, bool)
    start = room > 0, nothing, jnp.ones_like(nothing, shape=())
    free, full, _ = jax.lax.while_loop(lambda carry: carry[2], fix, start)
    length = jnp.clip(size - threshold(free, full), 0, room)
    length = jnp.where(free, length, jnp.where(full, room, 0)).reshape(r.shape)
    return jnp.sign(r) * of_units(length, scale)


def _sum(values: Array, where: Array) -> Array:
    return jnp.where(where, values, 0).sum(axis=1, keepdims=True)
