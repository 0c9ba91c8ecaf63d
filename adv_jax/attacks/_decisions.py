"""Decisions of a model, and points on the boundary of a class, found by decisions alone."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from adv_jax import norms
from adv_jax.attacks._best import Shortest
from adv_jax.attacks._lengths import typical_length
from adv_jax.attacks._region import Region
from adv_jax.checks import checked_labels, checked_logits, is_per_feature
from adv_jax.loss_gradients import labels_at
from adv_jax.losses import classes
from adv_jax.perturbations import choose, limits, of_units, perturbed, without_fixed
from adv_jax.random import draw_rows, fold_in_rows, split_rows
from adv_jax.types import Array, Key, LogitsFn, working_dtype

FoolsFn = Callable[[Array], Array]  # r f32[B, *D] -> bool[B], whether x + r fools the model

MAX_STARTS = 200  # random points per row to start from
MIN_BISECTIONS, MAX_BISECTIONS = 10, 24  # the latter is the precision of float32


class Space(NamedTuple):
    """Where an attack by decisions searches.

    region: around x. fools: the decisions.
    length: f32[1 or B, 1, ..., 1], the `typical_length` of r / scale.
    """

    region: Region
    fools: FoolsFn
    length: Array

    def normal(self, keys: Key) -> Array:
        """Draws u = r / scale from a normal distribution, 0 where the scale is: f32[B, *D]."""
        x, scale = self.region.x, self.region.scale
        drawn = draw_rows(jax.random.normal, keys, x.shape[1:], working_dtype(x.dtype))
        return without_fixed(drawn, scale)


def space(
    logits_fn: LogitsFn, y: Array | None, region: Region, eps: Any, *, targeted: bool
) -> Space:
    """Returns the space of a region. A point fools if its class is not y, or is y if targeted.

    eps: radii of the features give the typical length if there are no bounds.
    """
    x, radius, _, bounds, scale = region
    at_x = checked_logits(logits_fn(x), batch=x.shape[0])
    y = classes(checked_labels(labels_at(logits_fn, x, y, targeted=targeted), at_x))

    def fools(r: Array) -> Array:
        logits = checked_logits(logits_fn(perturbed(x, r, bounds)), batch=x.shape[0])
        reached = jnp.argmax(logits, axis=1).astype(y.dtype) == y
        return reached if targeted else ~reached

    otherwise = radius if is_per_feature(eps, x) else None
    return Space(region, fools, typical_length(x, bounds, scale, otherwise))


def first_on_boundary(at: Space, keys: Key, start: Array | None) -> Shortest:
    """Returns a perturbation of each row on the boundary of its class.

    It leads to x + start, or to the first random point that fools: uniform noise in the bounds,
    darkened or brightened after the first; without bounds, normal noise of growing size, from a
    hundredth of the typical length. Rows that are fooled at x, or without such a point, get r = 0
    and the length 0.
    """
    unmoved = jnp.zeros_like(at.region.x, working_dtype(at.region.x.dtype))
    fooled = at.fools(unmoved)
    if start is None:
        r, found = _random_point(at, keys, unmoved, fooled)
    else:
        r = at.region.clipped(without_fixed(start, at.region.scale))
        found = at.fools(r)
    ready = found & ~fooled & jnp.isfinite(at.region.length(r))
    return to_boundary(at, choose(ready, r, unmoved))


def to_boundary(at: Space, r: Array) -> Shortest:
    """Returns the shortest projection of r onto a ball around 0 that fools, by bisection.

    The relative tolerance is d^(-3/2) under l2 and d^(-2) under linf, as in [chen2020], at most
    1/1,000. A row with r = 0 keeps it.
    """
    norm, scale = at.region.norm, at.region.scale
    d = max(math.prod(r.shape[1:]), 1)
    needed = math.ceil((2 if norm == "linf" else 1.5) * math.log2(d))
    count = min(max(needed, MIN_BISECTIONS), MAX_BISECTIONS)

    def halve(_: Array, span: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = span
        middle = (low + high) / 2
        hit = at.fools(norms.project(r, middle, norm, scale))
        return jnp.where(hit, low, middle), jnp.where(hit, middle, high)

    far = at.region.length(r)
    _, high = jax.lax.fori_loop(0, count, halve, (jnp.zeros_like(far), far))
    return Shortest(norms.project(r, high, norm, scale), high)


def _random_point(at: Space, keys: Key, unmoved: Array, fooled: Array) -> tuple[Array, Array]:
    """Returns each row's first random perturbation that fools, and whether there is one."""
    x, bounds, scale = at.region.x, at.region.bounds, at.region.scale

    def draw(count: Array) -> Array:
        key_noise, key_shade = split_rows(fold_in_rows(keys, count))
        step = count.astype(unmoved.dtype)
        if bounds is None:
            return of_units(at.length * 0.01 * 1.1**step * at.normal(key_noise), scale)
        lo, hi = (bound.astype(unmoved.dtype) for bound in limits(x, bounds))
        dtype, shape = unmoved.dtype, unmoved.shape[1:]
        noise = draw_rows(jax.random.uniform, key_noise, shape, dtype)
        shade = draw_rows(jax.random.normal, key_shade, (1,) * len(shape), dtype)
        point = lo + (hi - lo) * noise ** jnp.where(count == 0, 1, jnp.exp(shade))
        return at.region.clipped(without_fixed(point - x.astype(dtype), scale))

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
