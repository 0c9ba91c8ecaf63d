"""A denoising autoencoder whose noise may be adversarial."""

import jax
import jax.numpy as jnp

from adv_jax.objectives.stating import objective
from adv_jax.objectives.terms import accuracy, frozen
from adv_jax.types import (
    Apply,
    Array,
    Attack,
    Aux,
    Batch,
    Key,
    UserError,
    Variables,
    described,
    working_dtype,
)


@objective()
def denoising(
    apply: Apply, variables: Variables, batch: Batch, *, key: Key, attack: Attack
) -> tuple[Array, Aux]:
    """Returns |d(x_adv) - x|^2, the mean over rows and values.

    Args:
      apply: a `models.denoised`, the autoencoder d in front of a trained classifier.
      batch: {"x": f32[B, *D], "y": i32[B]}.
      key: for the attack and the model's dropout.
      attack: (logits_fn, x, y, *, key) -> x_adv; logits_fn is the classifier on d(x). The source
        uses `transferred` from the classifier alone, or Gaussian noise.

    Returns:
      loss f32[] in squared units of x, and (model_state, {"adversarial_accuracy": f32[]}), the
      accuracy of the classifier on d(x_adv).

    Raises:
      UserError: as `lwa`; the model has no extra "denoised".

    Sources: [gu2014], sec. 3; [wardefarley2016], sec. 1.2.7.
    """
    x, y = batch["x"], batch["y"]
    key_attack, key_pass = jax.random.split(key)
    x_adv = attack(frozen(apply, variables), x, y, key=key_attack)
    logits, extras, model_state = apply(variables, x_adv, train=True, key=key_pass)
    if "denoised" not in extras:
        allowed = "return (logits, extras) with extras['denoised'], as models.denoised does"
        raise UserError(f"model must {allowed}, got extras {described(dict(extras))}")
    square = jnp.square(extras["denoised"] - x)
    loss = jnp.mean(square, dtype=working_dtype(square.dtype))
    return loss, (model_state, {"adversarial_accuracy": accuracy(logits, y)})
