"""Classification losses by name, averaged over a batch."""

import jax
import optax

from adv_jax.types import Array


def _binary_cross_entropy(logits: Array, labels: Array) -> Array:
    targets = jax.nn.one_hot(labels, logits.shape[1], dtype=logits.dtype)
    return optax.sigmoid_binary_cross_entropy(logits, targets).sum(axis=1)


LOSSES = {
    "cross_entropy": optax.softmax_cross_entropy_with_integer_labels,
    # K logistic outputs, each a yes or no of its own: -sum_k [t_k ln y_k + (1 - t_k) ln(1 - y_k)].
    "binary_cross_entropy": _binary_cross_entropy,
}


def mean_loss(name: str, logits: Array, labels: Array) -> Array:
    """Logits f32[B, K], labels i32[B] -> f32[], in nats.

    Raises:
      ValueError: an unknown name.
    """
    if name not in LOSSES:
        raise ValueError(f"loss is {name!r}; allowed are {', '.join(LOSSES)}")
    return LOSSES[name](logits, labels).mean()
