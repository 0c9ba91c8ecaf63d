"""Labels, losses and their gradients by the inputs, shared by all attacks."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import jaxpr_as_fun

from adv_jax import losses, programs
from adv_jax.checks import checked_labels, checked_logits
from adv_jax.perturbations import spread
from adv_jax.types import Array, LogitsFn, RowFn, UserError, working_dtype


class Rated(NamedTuple):
    """The loss of points, f[B], to maximize, and whether they fool the model, bool[B].

    unit: f[B], constant powers of two. The largest derivative of loss / unit by the outputs of the
      model is close to 1. None: 1, of a loss that may lack a derivative.
    flags: of the logits (`checks.logit_flags`); None for outputs of another kind.
    """

    loss: Array
    fools: Array
    unit: Array | None = None
    flags: Mapping[str, Array] | None = None


RateFn = Callable[[Array], Rated]  # f[B, *D] -> Rated
Pullback = Callable[[Array], Array]  # f32[B, K] -> f32[B, *D]


def labels_at(logits_fn: LogitsFn, x: Array, y: Array | None, *, targeted: bool = False) -> Array:
    """Returns y, i32[B] or f32[B, K], or the prediction at x (virtual labels) if y is None.

    Raises:
      UserError: targeted without y.
    """
    if y is not None:
        y = jnp.asarray(y)
        is_column = y.shape == (len(x), 1) and jnp.issubdtype(y.dtype, jnp.integer)
        return y.reshape(-1) if is_column else y
    if targeted:
        raise UserError("y must be the class to reach if targeted=True, got None")
    return jnp.argmax(checked_logits(logits_fn(x), batch=x.shape[0]), axis=1)


def margin(logits: Array, y: Array) -> Array:
    """Returns max_{i != y} z_i - z_y, f32[B], which is > 0 if y is not the predicted class.

    y: i32[B], or f32[B, K], whose most probable class is used.
    """
    label = losses.classes(checked_labels(y, logits))
    is_label = jax.nn.one_hot(label, logits.shape[1], dtype=bool)
    others = jnp.where(is_label, -jnp.inf, logits).max(axis=1)
    return others - jnp.where(is_label, logits, 0).sum(axis=1)


def rated(loss: Callable[[Any], Array], outputs: Any, fools: Array) -> Rated:
    """Returns loss(outputs), outputs being those of a model at the points of `Rated`.

    Args:
      loss: a tree of arrays -> f[B].
    """
    # A custom derivative of the loss need not have one itself.
    fixed = jax.lax.stop_gradient(outputs)
    slopes = jax.grad(lambda outputs: loss(outputs).sum(), allow_int=True)(fixed)
    rows = loss(outputs)
    return Rated(rows, fools, _unit(slopes, rows).astype(rows.dtype))


def rate_fn(
    loss: Any,
    fn: Callable[..., Any],
    x: Array,
    y: Array | None,
    *,
    targeted: bool = False,
) -> RateFn:
    """Returns the function to climb: fn itself if loss is None, else that of its logits.

    A point fools the model if its class is not y, or is y if targeted.

    Args:
      loss: (logits f32[B, K], labels) -> f[B], descended if targeted; or None. Any, as the
        signature of an attack also has names for it.
    """
    if loss is None:
        return fn
    sign = -1 if targeted else 1
    y = labels_at(fn, x, y, targeted=targeted)

    def rate(point: Array) -> Rated:
        logits = checked_logits(fn(point), batch=x.shape[0])
        labels = checked_labels(y, logits)
        fools = sign * margin(jax.lax.stop_gradient(logits), labels) > 0
        return rated(lambda logits: sign * loss(logits, labels), logits, fools)

    return rate


def with_gradient(rate: RateFn, x: Array) -> tuple[Rated, Array]:
    """Returns rate(x) and each row's gradient f[B, *D] of the loss, in one pass each way.

    Losses are summed, not averaged, so a row's gradient does not depend on the batch size. A model
    that computes in float16 is differentiated in the unit of `Rated`: else its gradient would round
    to 0 at margins above 17 nats. Loss and gradient are float32, or float64 for a float64 x. A NaN
    entry of the gradient counts as 0 where the loss is not NaN (`without_nan`).
    """
    at, gradient = _gradient_with_nan(rate, x)
    return at, without_nan(gradient, at.loss)


def linearized(
    logits_fn: LogitsFn, x: Array, of: Callable[[Array], Array] = lambda logits: logits
) -> tuple[Array, Pullback]:
    """Returns values = of(logits at x), f32[B, K], and their pullback by x.

    The pullback differentiates a model that computes in float16 in units of each row's derivative
    by the logits, and a NaN entry counts as 0, as `with_gradient` does.
    """
    fn, in_float16 = _traced(lambda x: checked_logits(logits_fn(x), batch=x.shape[0]), x)
    logits, pull_logits = jax.vjp(fn, x)
    values, pull_values = jax.vjp(of, logits)

    def pullback(weights: Array) -> Array:
        (slopes,) = pull_values(weights)
        unit = _unit(slopes, slopes[:, 0]) if in_float16 else None
        (gradient,) = pull_logits(slopes if unit is None else slopes / unit[:, None])
        gradient = gradient.astype(working_dtype(x.dtype))
        gradient = gradient if unit is None else spread(unit, gradient) * gradient
        return without_nan(gradient, values)

    return values, pullback


def loss_flags(rate: RateFn, x: Array) -> dict[str, Array]:
    """Returns whether a loss of the user is finite at x, and its gradient not NaN: bool[B] each."""
    at = rate(x)
    flags = {"loss": jnp.isfinite(at.loss)}
    if at.unit is not None:
        _, gradient = _gradient_with_nan(rate, x)
        flags["gradient"] = ~jnp.isnan(gradient).reshape(len(x), -1).any(axis=1)
    return flags


def without_nan(gradient: Array, values: Array) -> Array:
    """Returns the gradient f[B, *D] with 0 for NaN, but in rows whose values f[B, ...] are NaN.

    There the model itself fails, which a traced attack shows in its result.
    """
    failed = jnp.isnan(values).reshape(len(values), -1).any(axis=1)
    return jnp.where(jnp.isnan(gradient) & ~spread(failed, gradient), 0, gradient)


def loss_gradient(
    logits_fn: LogitsFn,
    x: Array,
    y: Array | None,
    *,
    targeted: bool,
    loss: RowFn = losses.cross_entropy,
) -> Array:
    """Returns the gradient of the loss with respect to x, negated if targeted: f32[B, *D].

    Args:
      y: i32[B], f32[B, K], or None: the prediction at x, by the same forward pass.
      loss: as of `rate_fn`.

    Raises:
      UserError: logits or labels of a wrong shape; targeted without y.
    """

    def rate(point: Array) -> Rated:
        logits = logits_fn(point)  # One forward pass, also for the prediction.
        return rate_fn(loss, lambda _: logits, point, y, targeted=targeted)(point)

    return with_gradient(rate, x)[1]


def _gradient_with_nan(rate: RateFn, x: Array) -> tuple[Rated, Array]:
    """`with_gradient` with NaN where the gradient is."""
    rate, in_float16 = _traced(rate, x)

    def total(x: Array) -> tuple[Array, tuple[Rated, Array]]:
        at = rate(x)
        scaled = in_float16 and at.unit is not None
        unit = at.unit if scaled else jnp.ones_like(at.loss)
        return (at.loss / unit if scaled else at.loss).sum(), (at, unit)

    gradient, (at, unit) = jax.grad(total, has_aux=True)(x)
    dtype = working_dtype(x.dtype)
    gradient = gradient.astype(dtype)
    gradient = spread(unit, gradient) * gradient if in_float16 else gradient
    return at._replace(loss=at.loss.astype(dtype)), gradient


def _traced(fn: Callable[[Array], Any], x: Array) -> tuple[Callable[[Array], Any], bool]:
    """Returns fn, which is traced once, and whether it computes in float16.

    Other models keep one unit for all rows: it is exact even if batch statistics join the rows.
    """
    jaxpr, like = jax.make_jaxpr(fn, return_shape=True)(x)
    run = jaxpr_as_fun(jaxpr)
    in_float16 = x.dtype == jnp.float16 or programs.computes_in(jnp.float16, jaxpr.jaxpr)
    return lambda x: jax.tree.unflatten(jax.tree.structure(like), run(x)), in_float16


def _unit(slopes: Any, like: Array) -> Array:
    """Returns the power of two next to each row's largest |slope|, constant, f[B] like `like`.

    It is 1 for a row of zeros, or one with NaN or infinity.

    Args:
      slopes: a tree of arrays f[B, ...]; others are left out.
    """
    most = jnp.zeros_like(like)
    for slope in jax.tree.leaves(slopes):
        if slope.dtype != jax.dtypes.float0 and slope.shape[:1] == like.shape and slope.size:
            rows = jnp.abs(slope.astype(like.dtype)).reshape(len(like), -1)
            most = jnp.maximum(most, rows.max(axis=1))
    most = jax.lax.stop_gradient(most)
    limits = jnp.finfo(like.dtype)
    # A number without mantissa is a power of two; 1 / unit is a normal number too.
    unit = jax.lax.reduce_precision(jnp.clip(most, limits.tiny, limits.max / 4), limits.nexp, 0)
    return jnp.where((most > 0) & (most < jnp.inf), unit, 1)
