"""The ladder network's cost, with adversarial noise on either half of its input."""

from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp

from adv_jax.objectives.cross_entropy import accuracy, mean_cross_entropy, unlabelled
from adv_jax.types import Apply, Array, Attack, Aux, Batch, Key, LogitsFn, Variables

Pass = Literal["corrupted", "clean"]
LABELLED, UNLABELLED = 0, 1


def ladder(
    apply: Apply,
    variables: Variables,
    batch: Batch,
    *,
    key: Key,
    weights: Sequence[float],
    attack: Attack | None = None,
    unlabelled_attack: Attack | None = None,
    gradient_pass: Pass = "corrupted",
    virtual_labels: Pass = "corrupted",
    draw: Literal["fresh", "same"] = "fresh",
    statistics: Literal["batch", "frozen"] = "batch",
) -> tuple[Array, Aux]:
    """C_s + sum_l weights[l] C_l: cross-entropy of the corrupted labelled half, and denoising.

    C_l is the mean over the rows and the units of layer l of (z_hat(l) - z(l))^2, on the
    unlabelled half. Gradients flow into the clean targets z(l) too.

    An attack adds its perturbation to the corrupted pass's input, before the Gaussian noise; the
    clean targets stay unperturbed. The thesis leaves open along which gradient: the defaults take
    its C_s at its word, a cost of the corrupted pass. Whether the update runs through the
    perturbation is the attack's `constant`.

    Args:
      apply: a `models.ladder`.
      batch: {"x": f32[B, *D], "y": i32[B], "unlabelled": f32[B, *D]}.
      key: of the noise and of the attacks.
      weights: of the layers 0..L; a layer of weight 0 costs no time if all below it are 0 too.
      attack: on the labelled input; None for none.
      unlabelled_attack: on the unlabelled input, which is given the model's own predictions as
        labels (virtual labels); None for none.
      gradient_pass: whose cost the attacks climb, "corrupted" or "clean".
      virtual_labels: whose predictions are the labels of the unlabelled half, likewise.
      draw: of the Gaussian noise in the attacks' corrupted passes, "fresh" or "same" as in the
        update.
      statistics: "batch", a row's gradient runs through the statistics of the batch, which all
        rows share, or "frozen", they are constants.

    Returns:
      loss f32[], and the unchanged model state with {"accuracy", "supervised": f32[] in nats,
      "denoising": f32[], the weighted sum}. The accuracy is that of the corrupted pass.

    Raises:
      ValueError: as many weights as do not fit the model's layers; one of a layer that is not
        reconstructed; a word that is none of the above; a batch without unlabelled inputs.

    Source: [rasmus2015]; [maronas2016], eq. 32, 33, 35 (corrected), 56-59.
    """
    _check("gradient_pass", gradient_pass, ("corrupted", "clean"))
    _check("virtual_labels", virtual_labels, ("corrupted", "clean"))
    _check("draw", draw, ("fresh", "same"))
    _check("statistics", statistics, ("batch", "frozen"))
    key_pass, *keys = jax.random.split(key, 3)

    def perturbed(attack: Attack | None, x: Array, y: Array | None, half: int) -> Array:
        if attack is None:
            return x
        key_noise, key_attack = jax.random.split(keys[half])

        def logits_of(which: Pass) -> LogitsFn:
            return lambda x: (
                apply(
                    variables,
                    x,
                    train=True,
                    key=key_pass if draw == "same" else key_noise,
                    method="on_batch",
                    noisy=which == "corrupted",
                    half=half,
                    frozen=statistics == "frozen",
                ).logits
            )

        labels = jnp.argmax(logits_of(virtual_labels)(x), axis=1) if y is None else y
        return attack(logits_of(gradient_pass), x, labels, key=key_attack)

    x, y, u = batch["x"], batch["y"], unlabelled(batch)
    logits, extras, model_state = apply(
        variables,
        perturbed(attack, x, y, LABELLED),
        perturbed(unlabelled_attack, u, None, UNLABELLED),
        u,
        train=True,
        key=key_pass,
        method="autoencode",
    )
    supervised = mean_cross_entropy(logits, y)
    denoising = _denoising(extras["z"], extras["z_hat"], weights)
    metrics = {
        "accuracy": accuracy(logits, y),
        "supervised": supervised,
        "denoising": denoising,
    }
    return supervised + denoising, (model_state, metrics)


def _denoising(z: Sequence[Array], z_hat: dict[int, Array], weights: Sequence[float]) -> Array:
    if len(weights) != len(z):
        raise ValueError(
            f"objective.weights has {len(weights)} entries; allowed are {len(z)}: one for the "
            "input and for each of model.layers"
        )
    costs = jnp.float32(0)
    for layer, weight in enumerate(weights):
        if weight and layer not in z_hat:
            raise ValueError(
                f"objective.weights is {weights}; allowed for layer {layer}, which "
                "model.denoising leaves out, is 0"
            )
        if weight:
            costs += weight * jnp.mean(jnp.square(z_hat[layer] - z[layer]))
    return costs


def _check(field: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"objective.{field} is {value!r}; allowed are {', '.join(allowed)}")
