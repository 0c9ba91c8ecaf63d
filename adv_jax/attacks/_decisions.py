"""Decisions of a model, and points on the boundary of a class, found by decisions alone."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from adv_jax import norms
from adv_jax.attacks._best import Shortest
from adv_jax.attacks._lengths import typical_length
from adv_jax.checks import checked_labels, checked_logits
from adv_jax.loss_gradients import labels_at
from adv_jax.losses import classes
from adv_jax.perturbations import (
    choose,
    in_units,
    inside,
    limits,
    of_units,
    perturbed,
    without_fixed,
)
from adv_jax.random import draw_rows, fold_in_rows, split_rows
from adv_jax.types import Array, Bounds, Key, LogitsFn, working_dtype

FoolsFn = Callable[[Array], Array]  # r f32[B, *D] -> bool[B], whether x + r fools the model

MAX_STARTS = 200  # random points per row to start from
MIN_BISECTIONS, MAX_BISECTIONS = 10, 24  # the latter is the precision of float32


class Space(NamedTuple):
    """Where an attack by decisions searches.

    fools: the decisions.
    x: f[B, *D]; bounds: as in `fgsm`; scale: the units of each feature (`norms`), or None.
    length: f32[1 or B, 1, ..., 1], the `typical_length` of r / scale.
    """

    fools: FoolsFn
    x: Array
    bounds: Bounds | None
    scale: Array | None
    length: Array

    def of_scale(self, u: Array) -> Array:
        """Returns scale * u."""
        return of_units(u, self.scale)

    def of_units(self, u: Array) -> Array:
        """Returns r = scale * u, clipped to the bounds: f32[B, *D] -> f32[B, *D]."""
        return inside(self.x, self.of_scale(u), self.bounds)

    def in_units(self, r: Array) -> Array:
        """Returns u = r / scale, 0 where the scale is."""
        return in_units(r, self.scale)

    def normal(self, keys: Key) -> Array:
        """Draws u from a standard normal distribution, 0 where the scale is: f32[B, *D]."""
        dtype = working_dtype(self.x.dtype)
        drawn = draw_rows(jax.random.normal, keys, self.x.shape[1:], dtype)
        return without_fixed(drawn, self.scale)


def space(
    logits_fn: LogitsFn,
    x: Array,
    y: Array | None,
    bounds: Bounds | None,
    scale: Array | None,
    otherwise: Array | None,
    *,
    targeted: bool,
) -> Space:
    """Returns the space around x. A point fools if its class is not y, or is y if targeted.

    otherwise: the typical length without bounds.
    """
    at_x = checked_logits(logits_fn(x), batch=x.shape[0])
    y = classes(checked_labels(labels_at(logits_fn, x, y, targeted=targeted), at_x))

    def fools(r: Array) -> Array:
        logits = checked_logits(logits_fn(perturbed(x, r, bounds)), batch=x.shape[0])
        reached = jnp.argmax(logits, axis=1).astype(y.dtype) == y
        return reached if targeted else ~reached

    return Space(fools, x, bounds, scale, typical_length(x, bounds, scale, otherwise))


def first_on_boundary(at: Space, keys: Key, start: Array | None, norm: str) -> Shortest:
    """Returns a perturbation of each row on the boundary of its class.

    It leads to x + start, or to the first random point that fools: uniform noise in the bounds,
    darkened or brightened after the first; without bounds, normal noise of growing size, from a
    hundredth of the typical length. Rows that are fooled at x, or without such a point, get r = 0
    and the length 0.
    """
    unmoved = jnp.zeros_like(at.x, working_dtype(at.x.dtype))
    fooled = at.fools(unmoved)
    if start is None:
        r, found = _random_point(at, keys, unmoved, fooled)
    else:
        r = at.of_units(at.in_units(start))
        found = at.fools(r)
    ready = found & ~fooled & jnp.isfinite(norms.norm(r, norm, at.scale))
    return to_boundary(at, choose(ready, r, unmoved), norm)


def to_boundary(at: Space, r: Array, norm: str) -> Shortest:
    """Returns the shortest projection of r onto a ball around 0 that fools, by bisection.

    The relative tolerance is d^(-3/2) under l2 and d^(-2) under linf, as in [chen2020], at most
    1/1,000. A row with r = 0 keeps it.
    """
    d = max(math.prod(r.shape[1:]), 1)
    needed = math.ceil((2 if norm == "linf" else 1.5) * math.log2(d))
    count = min(max(needed, MIN_BISECTIONS), MAX_BISECTIONS)

    def halve(_: Array, span: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = span
        middle = (low + high) / 2
        hit = at.fools(norms.project(r, middle, norm, at.scale))
        return jnp.where(hit, low, middle), jnp.where(hit, middle, high)

    far = norms.norm(r, norm, at.scale)
    _, high = jax.lax.fori_loop(0, count, halve, (jnp.zeros_like(far), far))
    return Shortest(norms.project(r, high, norm, at.scale), high)


def _random_point(at: Space, keys: Key, unmoved: Array, fooled: Array) -> tuple[Array, Array]:
    """Returns each row's first random perturbation that fools, and whether there is one."""

    def draw(count: Array) -> Array:
        key_noise, key_shade = split_rows(fold_in_rows(keys, count))
        step = count.astype(unmoved.dtype)
        if at.bounds is None:
            return at.of_units(at.length * 0.01 * 1.1**step * at.normal(key_noise))
        lo, hi = (bound.astype(unmoved.dtype) for bound in limits(at.x, at.bounds))
        dtype, shape = unmoved.dtype, unmoved.shape[1:]
        noise = draw_rows(jax.random.uniform, key_noise, shape, dtype)
        shade = draw_rows(jax.random.normal, key_shade, (1,) * len(shape), dtype)
        point = lo + (hi - lo) * noise ** jnp.where(count == 0, 1, jnp.exp(shade))
        return at.of_units(at.in_units(point - at.x.astype(dtype)))

    def attempt(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        count, r, found = carry
        drawn = draw(count)
        r = choose(found, r, drawn)
        return count + 1, r, found | at.fools(r)

    def unfinished(carry: tuple[Array, Array, Array]) -> Array:
        count, _, found = carry
        return (count < MAX_STARTS) & ~found.all()

    _, r, found = jax.lax.while_loop(unfinished, attempt, (jnp.int32(0), unmoved, fooled))
    return r, found
