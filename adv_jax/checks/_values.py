"""Checks of inputs, sizes, bounds and settings."""

import math
import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from adv_jax import norms
from adv_jax.ranges import COUNT, Range, check_allowed
from adv_jax.types import (
    Array,
    Bounds,
    Norm,
    RowTree,
    UserError,
    check_known,
    described,
    dtype_of,
    is_known,
    is_real,
)


def as_batch(x: Array, bounds: Bounds | None = None, *, name: str = "x") -> Array:
    """Returns x as a JAX array f[B, *D] without a gradient, so that no attack is differentiated.

    Raises:
      UserError: x is not a batch of floats (integer pixels cannot take a small step) or is empty;
        where values are known: not finite, or outside the bounds.
    """
    allowed = "a batch f32[B, *D] of floats"
    if isinstance(x, dict):
        raise UserError(
            f"{name} must be one array, {allowed}, got {described(x)}: perturb one of its "
            "arrays, and close over the others"
        )
    if not is_real(x):
        remedy = f": pass {name}.detach().cpu().numpy()" if hasattr(x, "numpy") else ""
        raise UserError(f"{name} must be {allowed}, got {described(x)}{remedy}")
    x = jnp.asarray(x)
    if x.ndim == 0 or not jnp.issubdtype(x.dtype, jnp.floating):
        pixels = ": divide it by 255, and give eps in those units" if x.dtype == jnp.uint8 else ""
        raise UserError(f"{name} must be {allowed}, got {described(jax.typeof(x))}{pixels}")
    if x.size == 0:
        raise UserError(
            f"{name} must be {allowed} with B and all of D at least 1, got {described(x)}"
        )
    check_bounds(bounds, x.shape)
    if is_known(x):
        _check_values(name, np.asarray(x), bounds)
    return jax.lax.stop_gradient(x)


def radius(
    eps: ArrayLike, x: Array, norm: Norm, bounds: Bounds | None = None, *, name: str = "eps"
) -> Array:
    """Returns the radius of each row's ball, f32[1 or B, 1, ..., 1], to multiply f[B, *D].

    Raises:
      UserError: neither a real number nor f32[B]; where values are known: negative, not finite, or
        as `check_width`; the norm is unknown.
    """
    per_row = norms.per_row(name, eps, x)
    if bounds is not None and all(map(is_known, (eps, *bounds))):
        check_width(name, np.max(np.asarray(eps)), x.shape[1:], norm, bounds)
    else:
        norms.canonical(norm)
    return per_row


def check_width(name: str, eps: float, shape: tuple[int, ...], norm: Norm, bounds: Bounds) -> None:
    """Checks that a perturbation of that size fits into the bounds.

    It finds pixels in [0, 1] that are attacked as if they were in [0, 255], and under l0 more
    features to change than there are.

    Args:
      shape: of one input, [*D].

    Raises:
      UserError: eps is larger than the distance of the farthest points within the bounds.
    """
    widest = width(bounds, shape, norm)
    if eps > widest * (1 + 1e-6):
        raise UserError(
            f"{name} must be at most {widest:g}, the {norm} width of the bounds "
            f"{described(bounds)}, got {eps:g}"
        )


def width(bounds: Bounds, shape: tuple[int, ...], norm: Norm) -> float:
    """Returns the distance of the farthest points f[*D] within known bounds; l0: the size of *D.

    >>> width((-1.0, [0.0, 3.0]), (2,), "l1")
    5.0
    """
    kind = norms.canonical(norm)
    side = np.asarray(bounds[1], float) - np.asarray(bounds[0], float)
    if kind == "l0":
        return float(math.prod(shape))
    rows = side.shape[0] if side.ndim > len(shape) else 1
    rows = np.broadcast_to(side, (rows, *shape)).reshape(rows, -1)
    order = {"linf": np.inf, "l1": 1, "l2": 2, "rms": 2}[kind]
    longest = np.linalg.norm(rows, order, axis=1).max()
    return float(longest) / (math.sqrt(rows.shape[1]) if kind == "rms" else 1)


def check_bounds(
    bounds: Any, shape: tuple[int, ...] | None = None, *, name: str = "bounds"
) -> None:
    """Raises UserError unless bounds are None or (lo, hi), each a number or an array.

    Arrays broadcast to the shape [B, *D]; without a shape the bounds are two known numbers. Where
    values are known, lo < hi for numbers and lo <= hi for arrays, whose constant features are kept.
    """
    if bounds is None:
        return
    sized = isinstance(bounds, tuple | list) or getattr(bounds, "ndim", 0) > 0
    # Each bound is checked alone: NumPy converts True beside a number to a number.
    pair = sized and len(bounds) == 2 and all(map(is_real, bounds))
    numbers = pair and not any(map(np.ndim, bounds))
    known = pair and all(map(is_known, bounds))
    if not pair or (shape is None and not (numbers and known)):
        raise UserError(f"{name} must be (lo, hi) with lo < hi, got {described(bounds)}")
    if numbers and known and not bounds[0] < bounds[1]:
        raise UserError(f"{name} must be (lo, hi) with lo < hi, got {described(bounds)}")
    if not numbers and not all(broadcasts(bound, shape) for bound in bounds):
        raise UserError(
            f"{name} must be (lo, hi) that broadcast to x, {list(shape or ())}, got "
            f"{described(bounds)}"
        )
    if not numbers and known:
        lo, hi = np.broadcast_arrays(*map(np.asarray, bounds))
        if (bad := np.argwhere(~(lo <= hi))).size:
            first = tuple(bad[0])
            raise UserError(
                f"{name} must be (lo, hi) with lo <= hi for each feature, got {lo[first]:g} and "
                f"{hi[first]:g}"
            )


def check_box(bounds: Bounds | None, *, needed_by: str | None = None) -> None:
    """Raises UserError if bounds that `check_bounds` accepts are infinite: no noise fills them.

    needed_by: the name of the function that needs them; None where they may be None.
    """
    if bounds is None and needed_by is not None:
        raise UserError(f"bounds must be (lo, hi) for {needed_by}, got None")
    for bound in () if bounds is None else bounds:
        checked_number("bounds", bound, "(-inf, inf)", per_row=True)


def broadcasts(value: Any, shape: tuple[int, ...] | None) -> bool:
    """Returns whether a value broadcasts to a shape by NumPy's rules.

    >>> broadcasts([1, 2], (5, 2)), broadcasts([1, 2], (2, 5))
    (True, False)
    """
    try:
        return np.broadcast_shapes(np.shape(value), shape or ()) == shape
    except ValueError:
        return False


def check_rows(name: str, tree: RowTree | None, *, batch: int) -> None:
    """Raises UserError unless all leaves of a tree are arrays [B, ...] that JAX takes."""
    for leaf in jax.tree.leaves(tree):
        array = isinstance(leaf, jax.Array) or (
            isinstance(leaf, np.ndarray) and dtype_of(leaf).kind != "O"
        )
        if not array or leaf.shape[:1] != (batch,):
            raise UserError(
                f"{name} must be a tree of arrays with B = {batch} rows, got {described(leaf)}"
            )


def checked_count(name: str, value: Any) -> int:
    """Returns a count (of steps, restarts, rows); raises UserError unless it is whole and >= 1."""
    return checked_number(name, value, COUNT)


def checked_number(
    name: str, value: Any, interval: str, *, per_row: bool = False, optional: bool = False
) -> Any:
    """Returns a setting in an interval such as "(0, 1]", which excludes 0 and includes 1.

    One known number is returned as Python's, which has no width to overflow, nor a device.

    Args:
      interval: as `Range.of` reads it; whole numbers must be known.
      per_row: allows f32[B]; `norms.per_row` checks its shape.
      optional: allows None.

    Raises:
      UserError: not a real number, or a known value outside the interval.
    """
    if optional and value is None:
        return None
    allowed = Range.of(interval)
    if allowed.whole:
        number = operator.index(value) if is_whole(value) else value
        check_allowed(name, number, allowed)
        return number
    if not is_real(value) or (np.ndim(value) and not per_row):
        raise UserError(f"{name} must be a real number, got {described(value)}")
    check_known(name, value, allowed.holds, str(allowed))
    return float(value) if is_known(value) and not np.ndim(value) else value


def check_booleans(**flags: Any) -> None:
    """Raises UserError for a flag that is neither True nor False: any text would count as True."""
    for name, flag in flags.items():
        if not isinstance(flag, bool | np.bool_):
            raise UserError(f"{name} must be True or False, got {described(flag)}")


def is_whole(value: Any) -> bool:
    """Returns whether a value is an integer of any type, but no boolean."""
    try:
        operator.index(value)
    except TypeError:
        return False
    return not isinstance(value, bool)


def _check_values(name: str, x: np.ndarray, bounds: Bounds | None) -> None:
    bad = x[~np.isfinite(x)]
    if bad.size:
        raise UserError(f"{name} must be finite numbers, got {float(bad[0])}")
    if bounds is None or not all(map(is_known, bounds)):
        return
    lo, hi = (np.broadcast_to(np.asarray(bound).astype(x.dtype), x.shape) for bound in bounds)
    outside = np.argwhere((x < lo) | (x > hi))
    if len(outside):
        first = tuple(outside[0])
        if any(map(np.ndim, bounds)):
            where = f"[{float(lo[first]):g}, {float(hi[first]):g}] at {list(map(int, first[1:]))}"
        else:
            where = described(bounds)
        raise UserError(f"{name} must be within the bounds {where}, got {float(x[first]):g}")
