"""The plain classification losses."""

import jax
import jax.numpy as jnp

from adv_jax.losses import loss_fn
from adv_jax.types import Apply, Array, Aux, Batch, Key, Variables


def cross_entropy(
    apply: Apply, variables: Variables, batch: Batch, *, key: Key, loss: str = "cross_entropy"
) -> tuple[Array, Aux]:
    """J(x, y) = mean of -log p(y | x) over the batch: plain back-propagation.

    Args:
      apply: the model.
      batch: {"x": f32[B, *D], "y": i32[B]}.
      key: of the model's noise and dropout.
      loss: -log p, a name of `losses.LOSSES`: "cross_entropy" of a softmax, or
        "binary_cross_entropy" of K logistic outputs.

    Returns:
      loss f32[] in nats, and the model state and {"accuracy": f32[]} of this batch.

    Raises:
      ValueError: an unknown loss.
    """
    logits, _, model_state = apply(variables, batch["x"], train=True, key=key)
    value = loss_fn(loss)(logits, batch["y"]).mean()
    return value, (model_state, {"accuracy": accuracy(logits, batch["y"])})


def attack_key(key: Key) -> Key:
    """Of an attack in the step with `key`, which itself stays that of the model.

    So a perturbation of size 0 leaves plain training, with the same units dropped.
    """
    return jax.random.fold_in(key, 1)


def unlabelled(batch: Batch) -> Array:
    """The inputs without labels of a batch: f32[B, *D].

    Raises:
      ValueError: there are none.
    """
    if "unlabelled" not in batch:
        raise ValueError(f"batch has {', '.join(batch)}; allowed is one that has unlabelled too")
    return batch["unlabelled"]


def mean_cross_entropy(logits: Array, labels: Array) -> Array:
    """Logits f32[B, K], labels i32[B] -> f32[], in nats."""
    return loss_fn("cross_entropy")(logits, labels).mean()


def accuracy(logits: Array, labels: Array) -> Array:
    """Logits f32[B, K], labels i32[B] -> share of rows whose largest logit is the label's."""
    return jnp.mean(jnp.argmax(jax.lax.stop_gradient(logits), axis=1) == labels)
