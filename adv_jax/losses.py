"""Classification losses by name: rows of logits and labels -> a loss for each row.

Logits are f32[B, K], labels classes i32[B] or weights of the classes f32[B, K]; losses are f32[B],
in nats. Other shapes and types, which might broadcast, are refused with a ValueError.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from adv_jax import norms
from adv_jax.types import Array

RowLoss = Callable[[Array, Array], Array]


def cross_entropy(logits: Array, labels: Array) -> Array:
    """-sum_k t_k log softmax(logits)_k.

    Its gradient keeps its direction however sure the logits are of a label, a class or one-hot
    weights alike: p_y - 1 would be 0 in float32 from a margin of 16.6 nats on, and the rounding of
    the other terms may point the other way.
    """
    labels = checked_labels(labels, logits)
    if labels.ndim == 1:
        return jax.nn.softplus(log_odds(logits, labels))
    # The likeliest class alone has a p_k that rounds to 1.
    top = jnp.argmax(logits, axis=1)
    is_top = jax.nn.one_hot(top, logits.shape[1], dtype=bool)
    sure = jax.nn.softplus(log_odds(logits, top))
    others = jnp.where(is_top | (labels == 0), 0, jax.nn.log_softmax(logits))
    return jnp.where(is_top, labels, 0).sum(axis=1) * sure - (labels * others).sum(axis=1)


def log_odds(logits: Array, labels: Array) -> Array:
    """log((1 - p_y) / p_y) = logsumexp of the other logits - the label's, with classes i32[B].

    Climbing it is climbing the cross-entropy, softplus(log odds), whose slope underflows from a
    margin of 87 nats on; this one has a slope of 1 everywhere.
    """
    true = jax.nn.one_hot(labels, logits.shape[1], dtype=bool)
    others = jax.nn.logsumexp(jnp.where(true, -jnp.inf, logits), axis=1)
    return others - jnp.where(true, logits, 0).sum(axis=1)


def binary_cross_entropy(logits: Array, labels: Array) -> Array:
    """-sum_k [t_k log s_k + (1 - t_k) log(1 - s_k)], s = sigmoid(logits): K logistic outputs."""
    labels = checked_labels(labels, logits)
    if labels.ndim == 1:
        labels = jax.nn.one_hot(labels, logits.shape[1], dtype=logits.dtype)
    return optax.sigmoid_binary_cross_entropy(logits, labels).sum(axis=1)


def checked_labels(labels: Array, logits: Array, *, name: str = "labels") -> Array:
    """Labels as a JAX array, by shape and type alone, so that compiled code has nothing to check.

    Args:
      labels: i32[B], or f32[B, K] like the logits; called `name`.

    Raises:
      ValueError: another shape or type.
    """
    if np.ndim(logits) != 2:
        raise ValueError(f"logits must be f32[B, K], got {norms.described(logits)}")
    batch, count = logits.shape
    if norms.is_real(labels):
        array = jnp.asarray(labels)
        integers = array.shape == (batch,) and jnp.issubdtype(array.dtype, jnp.integer)
        weights = array.shape == (batch, count) and jnp.issubdtype(array.dtype, jnp.floating)
        if integers or weights:
            return array
    raise ValueError(
        f"{name} must be integers i32[B] or probabilities f32[B, K] with B = {batch}, K = {count}, "
        f"got {norms.described(labels)}"
    )


LOSSES: dict[str, RowLoss] = {
    "binary_cross_entropy": binary_cross_entropy,
    "cross_entropy": cross_entropy,
}


def loss_fn(name: str) -> RowLoss:
    """The loss of that name.

    Raises:
      ValueError: the name is not one of LOSSES.
    """
    if name not in LOSSES:
        raise ValueError(f"loss is {name!r}; allowed are {', '.join(LOSSES)}")
    return LOSSES[name]
