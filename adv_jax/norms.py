"""The only place where a norm is interpreted.

A norm is data: "linf" (also jnp.inf), "l2" (2), "l1" (1) or "rms", in any case of letters;
rms = l2 / sqrt(d), so that a radius does not depend on the size of the input.

Arrays are batches f[B, *D] of any rank >= 1. Every function treats a row, that is one input of
d = prod(D) numbers, alone; a radius `eps` is a number or f32[B], in units of the row, and may be
traced. Arithmetic and results are float32, or float64 for float64 arrays, so that a bfloat16
model still gets an exact perturbation.

    norm     the length of each row
    dual     the point of the unit ball that a linear form likes best
    rescaled the same direction at length 1
    project  the nearest point of the ball
    sample   a point drawn uniformly from the ball
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from adv_jax.types import UserError

_NAMES = {"linf": "linf", "inf": "linf", "rms": "rms"}
_NAMES |= {"l2": "l2", "2": "l2", "2.0": "l2", "l1": "l1", "1": "l1", "1.0": "l1"}


def canonical(norm: str | float) -> str:
    """The one name, "linf", "l2", "l1" or "rms", of a norm or of its alias.

    Raises:
      ValueError: for anything else.

    >>> [canonical(alias) for alias in ("Linf", jnp.inf, 2, 1.0, "RMS")]
    ['linf', 'linf', 'l2', 'l1', 'rms']
    """
    try:
        return _NAMES[str(norm).lower()]
    except KeyError:
        raise ValueError(
            f'norm must be "linf" (or jnp.inf), "l2" (or 2), "l1" (or 1) or "rms", got {norm!r}'
        ) from None


def working_dtype(dtype: Any) -> Any:
    """The dtype to compute a perturbation in: float64 for float64, else float32."""
    return jnp.promote_types(dtype, jnp.float32)


def norm(r: jax.Array, norm: str | float) -> jax.Array:
    """Length of each row: f[B, *D] -> f32[B]; no square of it under- or overflows.

    >>> norm(jnp.array([[3., 4.], [3e-30, 4e-30]]), "l2")
    Array([5.e+00, 5.e-30], dtype=float32)
    """
    return _length(_rows(r), canonical(norm))[:, 0]


def norm_of_ones(shape: tuple[int, ...], norm: str | float) -> float:
    """Length of a row of ones, which is the longest where no entry exceeds 1.

    >>> norm_of_ones((3, 3), "l2")
    3.0
    """
    d = math.prod(shape)
    return {"linf": 1.0, "rms": 1.0, "l2": math.sqrt(d), "l1": float(d)}[canonical(norm)]


def dual(g: jax.Array, norm: str | float) -> jax.Array:
    """argmax of <g, r> over the unit ball ||r|| <= 1, row by row: f[B, *D] -> f32[B, *D].

        linf  sign(g)                      fast gradient sign (FGSM; Maronas' SGN)
        l2    g / ||g||_2                  Huang's Adv_Loss; Maronas' 1N
        l1    sign(g_k) e_k, k = argmax_i |g_i|, the first of equals
        rms   sqrt(d) g / ||g||_2          Maronas' qN (28N on MNIST)

    A zero row gives a zero row. The direction is exact for gradients as small as float32 can
    hold. An infinite entry outweighs every finite one, which is the limit of the formulas. A
    NaN stays a NaN: a model that has diverged must be seen, not turned into a zero step.

    Sources: [goodfellow2015], sec. 3; [huang2015], sec. 6.1.1 (there for the
    gradient of the true class's probability, printed without the minus sign); [maronas2016],
    eq. 56, 58, 59.

    >>> dual(jnp.array([[3., -4.], [0., 0.]]), "l2")
    Array([[ 0.6, -0.8],
           [ 0. ,  0. ]], dtype=float32)
    """
    kind, rows = canonical(norm), _rows(g)
    d = rows.shape[1]
    if kind == "linf":
        unit = jnp.sign(rows)
    elif kind == "l1":
        winner = jnp.argmax(jnp.abs(rows), axis=1, keepdims=True)
        unit = jnp.where(jnp.arange(d) == winner, jnp.sign(rows), 0)
    else:
        scaled, _ = _scaled(rows)
        squares = jnp.sum(scaled**2, axis=1, keepdims=True)
        radius = math.sqrt(d) if kind == "rms" else 1.0
        # The root of 0 has no derivative, and a perturbation may be differentiated.
        unit = radius * scaled / jnp.sqrt(jnp.where(squares == 0, 1, squares))
    return unit.reshape(jnp.shape(g))


def rescaled(r: jax.Array, norm: str | float) -> jax.Array:
    """Each row divided by its length: f[B, *D] -> f32[B, *D]; a zero row stays zero.

    >>> rescaled(jnp.array([[1., -1., 1., 1.]]), "l2")
    Array([[ 0.5, -0.5,  0.5,  0.5]], dtype=float32)
    """
    kind, rows = canonical(norm), _rows(r)
    zero = (rows == 0).all(axis=1, keepdims=True)
    # A length of 0 has no derivative, which would be a NaN even where it is not chosen.
    some = jnp.where(zero, 1, rows)
    return jnp.where(zero, 0, some / _length(some, kind)).reshape(jnp.shape(r))


def project(r: jax.Array, eps: jax.typing.ArrayLike, norm: str | float) -> jax.Array:
    """The point of the ball ||p|| <= eps nearest to r in l2, row by row: -> f32[B, *D].

    A row inside the ball comes back bit for bit; eps = 0 gives exactly 0. Rounding may leave a
    projected row outside by a few parts in 10^6 of eps under l2, rms and l1, never under linf.

    Raises:
      ValueError: unknown norm; eps neither a number nor f32[B], or a negative number.

    >>> project(jnp.array([[3., 1.], [.2, .1]]), 1., "l1")
    Array([[1. , 0. ],
           [0.2, 0.1]], dtype=float32)
    """
    kind, rows = canonical(norm), _rows(r)
    radius = per_row("eps", eps, rows)
    if kind == "linf":
        nearest = optax.projections.projection_box(rows, -radius, radius)
    else:
        sphere = _onto_l1_sphere(rows, radius) if kind == "l1" else radius * dual(rows, kind)
        nearest = jnp.where(_length(rows, kind) <= radius, rows, sphere)
    return nearest.reshape(jnp.shape(r))


def sample(key: jax.Array, like: Any, eps: jax.typing.ArrayLike, norm: str | float) -> jax.Array:
    """Uniform in the ball ||r|| <= eps, one independent draw a row: -> f32[B, *D].

    Uniform in volume, so in many dimensions nearly all draws lie near the sphere: the norm of a
    draw is distributed as eps * u^(1/d), u uniform in [0, 1].

    Args:
      key: one key, or one a row (see `row_keys`).
      like: an array, or anything with `.shape` and `.dtype`, of the shape to draw, f[B, *D].

    Raises:
      ValueError: as `project` and `row_keys`.

    Source: [barthe2005], Theorem 1: for z_i of density ~ exp(-|z|^p)
    and e exponential, z / (sum |z_i|^p + e)^(1/p) is uniform in the lp ball.

    >>> bool(norm(sample(jax.random.key(0), jnp.zeros((5, 3)), .1, "l1"), "l1").max() <= .1)
    True
    """
    kind, d = canonical(norm), math.prod(like.shape[1:])
    dtype = working_dtype(like.dtype)

    def unit(key):
        if kind == "linf":
            return jax.random.uniform(key, (d,), dtype, -1, 1)
        key_direction, key_depth = jax.random.split(key)
        depth = jax.random.exponential(key_depth, dtype=dtype)
        if kind == "l1":
            z = jax.random.laplace(key_direction, (d,), dtype)
            return z / (jnp.abs(z).sum() + depth)
        # A normal z has the density ~ exp(-z^2 / 2), so it is e that carries the factor 2.
        z = jax.random.normal(key_direction, (d,), dtype)
        radius = math.sqrt(d) if kind == "rms" else 1.0
        return radius * z / jnp.sqrt(jnp.sum(z**2) + 2 * depth)

    units = jax.vmap(unit)(row_keys(key, like.shape[0])).reshape(like.shape)
    return per_row("eps", eps, like) * units


def per_row(name: str, value: jax.typing.ArrayLike, like: Any) -> jax.Array:
    """A scale, one number or f32[B], in a shape f32[1 or B, 1, ..., 1] that multiplies f[B, *D].

    What is in such a shape already may be given again.

    Raises:
      ValueError: `value`, called `name`, is no real number, has another shape or, where its
        numbers are known and not traced, is negative, NaN or more than the dtype holds.

    >>> per_row("eps", [.1, .2], jnp.zeros((2, 28, 28))).shape
    (2, 1, 1)
    """
    dtype, one = working_dtype(like.dtype), f"one real number or f32[B], B = {like.shape[0]}"
    if not is_real(value):
        raise UserError(f"{name} must be {one}, got {described(value)}")
    check_known(name, value, lambda number: number >= 0, ">= 0")
    check_known(name, value, lambda number: number <= jnp.finfo(dtype).max, f"a finite {dtype}")
    scale = jnp.asarray(value, dtype)
    rows, *rest = scale.shape or (1,)
    if rows not in (1, like.shape[0]) or not set(rest) <= {1}:
        raise UserError(f"{name} must be {one}, got the shape {scale.shape}")
    return scale.reshape(-1, *(1,) * (len(like.shape) - 1))


def row_keys(key: jax.Array | None, batch: int) -> jax.Array:
    """Keys, one a row: key[] or key[B] -> key[B]; old-style uint32 keys are accepted.

    With one key, the draws of row i depend on the key and on i. With a key per example they
    travel with the example, so that a batch may be permuted, split or padded.

    Raises:
      ValueError: no key, something else, or as many as do not fit the batch.
    """
    if key is None:
        raise ValueError("key is required, as random numbers are drawn: key=jax.random.key(seed)")
    if not hasattr(key, "dtype") or not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        try:
            key = jax.random.wrap_key_data(key)
        except (AttributeError, TypeError, ValueError):
            raise ValueError(
                f"key is {described(key)}; allowed is jax.random.key(seed) or a key for each row"
            ) from None
    if key.ndim == 0:
        return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(batch))
    if key.shape != (batch,):
        raise ValueError(f"key must be one key or key[B] with B = {batch}, got {key.shape}")
    return key


def is_real(value: Any) -> bool:
    """Whether it is made of real numbers, by its dtype, which traced arrays have too.

    >>> [is_real(value) for value in (1, [.1, .2], True, "1", None, 1j, [[1], [1, 2]])]
    [True, True, False, False, False, False, False]
    """
    try:
        dtype = value.dtype if hasattr(value, "dtype") else np.asarray(value).dtype
    except (TypeError, ValueError):  # A list that is ragged, or that has traced numbers.
        return False
    return jnp.issubdtype(dtype, jnp.integer) or jnp.issubdtype(dtype, jnp.floating)


def check_known(
    name: str, value: Any, holds: Callable[[np.ndarray], np.ndarray], allowed: str
) -> None:
    """Refuses real numbers of which one does not hold, where they are known and not traced.

    Raises:
      ValueError: names the first of them, and what is allowed.
    """
    if isinstance(value, jax.core.Tracer):
        return
    numbers = np.asarray(value)
    bad = numbers[~holds(numbers)]
    if bad.size:
        raise UserError(f"{name} must be {allowed}, got {bad[0]}")


def described(value: Any) -> str:
    """A value in one line: of an array only the type and the shape, of a list the beginning.

    >>> described((0, np.ones((28, 28), np.float32)))
    '(0, float32[28, 28])'
    >>> described(["a"] * 9)
    "('a', 'a', 'a', 'a', ...)"
    """
    if isinstance(value, tuple | list):
        parts = [described(part) for part in value[:4]] + ["..."] * (len(value) > 4)
        return f"({', '.join(parts)})"
    shape = list(np.shape(value))
    return f"{value.dtype.name}{shape}" if shape else " ".join(repr(value).split())


def _rows(r: jax.Array) -> jax.Array:
    """f[B, *D] -> f32[B, d]."""
    r = jnp.asarray(r)
    flat = r.reshape(r.shape[0], math.prod(r.shape[1:]))
    return flat.astype(working_dtype(r.dtype))


def _scaled(rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    """f[B, d] -> rows divided by their largest |entry|, and that f[B, 1]; 0 stays 0."""
    largest = jnp.max(jnp.abs(rows), axis=1, keepdims=True)
    scaled = rows / jnp.where(largest == 0, 1, largest)
    return jnp.where(jnp.isinf(rows), jnp.sign(rows), scaled), largest


def _length(rows: jax.Array, kind: str) -> jax.Array:
    """f[B, d] -> f[B, 1]."""
    if kind == "l1":
        return jnp.sum(jnp.abs(rows), axis=1, keepdims=True)
    scaled, largest = _scaled(rows)
    if kind == "linf":
        return largest
    l2 = largest * jnp.sqrt(jnp.sum(scaled**2, axis=1, keepdims=True))
    return l2 / math.sqrt(rows.shape[1]) if kind == "rms" else l2


def _onto_l1_sphere(rows: jax.Array, radius: jax.Array) -> jax.Array:
    """f[B, d] of ||r||_1 >= radius, radius f[1 or B, 1] -> nearest f[B, d] of ||p||_1 = radius.

    A shift of all |r_i| does not change their projection onto the simplex, and what lies more
    than a radius below the largest goes to 0. Shifted and cut, all numbers are in [-1, 0], so
    that rows far larger than the ball lose no digits (optax.projections.projection_l1_ball
    gives NaN for a radius of 0).
    """
    size = jnp.abs(rows)
    below = (size - size.max(axis=1, keepdims=True)) / jnp.where(radius == 0, 1, radius)
    # With float64 enabled optax' projection turns float32 into float64, its derivative does not.
    below = jnp.maximum(below, -1).astype(float)
    weights = jax.vmap(optax.projections.projection_simplex)(below)
    return (radius * jnp.sign(rows) * weights).astype(rows.dtype)
