"""Lower bounds of the margins of a classifier over a ball."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from adv_jax import norms
from adv_jax.checks import (
    as_batch,
    check_bounds,
    check_function,
    check_logits,
    check_rows,
    checked_labels,
    checked_number,
    radius,
    traced_model,
    with_aux,
)
from adv_jax.linear_bounds._rules import run
from adv_jax.linear_bounds._tape import Ball, Tape, Value
from adv_jax.perturbations import limits
from adv_jax.programs import run_compiled
from adv_jax.types import (
    Array,
    Bounds,
    LogitsFn,
    Norm,
    RowTree,
    UserError,
    check_choice,
    described,
    widened,
)

METHODS = ("ibp", "crown_ibp", "crown")


def margin_bounds(
    logits_fn: LogitsFn,
    x: Array,
    y: Array,
    eps: ArrayLike,
    *,
    method: str,
    norm: Norm = "linf",
    bounds: Bounds | None = None,
    aux: RowTree | None = None,
) -> Array:
    """Returns lower bounds of logit_y - logit_j over the ball around each row; differentiable.

    Args:
      logits_fn: f32[B, *D] -> f32[B, K], as in `evaluate.certify`.
      x, y: f32[B, *D] and classes i32[B]. x of fewer bits is taken as float32, whose rounding
        bounds can ignore.
      eps: the radius, a number >= 0 that may be traced.
      method: of `METHODS`, as in `evaluate.certify`.
      norm: "linf", "l2", "l1" or "rms".
      bounds: (lo, hi), numbers or f[*D], or None. x must be inside.
      aux: side inputs of the rows, or None.

    Returns:
      f32[B, K]: inf for j = y, -inf where the bound is not finite.

    Raises:
      UserError: logits_fn has a primitive without a rule; another shape, dtype, method or norm;
        where values are known: x, y, eps or bounds outside their ranges.

    >>> w = jnp.array([[1., -1.], [0., 0.]])
    >>> x, y = jnp.array([[2., 0.]]), jnp.array([0])
    >>> margin_bounds(lambda x: x @ w, x, y, .5, method="ibp")  # 2 * 2 - .5 * 2
    Array([[inf,  3.]], dtype=float32)
    """
    kind, x, y = _checked(logits_fn, x, y, eps, method=method, norm=norm, bounds=bounds, aux=aux)
    if bounds is not None:
        bounds = limits(x, bounds)
    rows = partial(_of_rows, logits_fn, method=method, norm=kind)
    return run_compiled(rows, x, y, aux, jnp.asarray(eps, x.dtype), bounds)


def _of_rows(
    logits_fn: LogitsFn,
    x: Array,
    y: Array,
    aux: Any,
    eps: Array,
    bounds: Bounds | None,
    *,
    method: str,
    norm: str,
) -> Array:
    """`margin_bounds` of checked arguments."""

    def of_row(x: Array, y: Array, aux: Any) -> Array:
        x, aux = jax.tree.map(lambda a: a[None], (x, aux))
        fn = logits_fn if aux is None else lambda x: logits_fn(x, aux)
        tape = Tape(Ball(x, eps, norm, bounds), method)
        # Accelerators round the factors of products otherwise, beyond what bounds can ignore.
        with jax.default_matmul_precision("highest"):
            traced = jax.make_jaxpr(lambda x: fn(x))(x)
        (logits,) = run(tape, traced, [tape.x])
        if not isinstance(logits, Value):  # They do not depend on x.
            logits = logits.astype(x.dtype)
            return logits[0, y] - logits[0]

        def margin(j: Array) -> Array:
            classes = logits.lower.shape[1]
            c = (jax.nn.one_hot(i, classes, dtype=x.dtype)[None] for i in (y, j))
            c = next(c) - next(c)
            found = tape.lower(logits, c, linear=False)
            return found if method == "ibp" else jnp.fmax(found, tape.lower(logits, c, linear=True))

        return jax.vmap(margin)(jnp.arange(logits.lower.shape[1]))

    found = jax.vmap(of_row)(x, y, aux)
    found = jnp.where(jnp.isnan(found), -jnp.inf, found)
    return jnp.where(jax.nn.one_hot(y, found.shape[1], dtype=bool), jnp.inf, found)


def _checked(
    logits_fn: LogitsFn,
    x: Array,
    y: Array,
    eps: ArrayLike,
    *,
    method: str,
    norm: Norm,
    bounds: Bounds | None,
    aux: RowTree | None,
) -> tuple[str, Array, Array]:
    """Returns the canonical norm, x f32[B, *D] or f64, and the classes i32[B].

    Raises:
      UserError: as `margin_bounds`.
    """
    check_choice("method", method, METHODS)
    check_function(logits_fn)
    as_batch(x, bounds)
    check_bounds(bounds, (1, *jnp.shape(x)[1:]))
    kind = norms.canonical(norm, among=norms.CONVEX)
    checked_number("eps", eps, "[0, inf)")
    radius(eps, x, kind, bounds)
    check_rows("aux", aux, batch=len(x))
    x = jnp.asarray(x)
    x = widened(x)
    logits = traced_model(with_aux(logits_fn, aux), x)
    check_logits(logits, batch=len(x))
    labels = checked_labels(y, logits)
    if labels.ndim != 1:
        raise UserError(f"y must be classes i32[B] with B = {len(x)}, got {described(y)}")
    return kind, x, labels
