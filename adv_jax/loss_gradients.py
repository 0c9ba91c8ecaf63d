"""Labels, losses and their gradients by the inputs, shared by all attacks."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from adv_jax import losses
from adv_jax.checks import checked_labels, checked_logits
from adv_jax.types import Array, LogitsFn, working_dtype

Loss = Callable[[Array, Any], Array]  # (logits f32[B, K], y i32[B] or f32[B, K]) -> f32[B]


class Evaluated(NamedTuple):
    """The loss f32[B], the logits f32[B, K] and each row's gradient f32[B, *D]."""

    loss: Array
    logits: Array
    gradient: Array


def labels_at(logits_fn: LogitsFn, x: Array, y: Array | None, *, targeted: bool = False) -> Array:
    """Returns y, i32[B] or f32[B, K], or the prediction at x (virtual labels) if y is None.

    Raises:
      ValueError: targeted without y.
    """
    if y is not None:
        return jnp.asarray(y)
    if targeted:
        raise ValueError("y must be the class to reach if targeted=True, got None")
    return jnp.argmax(checked_logits(logits_fn(x), batch=x.shape[0]), axis=1)


def classes(y: Array) -> Array:
    """Returns the most probable class, i32[B], of labels i32[B] or f32[B, K]."""
    return y if y.ndim == 1 else jnp.argmax(y, axis=1)


def cross_entropy(logits: Array, y: Array) -> Array:
    """Returns the cross-entropy of each row: f32[B, K], i32[B] or f32[B, K] -> f32[B]."""
    return losses.cross_entropy(logits, checked_labels(y, logits))


def log_odds(logits: Array, y: Array) -> Array:
    """Returns `losses.log_odds` of each row: f32[B, K], i32[B] or f32[B, K] -> f32[B]."""
    return losses.log_odds(logits, classes(checked_labels(y, logits)))


def margin(logits: Array, y: Array) -> Array:
    """Returns max_{i != y} z_i - z_y, f32[B], which is > 0 if y is not the predicted class.

    y: i32[B], or f32[B, K], whose most probable class is used.
    """
    is_label = jax.nn.one_hot(classes(checked_labels(y, logits)), logits.shape[1], dtype=bool)
    others = jnp.where(is_label, -jnp.inf, logits).max(axis=1)
    return others - jnp.where(is_label, logits, 0).sum(axis=1)


def evaluated(loss: Loss, logits_fn: LogitsFn, x: Array, y: Array | None) -> Evaluated:
    """Returns loss, logits and gradient at x f[B, *D] in one forward and one backward pass.

    Losses are summed, not averaged, so a row's gradient does not depend on the batch size. Loss and
    gradient are float32, or float64 for a float64 x.

    Raises:
      ValueError: logits or labels of a wrong shape.
    """

    def total(x):
        logits = checked_logits(logits_fn(x), batch=x.shape[0])
        rows = loss(logits, y)
        return rows.sum(), (rows, logits)

    gradient, (rows, logits) = jax.grad(total, has_aux=True)(x)
    dtype = working_dtype(x.dtype)
    return Evaluated(rows.astype(dtype), logits, gradient.astype(dtype))


def loss_gradient(
    logits_fn: LogitsFn,
    x: Array,
    y: Array | None,
    *,
    targeted: bool,
    loss: str = "cross_entropy",
) -> Array:
    """Returns the gradient of the loss with respect to x, negated if targeted: f32[B, *D].

    Args:
      y: i32[B], f32[B, K], or None: the prediction at x, by the same forward pass.
      loss: a name in `losses.LOSSES`.

    Raises:
      ValueError: logits or labels of a wrong shape; unknown loss; targeted without y.
    """
    if targeted and y is None:
        raise ValueError("y must be the class to reach if targeted=True, got None")
    sign, row_loss = -1 if targeted else 1, losses.loss_fn(loss)

    def climbed(logits, y):
        labels = jnp.argmax(logits, axis=1) if y is None else checked_labels(y, logits)
        return sign * row_loss(logits, labels)

    return evaluated(climbed, logits_fn, x, y).gradient
