"""Norms, dual vectors, projections and samples, row by row.

A norm is "linf" ("inf", jnp.inf), "l2" (2), "l1" (1), "rms" or "l0", in any case. rms =
l2 / sqrt(d) makes a radius independent of the input's size. l0 counts the entries that are not 0.

Arrays are batches f[B, *D] of any rank >= 1; rows of d = prod(D) numbers are independent. A radius
`eps` is a number or f32[B], in units of the row, and may be traced. Arithmetic and results are
float32 (float64 for float64), so that a bfloat16 model gets an exact perturbation.

A `scale` f32[1 or B, ...], of the rank of the batch and broadcast to it, is the unit of each entry:
lengths are those of r / scale, so that the ball is ||r / scale|| <= eps, and an entry of scale 0
is 0. It is in [0, 1] and None for 1 everywhere; `UserError` names another shape, or known values
outside.

    norm      the length of each row
    dual      argmax of <g, r> over the unit ball
    rescaled  each row divided by its length
    project   the nearest point of the ball
    sample    a point drawn uniformly from the ball
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from adv_jax.random import row_keys
from adv_jax.ranges import Range
from adv_jax.suggestions import suggestion
from adv_jax.types import UserError, check_known, described, is_real, working_dtype

Scale = jax.Array | None

_ROWS = "f[B, *D] with all of D at least 1"
# Canonical name -> the name with its aliases.
_WORDS = {
    "linf": '"linf" ("inf", jnp.inf)',
    "l2": '"l2" (2)',
    "l1": '"l1" (1)',
    "rms": '"rms"',
    "l0": '"l0"',
}
ALL = tuple(_WORDS)
CONVEX = ("linf", "l2", "l1", "rms")  # whose balls are convex
_NAMES = {"linf": "linf", "inf": "linf", "rms": "rms", "l0": "l0"}
_NAMES |= {"l2": "l2", "2": "l2", "2.0": "l2", "l1": "l1", "1": "l1", "1.0": "l1"}


def canonical(norm: str | float, *, among: Sequence[str] = ALL) -> str:
    """Returns the canonical name of a norm or its alias: "linf", "l2", "l1", "rms" or "l0".

    among: the canonical names of the legal norms, one or more.

    Raises:
      UserError: unknown norm, or another one.

    >>> [canonical(alias) for alias in ("Linf", jnp.inf, 2, 1.0, "RMS", "L0")]
    ['linf', 'linf', 'l2', 'l1', 'rms', 'l0']
    """
    name = _NAMES.get(str(norm).lower())
    if name is None or name not in among:
        *others, last = (_WORDS[legal] for legal in among)
        near = suggestion(norm.lower(), among) if isinstance(norm, str) and name is None else ""
        allowed = f"{', '.join(others)} or {last}" if others else last
        raise UserError(f"norm must be {allowed}, got {described(norm)}{near}")
    return name


def norm(r: jax.Array, norm: str | float, scale: Scale = None) -> jax.Array:
    """Returns the length of each row, f[B, *D] -> f32[B], without under- or overflow.

    It is infinite if an entry of scale 0 is not 0. Entries below the smallest normal float may
    count as 0.

    Raises:
      UserError: unknown norm; r is not f[B, *D], or its rows are empty.

    >>> norm(jnp.array([[3., 4.], [3e-30, 4e-30]]), "l2")
    Array([5.e+00, 5.e-30], dtype=float32)
    """
    return _length(_divided_by_units(_rows(r), _units(scale, r)), canonical(norm))[:, 0]


def dual(g: jax.Array, norm: str | float, scale: Scale = None) -> jax.Array:
    """Returns argmax of <g, r> over the unit ball ||r|| <= 1: f[B, *D] -> f32[B, *D].

        linf  sign(g)                      fast gradient sign (FGSM; Maronas' SGN)
        l2    g / ||g||_2                  Huang's Adv_Loss; Maronas' 1N
        l1    sign(g_k) e_k, k = argmax_i |g_i|, the first of equals
        rms   sqrt(d) g / ||g||_2          Maronas' qN (28N on MNIST)
        l0    g / ||g||_1                  PGD_0; not the argmax, as the ball is unbounded

    With a scale it is scale * dual(scale * g). A zero row gives a zero row. The direction is exact
    down to the smallest normal float32. An infinite entry outweighs every finite one, the limit of
    the formulas. NaN propagates, so that a diverged model is not mistaken for a zero gradient.

    Sources: [goodfellow2015], sec. 3; [huang2015], sec. 6.1.1 (there for the
    gradient of the true class's probability, printed without the minus sign); [maronas2016],
    eq. 56, 58, 59; l0: [croce2019sparse] (PGD_0).

    >>> dual(jnp.array([[3., -4.], [0., 0.]]), "l2")
    Array([[ 0.6, -0.8],
           [ 0. ,  0. ]], dtype=float32)
    """
    kind, rows, units = canonical(norm), _rows(g), _units(scale, g)
    d = rows.shape[1]
    if units is not None:
        # In units of the largest entry, the product does not underflow.
        rows = jnp.where(units == 0, 0, units * _scaled(jnp.where(units == 0, 0, rows))[0])
    if kind == "linf":
        unit = jnp.sign(rows)
    elif kind == "l0":
        scaled, _ = _scaled(rows)
        total = jnp.sum(jnp.abs(scaled), axis=1, keepdims=True)
        unit = scaled / jnp.where(total == 0, 1, total)
    elif kind == "l1":
        winner = jnp.argmax(jnp.abs(rows), axis=1, keepdims=True)
        unit = jnp.where(jnp.arange(d)[None] == winner, jnp.sign(rows), 0)
    else:
        scaled, _ = _scaled(rows)
        squares = jnp.sum(scaled**2, axis=1, keepdims=True)
        radius = math.sqrt(d) if kind == "rms" else 1.0
        # sqrt has no derivative at 0, and a perturbation may be differentiated.
        unit = radius * scaled / jnp.sqrt(jnp.where(squares == 0, 1, squares))
    return (unit if units is None else units * unit).reshape(jnp.shape(g))


def rescaled(r: jax.Array, norm: str | float, scale: Scale = None) -> jax.Array:
    """Divides each row by its length: f[B, *D] -> f32[B, *D]; a zero row stays zero.

    >>> rescaled(jnp.array([[1., -1., 1., 1.]]), "l2")
    Array([[ 0.5, -0.5,  0.5,  0.5]], dtype=float32)
    """
    kind, rows = canonical(norm), _rows(r)
    if kind != "l0":
        rows, _ = _scaled(rows)  # The length of the row itself may overflow.
    length = _length(_divided_by_units(rows, _units(scale, r)), kind)
    unit = _quotient(rows, jnp.where(length == 0, 1, length))
    return jnp.where(length == 0, 0, unit).reshape(jnp.shape(r))


def project(
    r: jax.Array, eps: jax.typing.ArrayLike, norm: str | float, scale: Scale = None
) -> jax.Array:
    """Projects each row onto the ball ||p|| <= eps, to the nearest point in l2: -> f32[B, *D].

    With a scale it is the nearest in l2 of r / scale. Under l0 the floor(eps) largest entries of
    a row stay, the first of equals. A row inside the ball is returned unchanged, but for entries
    below the smallest normal float, which may become 0; eps = 0 gives exactly 0. Rounding may leave
    a row outside by a few parts in 10^6 of eps under l2, rms and l1, never under linf.

    Raises:
      UserError: unknown norm; eps is negative or neither a number nor f32[B].

    >>> project(jnp.array([[3., 1.], [.2, .1]]), 1., "l1")
    Array([[1. , 0. ],
           [0.2, 0.1]], dtype=float32)
    """
    kind, rows, units = canonical(norm), _rows(r), _units(scale, r)
    radius = per_row("eps", eps, rows)
    if kind == "linf":
        most = radius if units is None else radius * units
        return optax.projections.projection_box(rows, -most, most).reshape(jnp.shape(r))
    if units is not None:
        rows = jnp.where(units == 0, 0, rows)
    inner = _divided_by_units(rows, units)
    if kind == "l0":
        nearest = jnp.where(largest(jnp.abs(inner), radius), rows, 0)
    else:
        sphere = _onto_l1_sphere(inner, radius) if kind == "l1" else radius * dual(inner, kind)
        sphere = sphere if units is None else units * sphere
        # The length of a row of tiny numbers may be 0.
        nearest = jnp.where((_length(inner, kind) <= radius) & (radius > 0), rows, sphere)
    return nearest.reshape(jnp.shape(r))


def largest(rows: jax.Array, count: jax.Array) -> jax.Array:
    """Returns where the floor(count) largest entries of each row are: f[B, d] >= 0 -> bool[B, d].

    Of equal entries the first come first. count: f32[1 or B, 1].

    >>> largest(jnp.array([[3., 1., 3., 3.]]), jnp.array([[2.]]))
    Array([[ True, False,  True, False]], dtype=bool)
    """
    whole = jnp.floor(jnp.minimum(count, rows.shape[1])).astype(jnp.int32)
    order = order_to_kth(rows, jnp.maximum(whole, 1))
    above, equal = order > 0, order == 0
    left = whole - jnp.sum(above, axis=1, keepdims=True, dtype=jnp.int32)
    first = jnp.cumsum(equal, axis=1, dtype=jnp.int32) <= left
    return (above | (equal & first)) & (whole > 0)


def order_to_kth(rows: jax.Array, k: jax.Array) -> jax.Array:
    """Compares the entries of each row with its k-th largest: f[B, d] >= 0 -> i8[B, d], -1, 0 or 1.

    The bits of such numbers, as integers, have the same order: the k-th is found bit by bit. On a
    CPU this takes a tenth of the time of a sort. k: i32[1 or B, 1], 1 to d.

    >>> order_to_kth(jnp.array([[3., 1., 3., 2.]]), jnp.array([[3]]))
    Array([[ 1, -1,  1,  0]], dtype=int8)
    """
    kind = jnp.int64 if rows.dtype == jnp.float64 else jnp.int32
    bits = jax.lax.bitcast_convert_type(jnp.abs(rows), kind)  # abs(-0.0) is 0.0, all bits 0.
    last = jnp.iinfo(kind).bits - 2  # The first bit is the sign.

    def with_bit(i: jax.Array, found: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        least, _ = found
        trial = least | (jnp.ones((), kind) << (last - i).astype(kind))
        enough = jnp.sum(bits >= trial, axis=1, keepdims=True, dtype=jnp.int32) >= k
        least = jnp.where(enough, trial, least)
        # Compared here, as after the loop XLA may compute the rows again, and round otherwise.
        return least, jnp.sign(bits - least).astype(jnp.int8)

    # Like the rows, also where shard_map says over which devices they vary.
    start = jnp.zeros_like(bits[:, :1]), jnp.zeros_like(bits, jnp.int8)
    return jax.lax.fori_loop(0, last + 1, with_bit, start)[1]


def sample(
    key: jax.Array,
    like: Any,
    eps: jax.typing.ArrayLike,
    norm: str | float,
    scale: Scale = None,
) -> jax.Array:
    """Draws each row independently and uniformly from the ball ||r|| <= eps: -> f32[B, *D].

    With a scale, uniformly from the ball of the entries whose scale is not 0. Uniform in volume:
    the norm is distributed as eps * u^(1/d), u uniform in [0, 1], so that in many dimensions most
    draws lie near the sphere.

    Args:
      key: one key, or one per row (see `row_keys`).
      like: f[B, *D], or anything with that `.shape` and `.dtype`.

    Raises:
      UserError: as `project` and `row_keys`; like has no shape f[B, *D]; the norm is l0, whose ball
        is unbounded.

    Source: [barthe2005], Theorem 1: for z_i of density ~ exp(-|z|^p)
    and e exponential, z / (sum |z_i|^p + e)^(1/p) is uniform in the lp ball.

    >>> bool(norm(sample(jax.random.key(0), jnp.zeros((5, 3)), .1, "l1"), "l1").max() <= .1)
    True
    """
    if not _are_rows(like):
        allowed = f"{_ROWS}, or anything with that .shape and .dtype"
        raise UserError(f"like must be {allowed}, got {described(like)}")
    kind, d = canonical(norm), math.prod(like.shape[1:])
    dtype, units = working_dtype(like.dtype), _units(scale, like)
    if kind == "l0":
        raise UserError('norm must have a bounded ball to draw from, got "l0"')

    def unit(key, units):
        if kind == "linf":
            return jax.random.uniform(key, (d,), dtype, -1, 1)
        key_direction, key_depth = jax.random.split(key)
        depth = jax.random.exponential(key_depth, dtype=dtype)
        if kind == "l1":
            z = _allowed(jax.random.laplace(key_direction, (d,), dtype), units)
            return z / (jnp.abs(z).sum() + depth)
        # A normal z has density ~ exp(-z^2 / 2), hence the factor 2.
        z = _allowed(jax.random.normal(key_direction, (d,), dtype), units)
        radius = math.sqrt(d) if kind == "rms" else 1.0
        return radius * z / jnp.sqrt(jnp.sum(z**2) + 2 * depth)

    if units is not None:
        units = jnp.broadcast_to(units, (like.shape[0], d))
    drawn = jax.vmap(unit)(row_keys(key, like.shape[0]), units)
    drawn = drawn if units is None else units * drawn
    return per_row("eps", eps, like) * drawn.reshape(like.shape)


def per_row(name: str, value: jax.typing.ArrayLike, like: Any) -> jax.Array:
    """Reshapes a number or f32[B] to f32[1 or B, 1, ..., 1], which broadcasts with f[B, *D].

    A value in that shape is accepted too.

    Raises:
      UserError: `value` is not real or has another shape; unless traced, it is negative, NaN or
        out of the dtype's range. The message calls it `name`.

    >>> per_row("eps", [.1, .2], jnp.zeros((2, 28, 28))).shape
    (2, 1, 1)
    """
    dtype, one = working_dtype(like.dtype), f"one real number or f32[B], B = {like.shape[0]}"
    if not is_real(value):
        raise UserError(f"{name} must be {one}, got {described(value)}")
    check_sizes(name, value, dtype)
    scale = jnp.asarray(value, dtype)
    rows, *rest = scale.shape or (1,)
    if rows not in (1, like.shape[0]) or not set(rest) <= {1}:
        raise UserError(f"{name} must be {one}, got the shape {scale.shape}")
    return scale.reshape(-1, *(1,) * (len(like.shape) - 1))


def check_sizes(name: str, value: Any, dtype: jnp.dtype) -> None:
    """Raises UserError for known numbers that are negative, NaN, or infinite in a dtype."""
    check_known(name, value, lambda number: number >= 0, str(Range.of("[0, inf)")))
    check_known(name, value, lambda number: number <= jnp.finfo(dtype).max, f"a finite {dtype}")


def _rows(r: jax.Array) -> jax.Array:
    """f[B, *D] -> f32[B, d]."""
    try:
        rows = jnp.asarray(r)
    except (TypeError, ValueError):  # Texts, None and ragged lists.
        rows = None
    if rows is None or not _are_rows(rows):
        raise UserError(f"rows must be {_ROWS}, got {described(r)}")
    flat = rows.reshape(rows.shape[0], math.prod(rows.shape[1:]))
    return flat.astype(working_dtype(rows.dtype))


def _are_rows(like: Any) -> bool:
    """Returns whether a value has the shape and dtype of a batch whose rows are not empty."""
    shape = getattr(like, "shape", ())
    is_batch = hasattr(like, "dtype") and len(shape) > 0 and 0 not in shape[1:]
    return is_batch and not jnp.issubdtype(like.dtype, jnp.complexfloating)


def _units(scale: Scale, like: Any) -> Scale:
    """Returns the scale of a batch like f[B, *D] as f32[1 or B, d], or None.

    Raises:
      UserError: it does not broadcast to the batch, or has known values outside [0, 1].
    """
    if scale is None:
        return None
    shape, sides = np.shape(like), np.shape(scale) if is_real(scale) else ()
    if len(sides) != len(shape) or not all(a in (1, b) for a, b in zip(sides, shape, strict=True)):
        allowed = f"f32[1 or B, ...] that broadcasts to {list(shape)}"
        raise UserError(f"scale must be {allowed}, got {described(scale)}")
    check_known("scale", scale, lambda unit: (unit >= 0) & (unit <= 1), "numbers from 0 to 1")
    scale = jnp.asarray(scale)
    return jnp.broadcast_to(scale, (sides[0], *shape[1:])).reshape(sides[0], math.prod(shape[1:]))


def _divided_by_units(rows: jax.Array, units: Scale) -> jax.Array:
    """Returns f[B, d] / units, where 0 / 0 is 0."""
    if units is None:
        return rows
    return jnp.where(rows == 0, 0, rows / jnp.where((units == 0) & (rows == 0), 1, units))


def _allowed(row: jax.Array, units: Scale) -> jax.Array:
    """Returns f[d] with 0 where the units f[d] are."""
    return row if units is None else jnp.where(units == 0, 0, row)


def _scaled(rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns rows f[B, d] divided by their largest |entry|, and it, f[B, 1]; 0 stays 0."""
    largest = jnp.max(jnp.abs(rows), axis=1, keepdims=True)
    scaled = _quotient(rows, jnp.where(largest == 0, 1, largest))
    return jnp.where(jnp.isinf(rows), jnp.sign(rows), scaled), largest


def _quotient(rows: jax.Array, size: jax.Array) -> jax.Array:
    """Returns rows f[B, d] / size f[B, 1].

    XLA multiplies by 1 / size, which rounds to 0 for numbers next to the largest float.
    """
    part = jnp.where(size > 1, jnp.asarray(0.25, size.dtype), 1)
    return (rows * part) / (size * part)


def _length(rows: jax.Array, kind: str) -> jax.Array:
    """f[B, d] -> f[B, 1]."""
    if kind == "l0":
        return jnp.sum(rows != 0, axis=1, keepdims=True).astype(rows.dtype)
    if kind == "l1":
        return jnp.sum(jnp.abs(rows), axis=1, keepdims=True)
    scaled, largest = _scaled(rows)
    if kind == "linf":
        return largest
    total = jnp.mean if kind == "rms" else jnp.sum
    square = total(scaled**2, axis=1, keepdims=True)
    return largest * jnp.sqrt(jnp.where(square == 0, 1, square))  # sqrt has no derivative at 0.


def _onto_l1_sphere(rows: jax.Array, radius: jax.Array) -> jax.Array:
    """Projects f[B, d] with ||r||_1 >= radius f[1 or B, 1] onto ||p||_1 = radius.

    Shifting all |r_i| leaves their projection onto the simplex unchanged, and entries more than a
    radius below the largest become 0. Shifted and clipped to [-1, 0], rows far larger than the
    ball keep their precision (optax.projections.projection_l1_ball gives NaN for radius 0).
    """
    size = jnp.minimum(jnp.abs(rows), jnp.finfo(rows.dtype).max)
    below = _quotient(size - size.max(axis=1, keepdims=True), jnp.where(radius == 0, 1, radius))
    # With x64 enabled, optax's projection returns float64 but its derivative float32.
    weights = _onto_simplex(jnp.maximum(below, -1).astype(float))
    return ((radius * jnp.sign(rows)).astype(weights.dtype) * weights).astype(rows.dtype)


# optax divides by integers, in the derivative too, which strict dtype promotion forbids.
@jax.custom_jvp
@jax.numpy_dtype_promotion("standard")
def _onto_simplex(rows: jax.Array) -> jax.Array:
    """Projects each row f[B, d] onto the unit simplex."""
    return jax.vmap(optax.projections.projection_simplex)(rows)


@_onto_simplex.defjvp
@jax.numpy_dtype_promotion("standard")
def _onto_simplex_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> Any:
    return jax.jvp(jax.vmap(optax.projections.projection_simplex), primals, tangents)
