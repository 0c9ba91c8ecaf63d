"""Virtual adversarial training: cross-entropy plus local smoothness of the prediction."""

import jax
import optax

from adv_jax.objectives.stating import objective
from adv_jax.objectives.terms import accuracy, frozen, log_probs, mean_cross_entropy, unlabeled
from adv_jax.types import Apply, Array, Attack, Aux, Batch, Key, Variables


@objective(ranges={"weight": "[0, inf)"})
def virtual_adversarial_training(
    apply: Apply,
    variables: Variables,
    batch: Batch,
    *,
    key: Key,
    attack: Attack,
    weight: float | Array = 1.0,
) -> tuple[Array, Aux]:
    """Returns J(x, y) + weight * mean KL(p(u) || p(u + r)) over unlabeled u.

    p(u) and r are constants of the update; the attack finds r on the current parameters. Both
    passes on u drop the same units. If all images have labels, unlabeled is x.

    Args:
      apply: the model.
      batch: {"x": f32[B, *D], "y": i32[B], "unlabeled": f32[B, *D]}.
      key: for the attack and the model's noise and dropout, which are off in the attack.
      attack: (logits_fn, u, None, *, key) -> u_adv; the paper uses `virtual_adversarial`.
      weight: of the divergence, >= 0.

    Returns:
      loss f32[] in nats, and (model_state, {"accuracy", "divergence": f32[]}) of this batch. The
      model state is that of the labeled pass.

    Raises:
      UserError: the batch has no unlabeled inputs.

    Source: [miyato2018], eq. 5 to 8; [wardefarley2016], sec. 1.3.1.
    """
    u = unlabeled(batch)
    key_attack, key_labeled, key_unlabeled = jax.random.split(key, 3)
    u_adv = attack(frozen(apply, variables), u, None, key=key_attack)
    logits, _, model_state = apply(variables, batch["x"], train=True, key=key_labeled)
    log_p, log_p_adv = (
        log_probs(apply(variables, inputs, train=True, key=key_unlabeled).logits)
        for inputs in (u, u_adv)
    )
    log_p = jax.lax.stop_gradient(log_p)
    divergence = optax.losses.kl_divergence_with_log_targets(log_p_adv, log_p).mean()
    loss = mean_cross_entropy(logits, batch["y"]) + weight * divergence
    metrics = {"accuracy": accuracy(logits, batch["y"]), "divergence": divergence}
    return loss, (model_state, metrics)
