"""Lines below and above a function of one number on an interval."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from adv_jax.types import Array

Scalar = Callable[[Array], Array]  # element-wise, f[*S] -> f[*S]

_BISECTIONS = 20


class Line(NamedTuple):
    """slope * t + offset, for each entry: f[*S]."""

    slope: Array
    offset: Array


def lines(fn: Scalar, shape: str, lower: Array, upper: Array) -> tuple[Line, Line]:
    """Returns a line below fn and one above it on [lower, upper].

    The tangent is taken at the middle of the interval, which for a ReLU is the adaptive choice of
    CROWN: slope 1 if upper > -lower, else 0.

    Args:
      fn: element-wise.
      shape: "convex"; "concave"; or "sigmoid": convex below 0 and concave above, and fn - fn(0)
        odd.
      lower, upper: f[*S], lower <= upper.

    Source: [zhang2018], sec. 3.3.

    >>> below, above = lines(jax.nn.relu, "convex", jnp.array([-1.]), jnp.array([3.]))
    >>> [float(value[0]) for value in (*below, *above)]
    [1.0, 0.0, 0.75, 0.75]
    """
    if shape == "concave":
        below, above = lines(lambda t: -fn(t), "convex", lower, upper)
        return _negated(above), _negated(below)
    if shape == "convex":
        return _tangent(fn, (lower + upper) / 2), _chord(fn, lower, upper)
    # fn(t) = 2 fn(0) - fn(-t), so a line above -t is one below t.
    slope, offset = _above_sigmoid(fn, -upper, -lower)
    return Line(slope, 2 * fn(jnp.zeros_like(lower)) - offset), _above_sigmoid(fn, lower, upper)


def _negated(line: Line) -> Line:
    return Line(-line.slope, -line.offset)


def _derivative(fn: Scalar, t: Array) -> Array:
    return jax.jvp(fn, (t,), (jnp.ones_like(t),))[1]


def _tangent(fn: Scalar, t: Array) -> Line:
    value, slope = jax.jvp(fn, (t,), (jnp.ones_like(t),))
    return Line(slope, value - slope * t)


def _slope(fn: Scalar, lower: Array, upper: Array) -> Array:
    """Returns the slope of the chord; in a point, that of the tangent."""
    wide = upper > lower
    chord = (fn(upper) - fn(lower)) / jnp.where(wide, upper - lower, 1)
    return jnp.where(wide, chord, _derivative(fn, lower))


def _chord(fn: Scalar, lower: Array, upper: Array) -> Line:
    """Returns the lowest line of the slope of the chord that is not below its ends."""
    # On a short interval rounding may give any slope.
    steepest, flattest = _derivative(fn, upper), _derivative(fn, lower)
    slope = jnp.clip(_slope(fn, lower, upper), flattest, steepest)
    return _over_ends(fn, slope, lower, upper)


def _over_ends(fn: Scalar, slope: Array, lower: Array, upper: Array) -> Line:
    ends = fn(lower) - slope * lower, fn(upper) - slope * upper
    return Line(slope, jnp.maximum(*ends))


def _above_sigmoid(fn: Scalar, lower: Array, upper: Array) -> Line:
    """Returns the chord where it is above, else a tangent of the concave part."""
    slope = _slope(fn, lower, upper)
    chord_is_above = _derivative(fn, upper) >= slope
    at_lower = fn(lower)

    # A tangent at t >= 0 is above on all of [lower, upper] if it is at lower, and stays so for
    # larger t. Bisect for the smallest; `high` is above throughout.
    def halved(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = (low + high) / 2
        tangent = _tangent(fn, middle)
        above = tangent.slope * lower + tangent.offset >= at_lower
        return jnp.where(above, low, middle), jnp.where(above, middle, high)

    ends = jnp.zeros_like(upper), jnp.maximum(upper, 0)
    _, smallest = jax.lax.fori_loop(0, _BISECTIONS, halved, ends)
    # Any point above it is sound, so it may be a constant of the derivative. A bisection has none.
    smallest = jax.lax.stop_gradient(smallest)
    tangent = _tangent(fn, jnp.maximum(smallest, (lower + upper) / 2))
    chord = _over_ends(fn, slope, lower, upper)
    return jax.tree.map(lambda a, b: jnp.where(chord_is_above, a, b), chord, tangent)
