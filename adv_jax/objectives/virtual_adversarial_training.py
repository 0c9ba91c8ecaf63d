"""Virtual adversarial training: a prediction should not depend on small perturbations."""

from functools import partial

import jax
import optax

from adv_jax.objectives.cross_entropy import accuracy, mean_cross_entropy, unlabelled
from adv_jax.types import Apply, Array, Attack, Aux, Batch, Key, Variables


def virtual_adversarial_training(
    apply: Apply,
    variables: Variables,
    batch: Batch,
    *,
    key: Key,
    attack: Attack,
    weight: float | Array = 1.0,
) -> tuple[Array, Aux]:
    """J(x, y) + weight * mean KL(p(u) || p(u + r)) over unlabelled u.

    p(u) is a constant, as is r, which the attack finds on the present parameters without labels.
    Both passes drop the same units, so that they differ by r alone. With all images labelled the
    u are the x, and the training is supervised.

    Args:
      apply: the model.
      batch: {"x": f32[B, *D], "y": i32[B], "unlabelled": f32[B, *D]}.
      key: of the attack and of the model's noise and dropout, which the attack does not see.
      attack: (logits_fn, u, None, *, key) -> u_adv, Miyato's being `virtual_adversarial`.
      weight: of the divergence, >= 0.

    Returns:
      loss f32[] in nats, and the model state of the labelled pass with {"accuracy", "divergence":
      f32[]} of this batch.

    Raises:
      ValueError: the batch has no unlabelled inputs.

    Source: [miyato2018], eq. 5 to 8; [wardefarley2016], sec. 1.3.1.
    """
    u = unlabelled(batch)
    key_attack, key_labelled, key_unlabelled = jax.random.split(key, 3)
    frozen = partial(apply, jax.lax.stop_gradient(variables))
    u_adv = attack(lambda u: frozen(u).logits, u, None, key=key_attack)
    logits, _, model_state = apply(variables, batch["x"], train=True, key=key_labelled)
    log_p, log_p_adv = (
        jax.nn.log_softmax(apply(variables, inputs, train=True, key=key_unlabelled).logits)
        for inputs in (u, u_adv)
    )
    log_p = jax.lax.stop_gradient(log_p)
    divergence = optax.losses.kl_divergence_with_log_targets(log_p_adv, log_p).mean()
    loss = mean_cross_entropy(logits, batch["y"]) + weight * divergence
    metrics = {"accuracy": accuracy(logits, batch["y"]), "divergence": divergence}
    return loss, (model_state, metrics)
