"""Defensive distillation: a student that learns a teacher's probabilities at a temperature.

The model is tested on its logits as they are, at temperature 1.
"""

import jax
import numpy as np
import optax

from adv_jax.losses import cross_entropy
from adv_jax.objectives.cross_entropy import accuracy
from adv_jax.types import Apply, Array, Aux, Batch, Key, LogitsFn, Variables


def teaching(
    apply: Apply,
    variables: Variables,
    batch: Batch,
    *,
    key: Key,
    temperature: float | Array,
) -> tuple[Array, Aux]:
    """How a teacher is trained: J at temperature T, -log softmax(logits / T)_y.

    Args:
      apply: the model.
      batch: {"x": f32[B, *D], "y": i32[B]}.
      key: of the model's noise and dropout.
      temperature: T > 0.

    Returns:
      loss f32[] in nats, and the model state and {"accuracy": f32[]} of this batch.

    Raises:
      ValueError: a temperature that is not positive.

    Source: [papernot2015]; [wardefarley2016], sec. 1.2.7 (without T).
    """
    _check_temperature(temperature)
    logits, _, model_state = apply(variables, batch["x"], train=True, key=key)
    loss = cross_entropy(logits / temperature, batch["y"]).mean()
    return loss, (model_state, {"accuracy": accuracy(logits, batch["y"])})


def distillation(
    apply: Apply,
    variables: Variables,
    batch: Batch,
    *,
    key: Key,
    teacher_fn: LogitsFn,
    temperature: float | Array,
) -> tuple[Array, Aux]:
    """KL(p_t || p_s), both at temperature T: p = softmax(logits / T).

    The labels are not used but for the accuracy. The gradient by the student's logits is
    (p_s - p_t) / T, as in the source: nothing makes up for the T.

    Args:
      apply: the student.
      batch: {"x": f32[B, *D], "y": i32[B]}.
      key: of the student's noise and dropout.
      teacher_fn: f32[B, *D] -> f32[B, K], logits of a model that was trained by `teaching` at the
        same temperature; a constant.
      temperature: T > 0.

    Returns:
      loss f32[] in nats, and the model state and {"accuracy": f32[]} of this batch.

    Raises:
      ValueError: a temperature that is not positive; a teacher of other classes.

    Source: [papernot2015]; [wardefarley2016], sec. 1.2.7 (without T).
    """
    _check_temperature(temperature)
    taught = jax.lax.stop_gradient(teacher_fn(batch["x"]))
    logits, _, model_state = apply(variables, batch["x"], train=True, key=key)
    if taught.shape != logits.shape:
        raise ValueError(
            f"objective.teacher_fn has {taught.shape[1]} classes; allowed are {logits.shape[1]}, "
            "those of the student"
        )
    log_teacher, log_student = (
        jax.nn.log_softmax(values / temperature) for values in (taught, logits)
    )
    loss = optax.losses.kl_divergence_with_log_targets(log_student, log_teacher).mean()
    return loss, (model_state, {"accuracy": accuracy(logits, batch["y"])})


def _check_temperature(temperature: float | Array) -> None:
    if not isinstance(temperature, jax.core.Tracer) and not np.all(temperature > 0):
        raise ValueError(f"temperature is {temperature}; allowed are numbers above 0")
