"""The plain classification losses."""

from adv_jax.losses import loss_fn
from adv_jax.objectives.stating import objective
from adv_jax.objectives.terms import accuracy
from adv_jax.types import Apply, Array, Aux, Batch, Key, Variables


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
