"""Defensive distillation: a student learns a teacher's probabilities at a temperature.

Both are tested at temperature 1.
"""

import jax
import jax.numpy as jnp
import optax

from adv_jax.checks import check_function, check_logits
from adv_jax.losses import as_logits, cross_entropy
from adv_jax.objectives.stating import objective
from adv_jax.objectives.terms import accuracy
from adv_jax.types import Apply, Array, Aux, Batch, Key, LogitsFn, UserError, Variables


@objective(ranges={"temperature": "(0, inf)"})
def tempered_cross_entropy(
    apply: Apply,
    variables: Variables,
    batch: Batch,
    *,
    key: Key,
    temperature: float | Array,
) -> tuple[Array, Aux]:
    """Returns the teacher's loss, the cross-entropy -log softmax(logits / T)_y.

    Args:
      apply: the model.
      batch: {"x": f32[B, *D], "y": i32[B]}.
      key: for the model's noise and dropout.
      temperature: T > 0.

    Returns:
      loss f32[] in nats, and (model_state, {"accuracy": f32[]}) of this batch.

    Raises:
      UserError: a known temperature <= 0.

    Source: [papernot2015]; [wardefarley2016], sec. 1.2.7 (without T).
    """
    logits, _, model_state = apply(variables, batch["x"], train=True, key=key)
    loss = cross_entropy(as_logits(logits) / temperature, batch["y"]).mean()
    return loss, (model_state, {"accuracy": accuracy(logits, batch["y"])})


@objective(ranges={"temperature": "(0, inf)"})
def distillation(
    apply: Apply,
    variables: Variables,
    batch: Batch,
    *,
    key: Key,
    teacher_fn: LogitsFn,
    temperature: float | Array,
) -> tuple[Array, Aux]:
    """Returns KL(p_teacher || p_student), both p = softmax(logits / T).

    The labels are used only for the accuracy. The gradient by the student's logits is
    (p_student - p_teacher) / T; as in the source, it is not rescaled by T.

    Args:
      apply: the student.
      batch: {"x": f32[B, *D], "y": i32[B]}.
      key: for the student's noise and dropout.
      teacher_fn: f32[B, *D] -> logits f32[B, K] of a model trained by `tempered_cross_entropy` at
        the same temperature; detached.
      temperature: T > 0.

    Returns:
      loss f32[] in nats, and (model_state, {"accuracy": f32[]}) of this batch.

    Raises:
      UserError: the teacher is no function of x alone, or returns no logits; a known temperature
        <= 0; the teacher has another number of classes.

    Source: [papernot2015]; [wardefarley2016], sec. 1.2.7 (without T).
    """
    check_function(teacher_fn, name="teacher_fn")
    taught = jax.lax.stop_gradient(teacher_fn(jnp.asarray(batch["x"])))
    check_logits(taught, batch=len(batch["x"]), name="teacher_fn")
    logits, _, model_state = apply(variables, batch["x"], train=True, key=key)
    if taught.shape != logits.shape:
        raise UserError(
            f"teacher_fn must have the student's {logits.shape[1]} classes, got {taught.shape[1]}"
        )
    log_teacher, log_student = (
        jax.nn.log_softmax(as_logits(values) / temperature) for values in (taught, logits)
    )
    loss = optax.losses.kl_divergence_with_log_targets(log_student, log_teacher).mean()
    return loss, (model_state, {"accuracy": accuracy(logits, batch["y"])})
