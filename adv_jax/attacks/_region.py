"""The points that an attack may reach: the ball around x within the bounds."""

from typing import Any, NamedTuple

from adv_jax import norms
from adv_jax.attacks._ball import feasible, random_start
from adv_jax.checks import ball, is_per_feature
from adv_jax.perturbations import inside, perturbed
from adv_jax.types import Array, Bounds, Key, Mask, Norm


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
        cls,
        x: Array,
        eps: Any,
        norm: Norm,
        bounds: Bounds | None,
        mask: Mask | None,
        *,
        sparse: bool = False,
    ) -> "Region":
        """Returns the region of the arguments of an attack; see `checks.ball` for `sparse`."""
        radius, scale = ball(eps, x, norm, bounds, mask, sparse=sparse, optional=True)
        return cls(x, radius, norms.canonical(norm), bounds, scale)

    def units(self, eps: Any) -> Array | None:
        """Returns the units in which r shall be short: the radii of the features, or `scale`."""
        return self.radius * self.scale if is_per_feature(eps, self.x) else self.scale

    def nearest(self, r: Array) -> Array:
        """Projects r f32[B, *D] onto the ball, then clips it to the bounds (`feasible`)."""
        return feasible(self.x, r, self.radius, self.norm, self.bounds, self.scale)

    def drawn(self, keys: Key) -> Array:
        """Draws r f32[B, *D] uniformly from the ball and clips it to the bounds."""
        return random_start(keys, self.x, self.radius, self.norm, self.bounds, self.scale)

    def steepest(self, gradient: Array) -> Array:
        """Returns the step of length 1 that climbs most: argmax_{||u|| <= 1} <gradient, u>."""
        return norms.dual(gradient, self.norm, self.scale)

    def length(self, r: Array) -> Array:
        """Returns the norm of r, f32[B]."""
        return norms.norm(r, self.norm, self.scale)

    def clipped(self, r: Array) -> Array:
        """Clips r to the bounds."""
        return inside(self.x, r, self.bounds)

    def moved(self, r: Array) -> Array:
        """Returns x + r, projected and rounded: the last operation of every attack."""
        if self.radius is not None:
            r = norms.project(r, self.radius, self.norm, self.scale)
        return perturbed(self.x, r, self.bounds)
