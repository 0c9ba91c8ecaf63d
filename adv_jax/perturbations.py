"""Operations on perturbations of batches, row by row, shared by all attacks."""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from adv_jax.types import Array, Bounds, working_dtype

Tree = TypeVar("Tree")


def moved(x: Array, r: Array) -> Array:
    """Returns x + r in the dtype of x, for intermediate evaluations of the model."""
    return (x.astype(r.dtype) + r).astype(x.dtype)


def limits(x: Array, bounds: Bounds) -> tuple[Array, Array]:
    """Returns the bounds in the dtype and rank of x, which they broadcast to by NumPy's rules."""

    def aligned(bound) -> Array:
        bound = jnp.asarray(bound).astype(x.dtype)
        return bound.reshape(*(1,) * (x.ndim - bound.ndim), *bound.shape)

    lo, hi = bounds
    return aligned(lo), aligned(hi)


def inside(x: Array, r: Array, bounds: Bounds | None) -> Array:
    """Clips r f32[B, *D] so that x + r is in the bounds. For x in the bounds, r only shrinks."""
    if bounds is None:
        return r
    lo, hi = (bound.astype(r.dtype) for bound in limits(x, bounds))
    x = x.astype(r.dtype)
    return jnp.clip(r, lo - x, hi - x)


def in_units(r: Array, scale: Array | None) -> Array:
    """Returns r / scale, the units of each feature, and 0 where the scale is; None: r."""
    return r if scale is None else without_fixed(r / or_one(scale), scale)


def of_units(u: Array, scale: Array | None) -> Array:
    """Returns scale * u, and 0 where the scale is, whatever u; None: u. Inverts `in_units`."""
    return u if scale is None else without_fixed(scale * u, scale)


def without_fixed(a: Array, scale: Array | None) -> Array:
    """Returns a, and 0 where the scale is: these features must not move. None: a.

    A gradient by them may be infinite, and 0 * inf is NaN.
    """
    return a if scale is None else jnp.where(scale == 0, 0, a)


def spread(rows: Array, like: Array) -> Array:
    """Returns f[B] as f32[B, 1, ..., 1], in the rank of `like`, to multiply its rows; also bool[B].

    Floats are f64 for a `like` of f64 only, whatever a model returns.
    """
    rows = rows.reshape(-1, *(1,) * (like.ndim - 1))
    return rows if rows.dtype == bool else rows.astype(working_dtype(like.dtype))


def dot(a: Array, b: Array) -> Array:
    """Returns <a, b> of each row: f[B, *D], f[B, *D] -> f[B]."""
    return (a * b).reshape(len(a), -1).sum(axis=1)


def or_one(a: Array) -> Array:
    """Returns a with 1 for 0, to divide by."""
    return jnp.where(a == 0, 1, a)


def choose(rows: Array, on_true: Tree, on_false: Tree) -> Tree:
    """Selects rows of two trees of arrays: bool[B], f[B, *D], f[B, *D] -> f[B, *D]."""
    # Or XLA:GPU repeats the comparison for each pixel, and copies what it compares in loops.
    rows = jax.lax.optimization_barrier(rows)

    def one(a, b):
        return jnp.where(spread(rows, a), a, b)

    return jax.tree.map(one, on_true, on_false)


def perturbed(x: Array, r: Array, bounds: Bounds | None) -> Array:
    """Returns x + r, clipped, in the shape and dtype of x, without a gradient.

    The last operation of every attack. If r is in a ball and x within the bounds, the result is
    within both, its distance from x as float32 rounds it: rounding and clipping move each entry
    toward x. Where r is 0, x is returned bit for bit, even a -0.

    Args:
      x: f[B, *D], inside the bounds.
      r: f32[B, *D], the perturbation, already in its ball.
      bounds: (lo, hi), each broadcast to x and rounded to its dtype, or None for no clipping.
    """
    # Detach here: the rounding below is not differentiable and `nextafter` would raise.
    x, r = jax.lax.stop_gradient((x, r))
    near = x.astype(r.dtype)
    dtype = jnp.finfo(x.dtype)
    far = jnp.clip(_rounded(near + r, dtype), float(dtype.min), float(dtype.max))  # May overflow.
    overshoots = jnp.abs(far - near) > jnp.abs(r)
    x_adv = far.astype(x.dtype)
    x_adv = jnp.where(overshoots, jnp.nextafter(x_adv, x), x_adv)
    if bounds is not None:
        x_adv = jnp.clip(x_adv, *limits(x, bounds))
    return jnp.where(r == 0, x, x_adv)


def _rounded(values: Array, dtype: Any) -> Array:
    """Returns the nearest numbers of a dtype, given by its finfo, in the dtype of the values."""
    # XLA may drop a cast to bfloat16 and back; reduce_precision is kept.
    rounded = jax.lax.reduce_precision(values, dtype.nexp, dtype.nmant)
    if dtype.nexp == jnp.finfo(values.dtype).nexp:
        return rounded
    # reduce_precision takes subnormal numbers to 0.
    step = float(dtype.smallest_subnormal)
    return jnp.where(jnp.abs(values) < float(dtype.tiny), jnp.round(values / step) * step, rounded)
