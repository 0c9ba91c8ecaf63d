"""Learning with a strong adversary: training on perturbed examples alone."""

import jax
import jax.numpy as jnp

from adv_jax import norms
from adv_jax.objectives.stating import objective
from adv_jax.objectives.terms import accuracy, attack_key, frozen, mean_cross_entropy
from adv_jax.types import Apply, Array, Attack, Aux, Batch, Key, Variables


@objective()
def lwa(
    apply: Apply, variables: Variables, batch: Batch, *, key: Key, attack: Attack
) -> tuple[Array, Aux]:
    """Returns J(x + r, y), r the attack's perturbation on the current parameters.

    There is no clean term, and r is a constant of the update (Danskin's theorem). With `pgd` as the
    attack it is PGD adversarial training.

    Args:
      apply: the model.
      batch: {"x": f32[B, *D], "y": i32[B]}.
      key: for the attack and the model's noise and dropout, which are off in the attack.
      attack: (logits_fn, x, y, *, key) -> x_adv.

    Returns:
      loss f32[] in nats, and (model_state, {"adversarial_accuracy": f32[]}) of this batch.

    Raises:
      UserError: the batch lacks x or y; y are no classes of the model; the attack is no function,
        or is targeted; key is no key.

    Sources: [huang2015], Algorithm 2, Prop. 6; [madry2018], sec. 2.1.
    """
    x, y = batch["x"], batch["y"]
    x_adv = attack(frozen(apply, variables), x, y, key=attack_key(key))
    logits, _, model_state = apply(variables, x_adv, train=True, key=key)
    metrics = {"adversarial_accuracy": accuracy(logits, y)}
    return mean_cross_entropy(logits, y), (model_state, metrics)


@objective()
def lwa_rep(
    apply: Apply,
    variables: Variables,
    batch: Batch,
    *,
    key: Key,
    attack: Attack,
    layer: int,
    relative: bool = False,
) -> tuple[Array, Aux]:
    """Returns J(h + r, y), with h the activations of a hidden layer and r the attack's
    perturbation of h.

    r is a constant of the update: the layers below learn from the gradient at h + r.

    Args:
      apply: a model with the methods `represent` and `classify`, as `models.mlp`.
      batch: {"x": f32[B, *D], "y": i32[B]}.
      key: for the attack and the model's noise and dropout, which are off in the attack.
      attack: (logits_fn, h, y, *, key) -> h_adv, in units of h.
      layer: the hidden layer to perturb, counted from 1.
      relative: attack h / ||h||_2 instead, so that eps is in units of each row's ||h||_2. Training
        can make a fixed radius ineffective by larger activations.

    Returns:
      loss f32[] in nats, and (model_state, {"adversarial_accuracy": f32[]}) of this batch.

    Raises:
      UserError: the model has no such layer.

    Source: [huang2015], Algorithm 3 (line 10 prints "update both N_cla"; lines 11 and 12
    mean the Jacobian of the lower half at its input). `relative` is from the authors' program for
    CIFAR-10.
    """
    x, y = batch["x"], batch["y"]
    h = apply(variables, x, train=True, key=key, method="represent", layer=layer)
    fixed = jax.lax.stop_gradient(h.logits)
    unit = norms.norm(fixed, "l2") if relative else 1.0
    unit = norms.per_row("unit", unit, fixed).astype(fixed.dtype)
    point = fixed / jnp.where(unit > 0, unit, 1)
    classify = frozen(apply, variables, layer=layer, method="classify")
    attacked = attack(lambda point: classify(unit * point), point, y, key=attack_key(key))
    r = unit * (attacked - point)
    # The upper half's model state includes the lower half's.
    variables = {**variables, **h.model_state}
    logits, _, model_state = apply(
        variables, h.logits + r, train=True, key=key, method="classify", layer=layer
    )
    metrics = {"adversarial_accuracy": accuracy(logits, y)}
    return mean_cross_entropy(logits, y), (model_state, metrics)
