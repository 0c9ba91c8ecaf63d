"""Classification losses by name: rows of logits and labels -> a loss for each row.

Labels are classes i32[B] or weights of the classes f32[B, K]; losses are f32[B], in nats.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from adv_jax.types import Array

RowLoss = Callable[[Array, Array], Array]


def cross_entropy(logits: Array, labels: Array) -> Array:
    """-sum_k t_k log softmax(logits)_k.

    Of classes, its gradient keeps its direction however sure the logits are of them: p_y - 1 would
    be 0 in float32 from a margin of 16.6 nats on, and what is left of the other terms may point
    the other way.
    """
    if labels.ndim == 2:
        return optax.softmax_cross_entropy(logits, labels)
    true = jax.nn.one_hot(labels, logits.shape[1], dtype=bool)
    others = jax.nn.logsumexp(jnp.where(true, -jnp.inf, logits), axis=1)
    return jax.nn.softplus(others - jnp.where(true, logits, 0).sum(axis=1))


def binary_cross_entropy(logits: Array, labels: Array) -> Array:
    """-sum_k [t_k log s_k + (1 - t_k) log(1 - s_k)], s = sigmoid(logits): K logistic outputs."""
    if labels.ndim == 1:
        labels = jax.nn.one_hot(labels, logits.shape[1], dtype=logits.dtype)
    return optax.sigmoid_binary_cross_entropy(logits, labels).sum(axis=1)


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
