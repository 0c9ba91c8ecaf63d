"""The length of each row that the defaults of attacks are multiples of, so that none has a unit.

It is, of these, the first that is known: the width of the bounds; another length of the attack, eps
or the distance to the linearized boundary; the range of the row. In [0, 1] it is 1.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from adv_jax import norms
from adv_jax.loss_gradients import margin, rate_fn, with_gradient
from adv_jax.perturbations import dot, in_units, limits, or_one, spread, without_fixed
from adv_jax.types import Array, Bounds, LogitsFn, widened


def typical_length(
    x: Array, bounds: Bounds | None, scale: Array | None, otherwise: Array | None = None
) -> Array:
    """Returns one length > 0 for each row, f32[1 or B, 1, ..., 1].

    A shift of x and its bounds does not change it, and a factor of both multiplies it.

    Args:
      scale: the units of each feature (`norms`): it is a length of r / scale.
      otherwise: f32[1 or B, ...], the length without finite bounds; it counts where it is > 0.
    """
    near = widened(x)
    moves = jnp.ones_like(near, bool) if scale is None else jnp.broadcast_to(scale != 0, x.shape)
    low, high = _range(in_units(near, scale), moves)
    length = high - low
    if otherwise is not None:
        other = spread(otherwise, x)
        length = jnp.where((other > 0) & jnp.isfinite(other), other, length)
    if bounds is not None:
        width = width_of(x, bounds, scale)
        length = jnp.where(jnp.isfinite(width), width, length)
    return length


def width_of(x: Array, bounds: Bounds, scale: Array | None) -> Array:
    """Returns the width of the bounds of each row as one length, f32[1 or B, 1, ..., 1].

    It is the geometric mean of (hi - lo) / scale over the features that may move, without those of
    an infinite width; inf if there are none.
    """
    lo, hi = limits(widened(x), bounds)
    moves = (hi > lo) & jnp.isfinite(hi - lo)
    moves = moves if scale is None else moves & (scale != 0)
    widths = jnp.where(moves, in_units(hi - lo, scale), 0)
    # Divided by the largest width, so that the logarithms do not depend on the unit.
    largest = _over_features(jnp.max, widths)
    logs = jnp.log(jnp.where(moves, widths / or_one(largest), 1))
    count = _over_features(jnp.sum, moves.astype(widths.dtype))
    mean = largest * jnp.exp(_over_features(jnp.sum, logs) / jnp.maximum(count, 1))
    return jnp.where(count > 0, mean, jnp.inf)


def search_length(
    logits_fn: LogitsFn,
    x: Array,
    y: Array | None,
    bounds: Bounds | None,
    scale: Array | None,
    *,
    targeted: bool,
) -> Array:
    """Returns `typical_length` of an attack by gradients that needs no eps, f32[B, 1, ..., 1].

    Without finite bounds it is the l2 distance from x to the boundary of the linearized model.
    """
    shape = len(x), *(1,) * (x.ndim - 1)

    def of_boundary() -> Array:
        at, slope = with_gradient(rate_fn(margin, logits_fn, x, y, targeted=targeted), x)
        distance = linear_distance(at.loss, slope, "l2", scale)
        return jnp.broadcast_to(typical_length(x, bounds, scale, distance), shape)

    if bounds is None:
        return of_boundary()
    width = jnp.broadcast_to(width_of(x, bounds, scale), shape)
    return jax.lax.cond(jnp.isfinite(width).all(), lambda: width, of_boundary)


def linear_distance(gap: Array, slope: Array, norm: str, scale: Array | None) -> Array:
    """Returns the distance |gap| / ||slope||_* at which a linear function is 0, f32[B]; flat: 0."""
    steepness = dot(without_fixed(slope, scale), norms.dual(slope, norm, scale))
    return jnp.where(steepness > 0, jnp.abs(gap) / jnp.where(steepness > 0, steepness, 1), 0)


def row_limits(x: Array, bounds: Bounds | None) -> tuple[Array, Array]:
    """Returns lo and hi: the bounds or, where they are not finite, the range of the row."""
    near = widened(x)
    low, high = _range(near, jnp.ones_like(near, bool))
    if bounds is None:
        return low, high
    lo, hi = limits(near, bounds)
    finite = jnp.isfinite(hi - lo)
    return jnp.where(finite, lo, low), jnp.where(finite, hi, high)


def _range(rows: Array, counts: Array) -> tuple[Array, Array]:
    """Returns the least and the largest entry that counts, f[B, 1, ..., 1].

    In a constant row it is 0 and its size, or 1 if that is 0.
    """
    low = _over_features(jnp.min, jnp.where(counts, rows, jnp.inf))
    high = _over_features(jnp.max, jnp.where(counts, rows, -jnp.inf))
    size = _over_features(jnp.max, jnp.where(counts, jnp.abs(rows), 0))
    varies = high > low
    return jnp.where(varies, low, 0), jnp.where(varies, high, jnp.where(size > 0, size, 1))


def _over_features(reduce: Callable[..., Array], rows: Array) -> Array:
    return reduce(rows, axis=tuple(range(1, rows.ndim)), keepdims=True)
