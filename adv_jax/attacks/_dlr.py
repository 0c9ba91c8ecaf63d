"""Differences of logits ratio: losses whose gradient does not vanish at high confidence."""

import jax
import jax.numpy as jnp

from adv_jax.loss_gradients import margin
from adv_jax.losses import classes
from adv_jax.perturbations import or_one
from adv_jax.types import Array, RowFn, UserError


def dlr(logits: Array, y: Array) -> Array:
    """Returns the difference of logits ratio, f32[B].

        (max_{i != y} z_i - z_y) / (z_(1) - z_(3)),  z_(1) >= z_(2) >= ... the sorted logits

    It is invariant to shifts and positive scaling of the logits.

    Raises:
      UserError: fewer than 3 classes.

    Source: [croce2020], eq. 6.

    >>> dlr(jnp.array([[4., 3., 2., 0.]]), jnp.array([0]))
    Array([-0.5], dtype=float32)
    """
    top = _largest(logits, 3)
    return margin(logits, y) / or_one(top[:, 0] - top[:, 2])


def targeted_dlr(logits: Array, y: Array, target: Array) -> Array:
    """Returns the targeted difference of logits ratio, f32[B].

        (z_target - z_y) / (z_(1) - (z_(3) + z_(4)) / 2)

    Raises:
      UserError: fewer than 4 classes.

    Source: [croce2020], eq. 7.

    >>> targeted_dlr(jnp.array([[4., 3., 2., 0.]]), jnp.array([0]), jnp.array([2]))
    Array([-0.6666667], dtype=float32)
    """
    top = _largest(logits, 4)
    return difference(logits, y, target) / or_one(top[:, 0] - (top[:, 2] + top[:, 3]) / 2)


def difference(logits: Array, y: Array, target: Array) -> Array:
    """Returns z_target - z_y, f32[B]."""
    columns = jnp.stack([target.astype(y.dtype), y], axis=1)
    pair = jnp.take_along_axis(logits, columns, axis=1)
    return pair[:, 0] - pair[:, 1]


def aimed(logits: Array, y: Array, target: Array) -> Array:
    """Returns the targeted ratio, f32[B]; with 2 or 3 classes its numerator."""
    score = targeted_dlr if logits.shape[1] >= 4 else difference
    return score(logits, y, target)


def toward(predicted: Array) -> RowFn:
    """Returns the targeted dlr as a loss of the target, to descend."""
    return lambda logits, target: -targeted_dlr(logits, predicted, classes(target))


def _largest(logits: Array, count: int) -> Array:
    """Returns the largest logits in descending order, f32[B, count]."""
    if logits.shape[1] < count:
        raise UserError(
            f'logits must have at least {count} classes for loss="dlr", got {logits.shape[1]}'
        )
    return jax.lax.top_k(logits, count)[0]
