"""Repair: the valid row of a ball that is near a point."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from adv_jax import norms
from adv_jax.checks import ball
from adv_jax.perturbations import choose, of_units, or_one, perturbed
from adv_jax.random import draw_rows
from adv_jax.tabular._constraints import Constraints
from adv_jax.types import Array, Key, Norm, widened

ROUNDS = 20  # of projections onto all relations
HALVINGS = 20  # of the way back to x


class Reach(NamedTuple):
    """The valid rows of the ball ||r / scale|| <= radius around each row of x.

    x: f[B, D].
    lo, hi: f[B, D], the smallest box around them.
    radius, scale: as `checks.Ball` has them, the scale over the costs; radius None: no ball.
    """

    constraints: Constraints
    x: Array
    lo: Array
    hi: Array
    radius: Any
    scale: Array | None
    norm: str

    @classmethod
    def of(
        cls, constraints: Constraints, x: Array, eps: Any = None, norm: Norm = "linf"
    ) -> "Reach":
        """Returns the reach of an attack's arguments; eps=None: no ball."""
        kind, near = norms.canonical(norm), widened(x)
        radius, scale = ball(eps, x, norm, optional=True)
        if constraints.costs is not None:
            price = jnp.asarray([constraints.costs], near.dtype)
            scale = 1 / price if scale is None else scale / price
        lo, hi = (limit.astype(near.dtype) for limit in constraints.box(x))
        if radius is None:
            return cls(constraints, x, lo, hi, None, scale, kind)
        # No entry of a ball moves further than this, whatever the norm.
        far = radius * (x.shape[1] ** 0.5 if kind == "rms" else 1.0)
        far = of_units(far, scale)
        whole = constraints.marked(constraints.integer)
        lo = jnp.maximum(lo, jnp.where(whole, jnp.ceil(near - far), near - far))
        hi = jnp.minimum(hi, jnp.where(whole, jnp.floor(near + far), near + far))
        return cls(constraints, x, lo, hi, radius, scale, kind)

    @property
    def near(self) -> Array:
        """Returns x in the dtype of the computations."""
        return self.x.astype(self.lo.dtype)

    def nearest(self, z: Array) -> Array:
        """Projects z f[B, D] onto simplices of groups, then the ball, then clips it to the box."""
        for group in map(np.array, self.constraints.one_hot):
            with jax.numpy_dtype_promotion("standard"):  # optax divides by int32
                simplex = jax.vmap(optax.projections.projection_simplex)(z[:, group])
            z = z.at[:, group].set(simplex.astype(z.dtype))
        r = self._in_ball(z - self.near)
        return jnp.clip(self.near + r, self.lo, self.hi)

    def holds(self, point: Array) -> Array:
        """Returns whether rows f[B, D], in the dtype of x, are valid and in the ball: bool[B]."""
        valid = self.constraints.valid(self.x, point)
        if self.radius is None:
            return valid
        r = point.astype(self.lo.dtype) - self.near
        length = norms.norm(r, self.norm, self.scale)
        return valid & (length <= self.radius[:, 0] * (1 + 1e-6))

    def repaired(self, z: Array) -> Array:
        """Returns a valid row near each row of z f[B, D], in the dtype of x; at worst x.

        Integers and groups are rounded, else integers are rounded toward x and groups are those of
        x, else all are those of x: the first for which real columns are found that make the row
        valid. Real columns are those of z before its projection, so that they fill what rounding
        leaves of the ball.
        """
        z = z.astype(self.lo.dtype)
        free, z = jnp.clip(z, self.lo, self.hi), self.nearest(z)
        whole = self.constraints.marked(self.constraints.integer)
        toward_x = jnp.where(whole, self.near + jnp.trunc(z - self.near), self.near)

        def better(found: Array, discrete: Array) -> tuple[Array, None]:
            point = self._with_reals(discrete, free)
            return choose(self.holds(point), point, found), None

        found, _ = jax.lax.scan(better, self.x, jnp.stack([self.near, toward_x, self._rounded(z)]))
        return found

    def steepest(self, gradient: Array) -> Array:
        """Returns the step of length 1 that climbs most, but in a group the gradient itself.

        The largest entry of a group's gradient is 1 in size, so that one category leads, where the
        signs of linf would make all equal.
        """
        step = norms.dual(gradient, self.norm, self.scale)
        for group in map(np.array, self.constraints.one_hot):
            slopes = gradient[:, group]
            largest = jnp.abs(slopes).max(axis=1, keepdims=True)
            units = 1.0 if self.scale is None else self.scale[:, group]
            step = step.at[:, group].set(units * slopes / or_one(largest))
        return step

    def drawn(self, keys: Key) -> Array:
        """Draws points f[B, D] of the box; half of the entries are at a limit, on average."""
        share = draw_rows(jax.random.uniform, keys, self.x.shape[1:], self.lo.dtype)
        share = jnp.clip(2 * share - 0.5, 0, 1)
        # A group becomes its largest entry: no ties.
        grouped = self.constraints.marked(self.constraints.in_groups)
        share = jnp.where(grouped, (share + 0.5) / 2, share)
        return self.lo + share * (self.hi - self.lo)

    def _in_ball(self, r: Array) -> Array:
        return r if self.radius is None else norms.project(r, self.radius, self.norm, self.scale)

    def _rounded(self, z: Array) -> Array:
        """Returns z with whole integers, and one category, of those that x may get, per group."""
        whole = self.constraints.marked(self.constraints.integer)
        z = jnp.where(whole, jnp.clip(jnp.round(z), self.lo, self.hi), z)
        for group in map(np.array, self.constraints.one_hot):
            must, can = self.lo[:, group] > 0, self.hi[:, group] >= 1
            free = ~must.any(axis=1, keepdims=True) | must
            score = jnp.where(can & free, z[:, group], -jnp.inf)
            category = jax.nn.one_hot(jnp.argmax(score, axis=1), len(group), dtype=z.dtype)
            z = z.at[:, group].set(category)
        return z

    def _with_reals(self, discrete: Array, z: Array) -> Array:
        """Returns rows of the discrete columns of one and the real ones of z, moved to be valid."""
        real = self.constraints.real
        z = self._related(jnp.where(real, z, discrete))
        r = self._in_ball(z - self.near)

        def at(share: Array) -> Array:
            bounds = self.lo.astype(self.x.dtype), self.hi.astype(self.x.dtype)
            moved = perturbed(self.x, share[:, None] * r, bounds)
            return jnp.where(real, moved, discrete.astype(self.x.dtype))

        def halve(_: int, shares: tuple[Array, Array]) -> tuple[Array, Array]:
            least, most = shares
            middle = (least + most) / 2
            fits = self.holds(at(middle))
            return jnp.where(fits, middle, least), jnp.where(fits, most, middle)

        def halved() -> Array:
            least, _ = jax.lax.fori_loop(0, HALVINGS, halve, (jnp.zeros_like(all_of_it), all_of_it))
            return at(jnp.where(fits, all_of_it, least))

        all_of_it = jnp.ones_like(self.lo[:, 0])  # Under shard_map it varies as the rows do.
        whole = at(all_of_it)
        fits = self.holds(whole)
        return jax.lax.cond(fits.all(), lambda: whole, halved)

    def _related(self, z: Array) -> Array:
        """Projects the real columns, in units of the scale, onto one relation after another."""
        if self.constraints.relations is None:
            return z
        a, b = (jnp.asarray(part, z.dtype) for part in self.constraints.relations)
        squared = jnp.ones_like(z) if self.scale is None else self.scale**2
        units = jnp.where(self.constraints.real, squared, 0)

        def onto(z: Array, relation: tuple[Array, Array]) -> tuple[Array, None]:
            slope, most = relation
            way = slope[None] * units
            excess = jnp.maximum(z @ slope - most, 0)[:, None]
            size = (way @ slope)[:, None]
            return z - excess * way / or_one(size), None

        def turn(_: int, z: Array) -> Array:
            return jnp.clip(jax.lax.scan(onto, z, (a, b))[0], self.lo, self.hi)

        return jax.lax.fori_loop(0, ROUNDS, turn, z)


@functools.partial(jax.jit, static_argnums=0)
def projected(constraints: Constraints, x: Array, x_adv: Array) -> Array:
    """Returns a valid row near each row of x_adv, wherever it lies."""
    return Reach.of(constraints, x).repaired(x_adv)
