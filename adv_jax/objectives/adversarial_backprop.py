"""Adversarial back-propagation: training on perturbed examples alone."""

from adv_jax.losses import loss_fn
from adv_jax.objectives.stating import objective
from adv_jax.objectives.terms import accuracy, attack_key, frozen
from adv_jax.types import Apply, Array, Attack, Aux, Batch, Key, Variables


@objective()
def adversarial_backprop(
    apply: Apply,
    variables: Variables,
    batch: Batch,
    *,
    key: Key,
    attack: Attack,
    loss: str = "binary_cross_entropy",
    same_dropout: bool = True,
) -> tuple[Array, Aux]:
    """Returns J(x + mu, y), mu = eps sign(grad_x J(x, y)), a constant of the update.

    Args:
      apply: the model.
      batch: {"x": f32[B, *D], "y": i32[B]}.
      key: for the attack and the model's noise and dropout.
      attack: (logits_fn, x, y, *, key) -> x_adv; the paper uses fgsm with the same `loss`.
      loss: J, a name in `losses.LOSSES`; "binary_cross_entropy" for the ten logistic outputs of
        the paper's MNIST nets.
      same_dropout: the attack's pass drops the same units as the training pass; else it drops no
        units. The paper leaves this open.

    Returns:
      loss f32[] in nats, and (model_state, {"adversarial_accuracy": f32[]}) of this batch.

    Raises:
      UserError: unknown loss.

    Source: [nokland2015], eq. 1 and 2, the algorithm of sec. 2.
    """
    x, y = batch["x"], batch["y"]
    attacked = frozen(apply, variables, train=same_dropout, key=key)
    x_adv = attack(attacked, x, y, key=attack_key(key))
    logits, _, model_state = apply(variables, x_adv, train=True, key=key)
    metrics = {"adversarial_accuracy": accuracy(logits, y)}
    return loss_fn(loss)(logits, y).mean(), (model_state, metrics)
