"""Training on a weighted mix of clean and adversarial examples."""

import jax

from adv_jax.objectives.stating import objective
from adv_jax.objectives.terms import accuracy, frozen, mean_cross_entropy
from adv_jax.types import Apply, Array, Attack, Aux, Batch, Key, Variables


@objective(ranges={"alpha": "[0, 1]"})
def adversarial_mix(
    apply: Apply,
    variables: Variables,
    batch: Batch,
    *,
    key: Key,
    attack: Attack,
    alpha: float | Array = 0.5,
    same_dropout: bool = False,
) -> tuple[Array, Aux]:
    """Returns alpha J(x, y) + (1 - alpha) J(x_adv, y), x_adv crafted on the current parameters.

    No gradient flows through the perturbation.

    Args:
      apply: the model.
      batch: {"x": f32[B, *D], "y": i32[B]}.
      key: for the attack and the model's noise and dropout in both terms.
      attack: (logits_fn, x, y, *, key) -> x_adv.
      alpha: weight of the clean term, in [0, 1].
      same_dropout: the attack's pass drops the same units as the adversarial term; else it drops
        no units.

    Returns:
      loss f32[] in nats, and (model_state, {"accuracy", "adversarial_accuracy": f32[]}) of this
      batch. The model state is that of the clean pass: batch statistics see clean rows only.

    Raises:
      UserError: as `lwa`; a known alpha outside [0, 1].

    Source: [goodfellow2015], sec. 6; the shallow-net thesis, sec. 4.3, alpha .5.
    """
    x, y = batch["x"], batch["y"]
    key_attack, key_clean, key_adv = jax.random.split(key, 3)
    options = {"train": True, "key": key_adv} if same_dropout else {}
    x_adv = attack(frozen(apply, variables, **options), x, y, key=key_attack)
    clean, _, model_state = apply(variables, x, train=True, key=key_clean)
    adversarial = apply(variables, x_adv, train=True, key=key_adv).logits
    loss = alpha * mean_cross_entropy(clean, y) + (1 - alpha) * mean_cross_entropy(adversarial, y)
    metrics = {"accuracy": accuracy(clean, y), "adversarial_accuracy": accuracy(adversarial, y)}
    return loss, (model_state, metrics)
