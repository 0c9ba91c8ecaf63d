"""Values that depend on x, their intervals over a ball, and linear bounds pulled back to x."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from adv_jax import norms
from adv_jax.linear_bounds._lines import Scalar, lines
from adv_jax.perturbations import limits
from adv_jax.types import Array, Bounds

_ENTRIES = 64  # entries of a layer that are bounded at a time

# c f[*S] -> a coefficient for each parent, and a constant f[]: c . value >= their sum in the ball.
Pull = Callable[[Array], tuple[tuple[Array, ...], Array]]


@dataclass(eq=False)
class Value:
    """An array that depends on x: lower <= value <= upper, f[*S], for all x of the ball.

    parents: the values that it is computed from.
    pull: turns a linear lower bound in this value into one in its parents; None for x.
    affine: whether linear bounds pass it without loss.
    straight: whether it is an affine function of x.
    tight: whether `Tape.tighten` has been here.
    """

    lower: Array
    upper: Array
    parents: tuple["Value", ...] = ()
    pull: Pull | None = None
    affine: bool = True
    straight: bool = True
    tight: bool = False


class Ball:
    """The points within eps of a row x f[1, *D] and within the bounds."""

    def __init__(self, x: Array, eps: Array, norm: str, bounds: Bounds | None):
        self.x, self.eps, self.norm = x, eps, norm
        # The largest move of one entry.
        most = eps * math.sqrt(x.size) if norm == "rms" else eps
        self.low, self.high = jnp.full_like(x, -most), jnp.full_like(x, most)
        if bounds is not None:
            lo, hi = limits(x, bounds)
            self.low = jnp.maximum(self.low, jnp.minimum(lo - x, 0))
            self.high = jnp.minimum(self.high, jnp.maximum(hi - x, 0))

    def minimum(self, c: Array) -> Array:
        """Returns a lower bound f[] of c . x' over the points x'.

        It is the minimum under linf, and where either eps or the bounds do not matter.
        """
        least = jnp.minimum(c * self.low, c * self.high).sum()
        if self.norm != "linf":
            least = jnp.maximum(least, -self.eps * (c * norms.dual(c, self.norm)).sum())
        return (c * self.x).sum() + least


class Tape:
    """The values of a network in the order of their computation, x first.

    method: which intervals linear bounds tighten: "crown", all that an activation sees; else those
      of affine functions of x in a ball that is no box.
    """

    def __init__(self, ball: Ball, method: str):
        self._ball, self._method = ball, method
        self.x = Value(ball.x + ball.low, ball.x + ball.high)
        self._values = [self.x]

    def add(self, value: Value) -> Value:
        """Returns the value, which is now the last one."""
        self._values.append(value)
        return value

    def activation(self, fn: Scalar, shape: str, value: Value) -> Value:
        """Adds fn(value), for a nondecreasing element-wise function; shape: as in `lines`."""
        self._tighten(value)
        below, above = lines(fn, shape, value.lower, value.upper)

        def pull(c: Array) -> tuple[tuple[Array, ...], Array]:
            positive, negative = jnp.maximum(c, 0), jnp.minimum(c, 0)
            constant = (positive * below.offset + negative * above.offset).sum()
            return (positive * below.slope + negative * above.slope,), constant

        interval = fn(value.lower), fn(value.upper)
        return self.add(Value(*interval, (value,), pull, affine=False, straight=False))

    def lower(self, value: Value, c: Array, *, linear: bool) -> Array:
        """Returns a lower bound f[] of c . value over the ball.

        linear: pulls c back to x; else to the nearest activations, of which the intervals count.
        """
        coefficients, terms = {value: c}, []
        for of in reversed(self._values):
            if of not in coefficients:
                continue
            part = coefficients.pop(of)
            if of.pull is None:
                terms.append(self._ball.minimum(part))
            elif linear or of.affine:
                parts, constant = of.pull(part)
                terms.append(constant)
                for parent, part in zip(of.parents, parts, strict=True):
                    coefficients[parent] = coefficients.get(parent, 0) + part
            else:
                terms.append(jnp.minimum(part * of.lower, part * of.upper).sum())
        return sum((term.astype(c.dtype) for term in terms), jnp.zeros((), c.dtype))

    def _tighten(self, value: Value) -> None:
        """Replaces the interval of a value by that of its linear bounds where it is tighter."""
        straight = value.straight and self._ball.norm != "linf"
        if value.tight or not (straight or self._method == "crown"):
            return

        def ends(entry: Array) -> tuple[Array, Array]:
            c = jax.nn.one_hot(entry, value.lower.size, dtype=value.lower.dtype)
            c = c.reshape(value.lower.shape)
            return self.lower(value, c, linear=True), -self.lower(value, -c, linear=True)

        found = jax.lax.map(ends, jnp.arange(value.lower.size), batch_size=_ENTRIES)
        lower, upper = (end.reshape(value.lower.shape) for end in found)
        # fmax and fmin ignore NaN, which an overflow leaves.
        value.lower = jnp.fmax(value.lower, lower)
        value.upper = jnp.maximum(jnp.fmin(value.upper, upper), value.lower)
        value.tight = True
