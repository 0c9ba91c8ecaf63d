"""Points of the ball within the bounds: the nearest one, and random ones."""

import jax.numpy as jnp

from adv_jax import norms
from adv_jax.perturbations import inside, limits
from adv_jax.types import Array, Bounds, Key, Norm, UserError, working_dtype


def feasible(
    x: Array, r: Array, eps: Array, norm: Norm, bounds: Bounds | None, scale: Array | None
) -> Array:
    """Projects r f32[B, *D] onto the ball of radius eps, then clips it to the bounds.

    Under l0 it is the nearest point of both, [croce2019sparse]: the entries stay whose
    clipping to 0 would cost most, r^2 - (r - clip(r))^2.
    """
    if norms.canonical(norm) != "l0" or bounds is None:
        return inside(x, norms.project(r, eps, norm, scale), bounds)
    clipped = inside(x, r if scale is None else jnp.where(scale == 0, 0, r), bounds)
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
