"""What several objectives share: the attacked model, keys, terms of a loss, and the accuracy."""

from typing import Any

import jax
import jax.numpy as jnp

from adv_jax.losses import as_labels, as_logits, classes, cross_entropy
from adv_jax.types import Apply, Array, Batch, Key, LogitsFn, UserError, Variables


def frozen(apply: Apply, variables: Variables, **options: Any) -> LogitsFn:
    """Returns the model as an attack gets it: x -> logits, its variables constant.

    Args:
      options: keywords of apply, such as train.
    """
    fixed = jax.lax.stop_gradient(variables)
    return lambda x: apply(fixed, x, **options).logits


def attack_key(key: Key) -> Key:
    """Returns the attack's key for a step with `key`.

    The model keeps `key`: with eps = 0 the same units are dropped as in plain training.
    """
    return jax.random.fold_in(key, 1)


def unlabeled(batch: Batch) -> Array:
    """Returns the unlabeled inputs of a batch: f32[B, *D].

    Raises:
      UserError: the batch has no unlabeled inputs.
    """
    if "unlabeled" not in batch:
        raise UserError(f"batch must have unlabeled, got {', '.join(batch)}")
    return batch["unlabeled"]


def mean_cross_entropy(logits: Array, labels: Array) -> Array:
    """Returns the mean cross-entropy f32[] of f32[B, K] and labels i32[B] or f32[B, K], in nats."""
    return cross_entropy(logits, labels).mean()


def log_probs(logits: Array) -> Array:
    """Returns log softmax(logits), f32[B, K] whatever the model computes in."""
    return jax.nn.log_softmax(as_logits(logits))


def accuracy(logits: Array, labels: Array) -> Array:
    """Returns the share of rows of logits f32[B, K] whose largest logit is at the label.

    The label of weights f32[B, K], as those of mixup, is the class of the largest weight.
    """
    labels = classes(as_labels(labels, logits))
    found = jnp.argmax(jax.lax.stop_gradient(logits), axis=1)
    return jnp.mean(found.astype(labels.dtype) == labels)
