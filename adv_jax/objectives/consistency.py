"""Adversarial training with consistent predictions on two augmentations of an image."""

import math

import jax
import jax.numpy as jnp
import optax

from adv_jax.losses import as_logits
from adv_jax.objectives.stating import objective
from adv_jax.objectives.terms import accuracy, attack_key, frozen, mean_cross_entropy
from adv_jax.types import Apply, Array, Attack, Aux, Batch, Key, UserError, Variables, described


@objective(ranges={"weight": "[0, inf)", "temperature": "(0, inf)"})
def consistency(
    apply: Apply,
    variables: Variables,
    batch: Batch,
    *,
    key: Key,
    attack: Attack,
    weight: float | Array = 1.0,
    temperature: float | Array = 0.5,
) -> tuple[Array, Aux]:
    """Returns J(x + r, y) over two augmentations x_1, x_2, plus weight * mean JS(p_1 || p_2).

    p_i = softmax(logits(x_i + r_i) / temperature), and JS is the Jensen-Shannon divergence, the
    mean of KL(p_1 || m) and KL(p_2 || m) with m = (p_1 + p_2) / 2. No gradient flows through r.

    Args:
      apply: the model.
      batch: {"x", "second": f32[B, *D], "y": i32[B]}; "second" is another augmentation of x.
      key: for the attack and the model's noise and dropout, which are off in the attack.
      attack: (logits_fn, x, y, *, key) -> x_adv.
      weight: of the divergence, >= 0; 1 in [tack2022].
      temperature: > 0; .5 in [tack2022].

    Returns:
      loss f32[] in nats, and (model_state, {"adversarial_accuracy", "divergence": f32[]}) of this
      batch. One pass over both augmentations makes the model state.

    Raises:
      UserError: the batch has no second augmentation, or one of another shape.

    Source: [tack2022], and the settings of their program.
    """
    if "second" not in batch:
        raise UserError(
            "batch must have second, another augmentation of x (in a config, by settings of data "
            f"such as data.mirror), got {', '.join(batch)}"
        )
    first, second, labels = (jnp.asarray(batch[name]) for name in ("x", "second", "y"))
    if second.shape != first.shape:
        raise UserError(f"second must be like x, {described(first)}, got {described(second)}")
    x, y = jnp.concatenate([first, second]), jnp.concatenate([labels, labels])
    x_adv = attack(frozen(apply, variables), x, y, key=attack_key(key))
    logits, _, model_state = apply(variables, x_adv, train=True, key=key)
    log_p = jnp.stack(jnp.split(jax.nn.log_softmax(as_logits(logits) / temperature), 2))
    log_m = jnp.logaddexp(*log_p) - math.log(2)
    divergence = optax.losses.kl_divergence_with_log_targets(jnp.stack([log_m] * 2), log_p).mean()
    metrics = {"adversarial_accuracy": accuracy(logits, y), "divergence": divergence}
    return mean_cross_entropy(logits, y) + weight * divergence, (model_state, metrics)
