"""The ladder network's cost, with adversarial noise on either half of its input."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp

from adv_jax.objectives.cross_entropy import accuracy, mean_cross_entropy
from adv_jax.types import Apply, Array, Attack, Aux, Batch, Key, Variables


def ladder(
    apply: Apply,
    variables: Variables,
    batch: Batch,
    *,
    key: Key,
    weights: Sequence[float],
    attack: Attack | None = None,
    unlabelled_attack: Attack | None = None,
) -> tuple[Array, Aux]:
    """C_s + sum_l weights[l] C_l: cross-entropy of the corrupted labelled half, and denoising.

    C_l is the mean over the rows and the units of layer l of (z_hat(l) - z(l))^2, on the
    unlabelled half. Gradients flow into the clean targets z(l) too.

    An attack adds its perturbation to the corrupted pass's input, before the Gaussian noise. It
    climbs the cost of the corrupted pass, under a noise of its own draw and with the statistics
    of the batch; the clean targets stay unperturbed. (The thesis leaves these points open.)

    Args:
      apply: a `models.ladder`.
      batch: {"x": f32[B, *D], "y": i32[B], "unlabelled": f32[B, *D]}.
      key: of the noise and of the attacks.
      weights: of the layers 0..L; a layer of weight 0 costs no time if all below it are 0 too.
      attack: on the labelled input; None for none.
      unlabelled_attack: on the unlabelled input, which is given the model's own predictions as
        labels (virtual labels); None for none.

    Returns:
      loss f32[], and the unchanged model state with {"accuracy", "supervised": f32[] in nats,
      "denoising": f32[], the weighted sum}. The accuracy is that of the corrupted pass.

    Raises:
      ValueError: as many weights as do not fit the model's layers; one below its `bottom`.

    Source: Rasmus et al. 2015; Maronas 2016, eq. 32, 33, 35 (corrected), 56-59.
    """
    x, y, unlabelled = batch["x"], batch["y"], batch["unlabelled"]
    key_pass, key_x, key_u = jax.random.split(key, 3)
    perturb = partial(_perturbed, apply, variables)
    logits, extras, model_state = apply(
        variables,
        x if attack is None else perturb(attack, x, y, key=key_x),
        unlabelled
        if unlabelled_attack is None
        else perturb(unlabelled_attack, unlabelled, None, key=key_u),
        unlabelled,
        train=True,
        key=key_pass,
        method="autoencode",
    )
    z, z_hat = extras["z"], extras["z_hat"]
    if len(weights) != max(z) + 1:
        raise ValueError(
            f"objective.weights has {len(weights)} entries; allowed are {max(z) + 1}: one for the "
            "input and for each of model.features"
        )
    if any(weight and layer not in z for layer, weight in enumerate(weights)):
        raise ValueError(
            f"objective.weights is {weights}; allowed below layer {min(z)}, model.bottom, is 0"
        )
    supervised = mean_cross_entropy(logits, y)
    denoising = sum(
        (
            weight * jnp.mean(jnp.square(z_hat[layer] - z[layer]))
            for layer, weight in enumerate(weights)
            if weight
        ),
        start=jnp.zeros_like(supervised),
    )
    metrics = {
        "accuracy": accuracy(logits, y),
        "supervised": supervised,
        "denoising": denoising,
    }
    return supervised + denoising, (model_state, metrics)


def _perturbed(
    apply: Apply, variables: Variables, attack: Attack, x: Array, y: Array | None, *, key: Key
) -> Array:
    """x_adv f32[B, *D], crafted on the corrupted pass; y=None stands for virtual labels."""
    key_noise, key_attack = jax.random.split(key)
    frozen = jax.lax.stop_gradient(variables)

    def logits_fn(x):
        return apply(frozen, x, train=True, key=key_noise, method="corrupted").logits

    return attack(logits_fn, x, y, key=key_attack)
