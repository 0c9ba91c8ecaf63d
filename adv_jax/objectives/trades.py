"""TRADES: cross-entropy on clean examples plus the divergence of predictions under attack."""

import jax
import optax

from adv_jax.losses import as_logits
from adv_jax.objectives.stating import objective
from adv_jax.objectives.terms import accuracy, frozen, log_probs, mean_cross_entropy
from adv_jax.types import Apply, Array, Attack, Aux, Batch, Key, Variables


@objective(ranges={"beta": "[0, inf)"})
def trades(
    apply: Apply,
    variables: Variables,
    batch: Batch,
    *,
    key: Key,
    attack: Attack,
    beta: float | Array = 6.0,
) -> tuple[Array, Aux]:
    """Returns J(x, y) + beta * mean KL(p(x) || p(x + r)).

    r maximizes the divergence on the current parameters and is a constant of the update. The
    attack gets p(x) as labels: its cross-entropy at x + r is the divergence plus the entropy of
    p(x), a constant. Any attack that climbs the cross-entropy therefore climbs the divergence.
    Gradients flow into p(x) too.

    Args:
      apply: the model.
      batch: {"x": f32[B, *D], "y": i32[B]}.
      key: for the attack and the model's noise and dropout, which are off in the attack.
      attack: (logits_fn, x, p f32[B, K], *, key) -> x_adv; needs a random start, as x is a minimum
        of the divergence. The paper uses `pgd`.
      beta: weight of the divergence, 1 / lambda in the paper, >= 0.

    Returns:
      loss f32[] in nats, and (model_state, {"accuracy", "divergence": f32[]}) of this batch. The
      model state is that of the clean pass: batch statistics see clean rows only.

    Raises:
      UserError: as `lwa`; a known beta below 0.

    Source: [zhang2019], Algorithm 1.
    """
    x, y = batch["x"], batch["y"]
    key_attack, key_clean, key_adv = jax.random.split(key, 3)
    attacked = frozen(apply, variables)
    p = jax.nn.softmax(as_logits(attacked(x)))
    x_adv = attack(attacked, x, p, key=key_attack)
    clean, _, model_state = apply(variables, x, train=True, key=key_clean)
    adversarial = apply(variables, x_adv, train=True, key=key_adv).logits
    log_p, log_q = log_probs(clean), log_probs(adversarial)
    divergence = optax.losses.kl_divergence_with_log_targets(log_q, log_p).mean()
    loss = mean_cross_entropy(clean, y) + beta * divergence
    return loss, (model_state, {"accuracy": accuracy(clean, y), "divergence": divergence})
