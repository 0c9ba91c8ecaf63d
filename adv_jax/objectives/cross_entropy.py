"""The plain classification losses."""

import jax
import jax.numpy as jnp

from adv_jax.losses import as_labels, as_logits, classes, loss_fn
from adv_jax.objectives.stating import objective
from adv_jax.types import Apply, Array, Aux, Batch, Key, UserError, Variables


@objective()
def cross_entropy(
    apply: Apply, variables: Variables, batch: Batch, *, key: Key, loss: str = "cross_entropy"
) -> tuple[Array, Aux]:
    """Returns the mean loss over the batch, without an attack.

    Args:
      apply: the model.
      batch: {"x": f32[B, *D], "y": i32[B], or class weights f32[B, K]}.
      key: for the model's noise and dropout.
      loss: a name in `losses.LOSSES`: "cross_entropy" of a softmax, or "binary_cross_entropy" or
        "squared_error" of K logistic outputs.

    Returns:
      loss f32[], and (model_state, {"accuracy": f32[]}) of this batch.

    Raises:
      UserError: unknown loss.

    Sources: [nokland2015] (logistic outputs); the shallow-net thesis, sec. 2.4 (squared error).
    """
    logits, _, model_state = apply(variables, batch["x"], train=True, key=key)
    value = loss_fn(loss)(logits, batch["y"]).mean()
    return value, (model_state, {"accuracy": accuracy(logits, batch["y"])})


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
    return loss_fn("cross_entropy")(logits, labels).mean()


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
