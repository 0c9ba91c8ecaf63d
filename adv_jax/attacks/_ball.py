"""Points of the ball within the bounds: the nearest one, and random ones."""

import jax
import jax.numpy as jnp

from adv_jax import norms
from adv_jax.perturbations import choose, in_units, inside, limits, of_units
from adv_jax.types import Array, Bounds, Key, Norm, UserError, working_dtype


def feasible(
    x: Array, r: Array, eps: Array, norm: Norm, bounds: Bounds | None, scale: Array | None
) -> Array:
    """Projects r f32[B, *D] onto the ball of radius eps, then clips it to the bounds.

    Under l1 and l0 it is the nearest point of both. Under l0, [croce2019sparse], the entries stay
    whose clipping to 0 would cost most, r^2 - (r - clip(r))^2.
    """
    kind = norms.canonical(norm)
    if kind not in ("l1", "l0") or bounds is None:
        return inside(x, norms.project(r, eps, norm, scale), bounds)
    clipped = inside(x, r if scale is None else jnp.where(scale == 0, 0, r), bounds)
    if kind == "l1":
        shrunk = inside(x, _onto_l1_sphere(x, r, eps, bounds, scale), bounds)
        return choose(norms.norm(clipped, "l1", scale) <= eps.reshape(-1), clipped, shrunk)
    gain = clipped * (2 * r - clipped)
    kept = norms.largest(gain.reshape(len(r), -1), eps.reshape(-1, 1)).reshape(r.shape)
    return jnp.where(kept, clipped, 0)


def random_start(
    keys: Key, x: Array, eps: Array, norm: Norm, bounds: Bounds | None, scale: Array | None
) -> Array:
    """Draws r uniformly from the ball and clips it to the bounds: f32[B, *D].

    Under l0, whose ball is unbounded, r is drawn uniformly from the bounds and projected.
    """
    if norms.canonical(norm) != "l0":
        return inside(x, eps * norms.sample(keys, x, 1.0, norm, scale), bounds)
    if bounds is None:
        raise UserError("bounds must be (lo, hi) for a random start under l0, got None")
    dtype = working_dtype(x.dtype)
    share = norms.sample(keys, x, 0.5, "linf") + 0.5
    lo, hi = (bound.astype(dtype) for bound in limits(x, bounds))
    return feasible(x, lo + share * (hi - lo) - x.astype(dtype), eps, norm, bounds, scale)


def _onto_l1_sphere(x: Array, r: Array, eps: Array, bounds: Bounds, scale: Array | None) -> Array:
    """Returns the nearest p f32[B, *D] with ||p||_1 = eps and x + p in the bounds.

        |p_i| = clip(|r_i| - t, 0, room_i),   room_i = the way from x_i to its bound

    With a scale it is the nearest of p / scale. r, clipped to the bounds, is outside the ball.
    Variable fixing finds t exactly: each round solves for t among the entries that are neither 0
    nor at their bound, and fixes those that cross either in the direction of the error.

    Source: [croce2021box], sec. 2.1; of the method: [kiwiel2008], and the references there.
    """
    lo, hi = limits(x.astype(r.dtype), bounds)
    room = jnp.where(r > 0, hi - x.astype(r.dtype), x.astype(r.dtype) - lo)
    size = jnp.abs(r)
    size, room = (in_units(a, scale) for a in (size, room))
    size, room, eps = (a.reshape(a.shape[0], -1) for a in (size, room, eps))
    room = jnp.minimum(room, eps)  # No entry is longer than the whole row.
    # A shift of all sizes shifts t; near 0 the differences of large sizes are exact.
    size = size - size.max(axis=1, keepdims=True)

    def threshold(free: Array, full: Array) -> Array:
        total = _sum(size, free) + _sum(room, full) - eps
        return total / jnp.maximum(_sum(jnp.ones_like(size), free), 1)

    def fix(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        free, full, _ = carry
        t = threshold(free, full)
        error = _sum(jnp.clip(size - t, 0, room), free) + _sum(room, full) - eps
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
