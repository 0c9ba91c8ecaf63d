"""MART: adversarial training that weighs the divergence by the errors on clean examples."""

import jax
import jax.numpy as jnp
import optax

from adv_jax.losses import classes, log_odds
from adv_jax.objectives.stating import objective
from adv_jax.objectives.terms import accuracy, frozen, log_probs, mean_cross_entropy
from adv_jax.types import Apply, Array, Attack, Aux, Batch, Key, Variables


@objective(ranges={"beta": "[0, inf)"})
def mart(
    apply: Apply,
    variables: Variables,
    batch: Batch,
    *,
    key: Key,
    attack: Attack,
    beta: float | Array = 6.0,
) -> tuple[Array, Aux]:
    """Returns BCE(x + r, y) + beta * mean (1 - p_y(x)) KL(p(x) || p(x + r)).

    BCE is the boosted cross-entropy -log p_y - log(1 - max_{k != y} p_k), r a constant of the
    update. Gradients flow into p(x) and its weight too.

    Args:
      apply: the model.
      batch: {"x": f32[B, *D], "y": i32[B]}.
      key: for the attack and the model's noise and dropout, which are off in the attack.
      attack: (logits_fn, x, y, *, key) -> x_adv; the paper uses `pgd`.
      beta: weight of the divergence, lambda in the paper, >= 0.

    Returns:
      loss f32[] in nats, and (model_state, {"accuracy", "adversarial_accuracy", "divergence":
      f32[]}) of this batch, the divergence weighted. The model state is that of the clean pass:
      batch statistics see clean rows only.

    Raises:
      UserError: as `lwa`; a known beta below 0.

    Source: [wang2020], sec. 3.3, and its public program.
    """
    x, y = batch["x"], batch["y"]
    key_attack, key_clean, key_adv = jax.random.split(key, 3)
    x_adv = attack(frozen(apply, variables), x, y, key=key_attack)
    clean, _, model_state = apply(variables, x, train=True, key=key_clean)
    adversarial = apply(variables, x_adv, train=True, key=key_adv).logits
    log_p, log_q = log_probs(clean), log_probs(adversarial)
    rows = optax.losses.kl_divergence_with_log_targets(log_q, log_p)
    divergence = jnp.mean(jax.nn.sigmoid(log_odds(clean, y)) * rows)
    loss = mean_cross_entropy(adversarial, y) + _rival_loss(adversarial, y) + beta * divergence
    metrics = {
        "accuracy": accuracy(clean, y),
        "adversarial_accuracy": accuracy(adversarial, y),
        "divergence": divergence,
    }
    return loss, (model_state, metrics)


def _rival_loss(logits: Array, y: Array) -> Array:
    """Returns the mean -log(1 - p_k) of the most probable class k other than y: f32[] in nats."""
    is_label = jax.nn.one_hot(classes(y), logits.shape[1], dtype=bool)
    rival = jnp.argmax(jnp.where(is_label, -jnp.inf, logits), axis=1)
    return jax.nn.softplus(-log_odds(logits, rival)).mean()
