"""Target classes i32[B] for targeted attacks."""

import jax
import jax.numpy as jnp
import numpy as np

from adv_jax.checks import (
    arity,
    as_batch,
    check_finite,
    check_function,
    checked_logits,
    checked_number,
    finite_rows,
)
from adv_jax.losses import as_classes
from adv_jax.random import row_keys
from adv_jax.types import Array, Key, LogitsFn, is_known, is_real


def least_likely(logits_fn: LogitsFn, x: Array) -> Array:
    """Returns the least likely class, argmin_k logits_fn(x)_k.

    Args:
      logits_fn: f32[B, *D] -> f32[B, K].
      x: f[B, *D].

    Returns:
      i32[B]; the first of equal classes.

    Raises:
      UserError: logits_fn is no function of x; x or the logits of a wrong shape or dtype; where
        values are known: the logits are not finite.

    Source: [kurakin2017], sec. 2.3.

    >>> least_likely(lambda x: x, jnp.array([[3., 1., 2.]]))
    Array([1], dtype=int32)
    """
    check_function(logits_fn)
    x = as_batch(x)
    with arity("logits_fn", logits_fn, ("x",)):
        given = logits_fn(x)
    logits = checked_logits(given, batch=x.shape[0])
    if is_known(given):
        check_finite(np.asarray(finite_rows(given)), "x")
    return jnp.argmin(logits, axis=1)


def random_other(y: Array, num_classes: int, key: Key) -> Array:
    """Draws for each label one of the other num_classes - 1 classes, uniformly.

    Args:
      y: i32[B], in [0, num_classes).
      num_classes: an integer >= 2.
      key: one key, or key[B], one per row.

    Returns:
      i32[B].

    Raises:
      UserError: num_classes < 2; y has another shape or dtype; key is None or of another shape;
        where values are known: y is not one of the classes.

    >>> random_other(jnp.array([0, 1]), 2, jax.random.key(0))
    Array([1, 0], dtype=int32)
    """
    num_classes = checked_number("num_classes", num_classes, "{2, 3, ...}")
    y = as_classes(y, num_classes, name="y")
    keys = row_keys(key, y.shape[0])
    steps = jax.vmap(lambda key: jax.random.randint(key, (), 1, num_classes, y.dtype))(keys)
    return (y + steps) % num_classes


def next_class(y: Array, num_classes: int) -> Array:
    """Returns the next class, (y + 1) mod num_classes.

    Args:
      y: i32[B], or one class i32[], in [0, num_classes).
      num_classes: an integer >= 2.

    Returns:
      i32[B], or i32[].

    Raises:
      UserError: num_classes < 2; y has another shape or dtype; where values are known: y is not
        one of the classes.

    >>> next_class(jnp.array([0, 9]), 10)
    Array([1, 0], dtype=int32)
    """
    num_classes = checked_number("num_classes", num_classes, "{2, 3, ...}")
    if is_real(y) and not np.ndim(y):  # One class, as inside vmap.
        return next_class(jnp.reshape(y, 1), num_classes)[0]
    return (as_classes(y, num_classes, name="y") + 1) % num_classes
