"""Target classes i32[B] for targeted attacks."""

import jax
import jax.numpy as jnp

from adv_jax.checks import as_batch, checked_logits, checked_number
from adv_jax.random import row_keys
from adv_jax.types import Array, Key, LogitsFn


def least_likely(logits_fn: LogitsFn, x: Array) -> Array:
    """Returns the least likely class, argmin_k logits_fn(x)_k.

    Args:
      logits_fn: f32[B, *D] -> f32[B, K].
      x: f[B, *D].

    Returns:
      i32[B]; the first of equal classes.

    Raises:
      UserError: x or the logits of a wrong shape or dtype.

    Source: [kurakin2017], sec. 2.3.

    >>> least_likely(lambda x: x, jnp.array([[3., 1., 2.]]))
    Array([1], dtype=int32)
    """
    x = as_batch(x)
    return jnp.argmin(checked_logits(logits_fn(x), batch=x.shape[0]), axis=1)


def random_other(y: Array, num_classes: int, key: Key) -> Array:
    """Draws for each label one of the other num_classes - 1 classes, uniformly.

    Args:
      y: i32[B], in [0, num_classes).
      num_classes: an integer >= 2.
      key: one key, or key[B], one per row.

    Returns:
      i32[B].

    Raises:
      UserError: num_classes < 2; key is None or of another shape.

    >>> random_other(jnp.array([0, 1]), 2, jax.random.key(0))
    Array([1, 0], dtype=int32)
    """
    num_classes = checked_number("num_classes", num_classes, "{2, 3, ...}")
    keys = row_keys(key, y.shape[0])
    steps = jax.vmap(lambda key: jax.random.randint(key, (), 1, num_classes, y.dtype))(keys)
    return (y + steps) % num_classes


def next_class(y: Array, num_classes: int) -> Array:
    """Returns the next class, (y + 1) mod num_classes.

    Args:
      y: i32[B], in [0, num_classes).
      num_classes: an integer >= 2.

    Returns:
      i32[B].

    Raises:
      UserError: num_classes < 2.

    >>> next_class(jnp.array([0, 9]), 10)
    Array([1, 0], dtype=int32)
    """
    num_classes = checked_number("num_classes", num_classes, "{2, 3, ...}")
    return (y + 1) % num_classes
