"""What every attack promises, written once: its inputs, its gradient, its last operation.

The promises are tested for all attacks from one table, tests/attack_table.py.

Arguments with known values are checked and refused in words. Inside jit, vmap or grad there are
only shapes to check, and a checked call costs nothing there.
"""

import operator
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import ArrayLike

from adv_jax import losses, norms
from adv_jax.types import Array, Bounds, LogitsFn, Norm

Tree = TypeVar("Tree")
Loss = Callable[[Array, Any], Array]  # (logits f32[B, K], y i32[B] or f32[B, K]) -> f32[B]


class Ascent(NamedTuple):
    """What one forward and one backward pass tell about a point.

    loss: f32[B], what the attack climbs, row by row.
    logits: f32[B, K].
    gradient: f32[B, *D], of each row's own loss by that row.
    """

    loss: Array
    logits: Array
    gradient: Array


def as_batch(x: Array, bounds: Bounds | None = None) -> Array:
    """x as a JAX array f[B, *D], constant, so that nothing is differentiated twice for nothing.

    Raises:
      ValueError: x is not floating point (integer pixels cannot take a small step), or no batch,
        or an empty one; where values are known: not finite, or outside the bounds.
    """
    x = jnp.asarray(x)
    if x.ndim == 0 or not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"x must be a batch f32[B, *D] of floats, got {describe(x)}")
    if x.shape[0] == 0:
        raise ValueError(f"x must have at least one row, got {describe(x)}")
    if x.size == 0:
        raise ValueError(f"x must have at least one number a row, got {describe(x)}")
    check_bounds(bounds)
    if is_known(x):
        _check_values(np.asarray(x, np.float64), x.dtype, bounds)
    return jax.lax.stop_gradient(x)


def checked(logits_fn: LogitsFn, x: Array, y: Array | None, bounds: Bounds | None = None) -> Array:
    """`as_batch`, and a look at the model and the labels: one forward pass outside traced code.

    Args:
      y: i32[B], f32[B, K], or None: what the model predicts at x.

    Raises:
      ValueError: as `as_batch`; a model that is no function of x; logits that are no f32[B, K];
        labels of another shape or type; where values are known: logits that are not finite or
        look like probabilities, labels that are no class.
    """
    if not callable(logits_fn) or _is_unbound(logits_fn):
        raise ValueError(
            f"logits_fn must be a function of x alone, got a {type(logits_fn).__name__}: "
            "pass lambda x: model.apply(variables, x)"
        )
    x = as_batch(x, bounds)
    if is_known(x) and not _is_tracing():
        logits = checked_logits(logits_fn(x), batch=x.shape[0])
        if is_known(logits):
            _check_logits(np.asarray(logits))
        if y is not None:
            checked_labels(y, logits)
    return x


def radius(
    eps: ArrayLike, x: Array, norm: Norm, bounds: Bounds | None = None, *, name: str = "eps"
) -> Array:
    """The radius of each row's ball, f32[1 or B, 1, ..., 1], to multiply f[B, *D].

    Raises:
      ValueError: unknown norm; neither a number nor f32[B]; where values are known: negative, or
        larger than the bounds are wide, as of a pixel scale of 255 with bounds (0, 1).
    """
    per_row, ones = norms.per_row(name, eps, x), norms.norm_of_ones(x.shape[1:], norm)
    if bounds is not None and is_known(eps):
        widest, largest = ones * (bounds[1] - bounds[0]), np.max(np.asarray(eps))
        if largest > widest * (1 + 1e-6):
            raise ValueError(
                f"{name} must be at most {widest:g}, the {norm} width of the bounds {bounds}, "
                f"got {largest:g}"
            )
    return per_row


def check_bounds(bounds: Bounds | None) -> None:
    """Refuses what is no interval.

    Raises:
      ValueError: neither None nor two numbers, the first the lower.
    """
    if bounds is not None and not (np.shape(bounds) == (2,) and bounds[0] < bounds[1]):
        raise ValueError(f"bounds must be (lo, hi) with lo < hi, got {bounds}")


def check_counts(**counts: int) -> None:
    """Refuses a number of steps, restarts, ... that is not whole or below 1.

    Raises:
      ValueError: names it.
    """
    for name, count in counts.items():
        try:
            operator.index(count)
        except TypeError:
            raise ValueError(
                f"{name} must be a whole number of at least 1, got {norms.described(count)}"
            ) from None
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")


def check_finite(**numbers: Any) -> None:
    """Refuses settings that are known to be NaN or infinite.

    Raises:
      ValueError: names it.
    """
    for name, number in numbers.items():
        if is_known(number) and not np.isfinite(number).all():
            raise ValueError(f"{name} must be finite, got {number}")


def labels_at(logits_fn: LogitsFn, x: Array, y: Array | None, *, targeted: bool = False) -> Array:
    """y, or where it is None what the model predicts at x (virtual labels): i32[B] or f32[B, K].

    Raises:
      ValueError: targeted without y.
    """
    if y is not None:
        return jnp.asarray(y)
    if targeted:
        raise ValueError("targeted=True needs y, the class to reach, got y=None")
    return jnp.argmax(checked_logits(logits_fn(x), batch=x.shape[0]), axis=1)


def classes(y: Array) -> Array:
    """The one class, i32[B], of labels i32[B] or f32[B, K]: the most probable."""
    return y if y.ndim == 1 else jnp.argmax(y, axis=1)


def cross_entropy(logits: Array, y: Array) -> Array:
    """Cross-entropy of each row: f32[B, K], i32[B] or f32[B, K] -> f32[B]."""
    return losses.cross_entropy(logits, checked_labels(y, logits))


def margin(logits: Array, y: Array) -> Array:
    """Largest logit of another class minus the logit of the label, > 0 once fooled: f32[B].

    y: i32[B] or f32[B, K], of which the most probable class counts.
    """
    is_label = jax.nn.one_hot(classes(checked_labels(y, logits)), logits.shape[1], dtype=bool)
    others = jnp.where(is_label, -jnp.inf, logits).max(axis=1)
    return others - jnp.where(is_label, logits, 0).sum(axis=1)


def ascent(loss: Loss, logits_fn: LogitsFn, x: Array, y: Array | None) -> Ascent:
    """Loss, logits and gradient at x f[B, *D]: one forward pass, one backward pass.

    Rows are summed, not averaged, so that a row's gradient does not depend on the size of the
    batch. The loss is float32 whatever the model computes in.

    Raises:
      ValueError: logits or labels of a wrong shape.
    """

    def total(x):
        logits = checked_logits(logits_fn(x), batch=x.shape[0])
        rows = loss(logits, y)
        return rows.sum(), (rows, logits)

    gradient, (rows, logits) = jax.grad(total, has_aux=True)(x)
    return Ascent(rows, logits, gradient.astype(norms.working_dtype(x.dtype)))


def loss_gradient(
    logits_fn: LogitsFn,
    x: Array,
    y: Array | None,
    *,
    targeted: bool,
    loss: str = "cross_entropy",
) -> Array:
    """Gradient, by x, of the loss of y, or of minus it if targeted: f32[B, *D].

    Args:
      y: i32[B], f32[B, K], or None: what the model predicts at x, in the same forward pass.
      loss: a name of `losses.LOSSES`.

    Raises:
      ValueError: logits or labels of a wrong shape; an unknown loss; targeted without y.
    """
    if targeted and y is None:
        raise ValueError("targeted=True needs y, the class to reach, got y=None")
    sign, row_loss = -1 if targeted else 1, losses.loss_fn(loss)

    def climbed(logits, y):
        labels = jnp.argmax(logits, axis=1) if y is None else checked_labels(y, logits)
        return sign * row_loss(logits, labels)

    return ascent(climbed, logits_fn, x, y).gradient


def moved(x: Array, r: Array) -> Array:
    """x + r in the dtype of x: where to look at the model on the way."""
    return (x.astype(r.dtype) + r).astype(x.dtype)


def inside(x: Array, r: Array, bounds: Bounds | None) -> Array:
    """r f32[B, *D] with x + r cut to the bounds; entries only shrink, so no norm of r grows."""
    if bounds is None:
        return r
    lo, hi = (jnp.asarray(bound, x.dtype).astype(r.dtype) for bound in bounds)
    x = x.astype(r.dtype)
    return jnp.clip(r, lo - x, hi - x)


def choose(rows: Array, on_true: Tree, on_false: Tree) -> Tree:
    """Row by row one of two arrays, or trees of them: bool[B], f[B, *D], f[B, *D] -> f[B, *D]."""

    def one(a, b):
        return jnp.where(rows.reshape(-1, *(1,) * (a.ndim - 1)), a, b)

    return jax.tree.map(one, on_true, on_false)


def perturbed(x: Array, r: Array, bounds: Bounds | None) -> Array:
    """The last operation of every attack: x + r, clipped, in the shape and dtype of x, constant.

    If r is in a ball and x inside the bounds, then the result is inside both: rounding is
    towards x and so is clipping, coordinate by coordinate, and no norm grows when entries
    shrink. Where r is 0, x comes back bit for bit, even a -0.

    Args:
      x: f[B, *D], inside the bounds.
      r: f32[B, *D], the perturbation, already in its ball.
      bounds: (lo, hi) as the dtype of x rounds them, or None for no clipping.
    """
    # Stopped at the door: what follows has no derivative, and nextafter would raise.
    x, r = jax.lax.stop_gradient((x, r))
    near = x.astype(r.dtype)
    dtype = jnp.finfo(x.dtype)
    # Explicit, since XLA may drop a cast to bfloat16 and back.
    far = jax.lax.reduce_precision(near + r, dtype.nexp, dtype.nmant)
    far = jnp.clip(far, float(dtype.min), float(dtype.max))  # The sum may overflow.
    overshoots = jnp.abs(far - near) > jnp.abs(r)
    x_adv = far.astype(x.dtype)
    x_adv = jnp.where(overshoots, jnp.nextafter(x_adv, x), x_adv)
    if bounds is not None:
        x_adv = jnp.clip(x_adv, *(jnp.asarray(bound, x.dtype) for bound in bounds))
    return jnp.where(r == 0, x, x_adv)


def checked_logits(logits: Array, *, batch: int) -> Array:
    """Logits f[B, K] as float32.

    Raises:
      ValueError: something else than one array f[B, K] of floats, or a single class.
    """
    if not isinstance(logits, jax.Array):
        kind = type(logits).__name__
        raise ValueError(f"logits_fn must return one array of logits f32[B, K], got a {kind}")
    if logits.ndim != 2 or logits.shape[0] != batch:
        raise ValueError(
            f"logits_fn must return logits f32[B, K] with B = {batch}, got {describe(logits)}"
        )
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise ValueError(
            f"logits_fn must return logits of floating point, which have a gradient, got "
            f"{describe(logits)}"
        )
    if logits.shape[1] < 2:
        raise ValueError(
            f"logits_fn must return logits of 2 classes or more, got {describe(logits)}; those of "
            "one logistic output z are [0, z]"
        )
    return logits.astype(norms.working_dtype(logits.dtype))


def checked_labels(y: Array, logits: Array) -> Array:
    """y as a JAX array: i32[B], or f32[B, K] like the logits.

    Raises:
      ValueError: another shape or type; where values are known: no class, or no weights.
    """
    y, (batch, count) = jnp.asarray(y), logits.shape
    integers = y.shape == (batch,) and jnp.issubdtype(y.dtype, jnp.integer)
    weights = y.shape == (batch, count) and jnp.issubdtype(y.dtype, jnp.floating)
    if not integers and not weights:
        raise ValueError(
            f"y must be integers i32[B] or probabilities f32[B, K] with B = {batch}, K = {count}, "
            f"got {describe(y)}"
        )
    if is_known(y):
        highest = count - 1 if integers else np.finfo(np.float64).max
        values = np.asarray(y, np.float64)
        bad = values[~((values >= 0) & (values <= highest))]
        if bad.size:
            allowed = (
                f"classes from 0 to {count - 1}" if integers else "finite weights of at least 0"
            )
            raise ValueError(f"y has {bad[0]:g}; allowed are {allowed}")
    return y


def is_known(value: ArrayLike) -> bool:
    """Whether the numbers can be looked at: not inside jit, vmap or grad."""
    return not isinstance(value, jax.core.Tracer)


def describe(array: Array) -> str:
    """Type and shape of an array, as float32[6, 5]."""
    return f"{array.dtype.name}{list(array.shape)}"


def _is_unbound(logits_fn: LogitsFn) -> bool:
    """Whether it is a Flax module without its variables, which Flax refuses in many lines."""
    return isinstance(logits_fn, nn.Module) and logits_fn.scope is None


def _is_tracing() -> bool:
    """Whether what JAX computes now would be staged into a program."""
    return not is_known(jnp.zeros(()))


def _check_values(x: np.ndarray, dtype: np.dtype, bounds: Bounds | None) -> None:
    if not np.isfinite(x).all():
        raise ValueError(f"x has {x[~np.isfinite(x)][0]}; allowed are finite numbers")
    if bounds is None:
        return
    lo, hi = (float(np.asarray(bound, dtype)) for bound in bounds)
    outside = x[(x < lo) | (x > hi)]
    if outside.size:
        raise ValueError(f"x has {outside[0]:g}, outside the bounds {bounds}")


def _check_logits(logits: np.ndarray) -> None:
    if not np.isfinite(logits).all():
        bad = logits[~np.isfinite(logits)][0]
        raise ValueError(f"logits_fn returns {bad} at x; allowed are finite logits")
    if logits.min() >= 0 and np.allclose(logits.sum(axis=1), 1, atol=1e-3):
        raise ValueError(
            "logits_fn returns rows >= 0 that sum to 1: these look like probabilities, whose "
            "gradients vanish; return the logits before the softmax, or jnp.log of it"
        )
