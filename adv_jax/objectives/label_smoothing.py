"""Label smoothing."""

import jax
import jax.numpy as jnp
import numpy as np

from adv_jax.losses import as_weights, cross_entropy
from adv_jax.objectives.stating import objective
from adv_jax.objectives.terms import accuracy
from adv_jax.ranges import ranged
from adv_jax.types import Apply, Array, Aux, Batch, Key, Variables, check_choice, working_dtype

FORMS = ("printed", "uniform", "others")
SMOOTHING = "[0, 1]"


@objective(ranges={"smoothing": SMOOTHING})
def label_smoothing(
    apply: Apply,
    variables: Variables,
    batch: Batch,
    *,
    key: Key,
    smoothing: float | Array = 0.1,
    form: str = "printed",
) -> tuple[Array, Aux]:
    """Returns the cross-entropy with smoothed targets, -sum_k t_k log p(k | x).

    Args:
      apply: the model.
      batch: {"x": f32[B, *D], "y": i32[B], or class weights f32[B, K]}.
      key: for the model's noise and dropout.
      smoothing: weight taken from the correct class, in [0, 1].
      form: as in `smoothed_targets`.

    Returns:
      loss f32[] in nats, and (model_state, {"accuracy": f32[]}) of this batch.

    Raises:
      UserError: unknown form.

    Source: [wardefarley2016], sec. 1.2.7.
    """
    logits, _, model_state = apply(variables, batch["x"], train=True, key=key)
    targets = smoothed_targets(batch["y"], logits.shape[1], smoothing=smoothing, form=form)
    loss = cross_entropy(logits, targets.astype(working_dtype(logits.dtype))).mean()
    return loss, (model_state, {"accuracy": accuracy(logits, batch["y"])})


@ranged(smoothing=SMOOTHING, num_classes="{2, 3, ...}")
def smoothed_targets(
    labels: Array, num_classes: int, *, smoothing: float | Array, form: str
) -> Array:
    """Returns class weights f32[B, K] (f64 under x64) of labels i32[B]; with s = smoothing:

        form     correct       others
        printed  1 - s         s / K         as printed in the source; the sum is 1 - s / K
        uniform  1 - s + s/K   s / K         spreads s over all classes
        others   1 - s         s / (K - 1)   spreads s over the other classes

    Args:
      labels: i32[B], or class weights f32[B, K], which are smoothed each, as those of mixup.
      num_classes: K >= 2.
      smoothing: s, in [0, 1].
      form: "printed", "uniform" or "others".

    Raises:
      UserError: unknown form; smoothing or num_classes is out of range; as `losses.as_labels`.

    Source: [wardefarley2016], sec. 1.2.7 ("printed").

    >>> smoothed_targets(jnp.array([1]), 2, smoothing=.2, form="printed")
    Array([[0.1, 0.8]], dtype=float32)
    """
    check_choice("form", form, FORMS)
    logits = jax.ShapeDtypeStruct((*np.shape(labels)[:1], num_classes), jnp.float32)
    weights = as_weights(labels, logits).astype(float)
    other = smoothing / (num_classes - 1 if form == "others" else num_classes)
    correct = 1 - smoothing + (other if form == "uniform" else 0)
    return weights * correct + (weights.sum(axis=1, keepdims=True) - weights) * other
