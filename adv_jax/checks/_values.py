"""Checks of inputs, sizes, bounds and settings."""

import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from adv_jax import norms
from adv_jax.types import Array, Bounds, Norm, RowTree, UserError


def as_batch(x: Array, bounds: Bounds | None = None, *, name: str = "x") -> Array:
    """Returns x as a JAX array f[B, *D] without a gradient, so that no attack is differentiated.

    Raises:
      UserError: x is not a batch of floats (integer pixels cannot take a small step) or is empty;
        where values are known: not finite, or outside the bounds.
    """
    allowed = "a batch f32[B, *D] of floats"
    if not norms.is_real(x):
        raise UserError(f"{name} must be {allowed}, got {norms.described(x)}")
    x = jnp.asarray(x)
    if x.ndim == 0 or not jnp.issubdtype(x.dtype, jnp.floating):
        raise UserError(f"{name} must be {allowed}, got {dtype_and_shape(x)}")
    if x.size == 0:
        raise UserError(
            f"{name} must be {allowed} with B and all of D at least 1, got {dtype_and_shape(x)}"
        )
    check_bounds(bounds)
    if is_known(x):
        _check_values(name, np.asarray(x), bounds)
    return jax.lax.stop_gradient(x)


def radius(
    eps: ArrayLike, x: Array, norm: Norm, bounds: Bounds | None = None, *, name: str = "eps"
) -> Array:
    """Returns the radius of each row's ball, f32[1 or B, 1, ..., 1], to multiply f[B, *D].

    Raises:
      UserError: neither a real number nor f32[B]; where values are known: negative, not finite, or
        as `check_width`.
      ValueError: the norm is unknown.
    """
    per_row = norms.per_row(name, eps, x)
    if bounds is not None and is_known(eps):
        check_width(name, np.max(np.asarray(eps)), x.shape[1:], norm, bounds)
    else:
        norms.canonical(norm)
    return per_row


def check_width(name: str, eps: float, shape: tuple[int, ...], norm: Norm, bounds: Bounds) -> None:
    """Checks that a perturbation of that size fits into the bounds.

    It finds pixels in [0, 1] that are attacked as if they were in [0, 255].

    Args:
      shape: of one input, [*D].

    Raises:
      UserError: eps is larger than the distance of the farthest points within the bounds.
    """
    widest = norms.norm_of_ones(shape, norm) * (bounds[1] - bounds[0])
    if eps > widest * (1 + 1e-6):
        raise UserError(
            f"{name} must be at most {widest:g}, the {norm} width of the bounds {bounds}, "
            f"got {eps:g}"
        )


def check_bounds(bounds: Any, *, name: str = "bounds") -> None:
    """Raises UserError unless bounds are None or two known numbers, the first the lower."""
    if bounds is None:
        return
    pair = norms.is_real(bounds) and is_known(bounds) and np.shape(bounds) == (2,)
    # NumPy takes True beside a number for a number.
    if not pair or not all(map(norms.is_real, bounds)) or not bounds[0] < bounds[1]:
        raise UserError(f"{name} must be (lo, hi) with lo < hi, got {norms.described(bounds)}")


def linf_or_l2(norm: Norm) -> str:
    """Returns the canonical name of one of the two norms.

    Raises:
      ValueError: another norm.
    """
    name = norms.canonical(norm)
    if name not in ("linf", "l2"):
        raise UserError(f'norm must be "linf" or "l2" here, got {norm!r}')
    return name


def check_rows(name: str, tree: RowTree | None, *, batch: int) -> None:
    """Raises UserError unless all leaves of a tree are arrays f[B, ...] of any dtype."""
    for leaf in jax.tree.leaves(tree):
        array = isinstance(leaf, jax.Array) or (
            isinstance(leaf, np.ndarray) and leaf.dtype.kind not in "OSU"
        )
        if not array or leaf.shape[:1] != (batch,):
            raise UserError(
                f"{name} must be a tree of arrays with B = {batch} rows, "
                f"got {norms.described(leaf)}"
            )


def check_counts(**counts: int) -> None:
    """Raises UserError for a count (of steps, restarts, rows) that is not a whole number >= 1."""
    for name, count in counts.items():
        if not is_whole(count) or count < 1:
            found = norms.described(count)
            raise UserError(f"{name} must be a whole number of at least 1, got {found}")


def check_range(name: str, value: Any, interval: str, *, per_row: bool = False) -> None:
    """Checks that a setting is in an interval such as "(0, 1]", which excludes 0 and includes 1.

    Args:
      per_row: allows f32[B]; `norms.per_row` checks its shape.

    Raises:
      UserError: not a real number, or a known value outside the interval.
    """
    if not norms.is_real(value) or (np.ndim(value) and not per_row):
        raise UserError(f"{name} must be a real number, got {norms.described(value)}")
    low, high = map(float, interval[1:-1].split(","))

    def holds(number: np.ndarray) -> np.ndarray:
        above = number > low if interval[0] == "(" else number >= low
        return above & (number < high if interval[-1] == ")" else number <= high)

    norms.check_known(name, value, holds, f"in {interval}")


def is_whole(value: Any) -> bool:
    """Returns whether a value is an integer of any type."""
    try:
        operator.index(value)
    except TypeError:
        return False
    return True


def is_known(value: ArrayLike) -> bool:
    """Returns whether the values are known. Inside jit, vmap or grad they are not."""
    return not isinstance(value, jax.core.Tracer)


def dtype_and_shape(array: Array | jax.ShapeDtypeStruct) -> str:
    """Returns the dtype and shape of an array, as float32[6, 5]."""
    return f"{array.dtype.name}{list(array.shape)}"


def _check_values(name: str, x: np.ndarray, bounds: Bounds | None) -> None:
    bad = x[~np.isfinite(x)]
    if bad.size:
        raise UserError(f"{name} must be finite numbers, got {float(bad[0])}")
    if bounds is None:
        return
    outside = x[(x < x.dtype.type(bounds[0])) | (x > x.dtype.type(bounds[1]))]
    if outside.size:
        raise UserError(f"{name} must be within the bounds {bounds}, got {float(outside[0]):g}")
