"""The ladder network's cost, with optional attacks on the labeled and unlabeled inputs."""

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
    """Returns C_s + sum_l weights[l] C_l.

    C_s is the cross-entropy of the corrupted labeled pass. C_l is the mean of
    (z_hat(l) - z(l))^2 over the unlabeled rows and the units of layer l. Gradients flow into the
    clean targets z(l) too.

    An attack perturbs the corrupted pass's input, before the Gaussian noise; the clean targets
    stay unperturbed. [maronas2016] does not name the pass whose gradient is taken; the default is
    the corrupted one, as C_s is its cost. The update runs through the perturbation unless the
    attack is `constant`.

    Args:
      apply: a `models.ladder`.
      batch: {"x": f32[B, *D], "y": i32[B], "unlabelled": f32[B, *D]}.
      key: for the noise and the attacks.
      weights: of the layers 0..L; a layer of weight 0 costs no time if all below it are 0 too.
      attack: on the labeled input, or None.
      unlabelled_attack: on the unlabeled input with virtual labels, or None.
      gradient_pass: the pass whose cost the attacks climb, "corrupted" or "clean".
      virtual_labels: the pass whose predictions are the virtual labels, "corrupted" or "clean".
      draw: Gaussian noise of the attacks' corrupted passes: "fresh", or "same" as in the update.
      statistics: "batch": gradients run through the batch statistics; "frozen": the statistics
        are constants.

    Returns:
      loss f32[], and the unchanged model state with {"accuracy", "supervised": f32[] in nats,
      "denoising": f32[], the weighted sum}. The accuracy is that of the corrupted pass.

    Raises:
      ValueError: weights do not match the model's layers, or weigh one that is not reconstructed;
        an option is not as above; the batch has no unlabeled inputs.

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
    costs = _denoising(extras["z"], extras["z_hat"], weights)
    denoising = sum(costs, start=jnp.zeros_like(supervised))
    metrics = {
        "accuracy": accuracy(logits, y),
        "supervised": supervised,
        "denoising": denoising,
    }
    return supervised + denoising, (model_state, metrics)


def _denoising(
    z: Sequence[Array], z_hat: dict[int, Array], weights: Sequence[float]
) -> list[Array]:
    """Returns the weighted costs C_l of the layers whose weight is not 0."""
    if len(weights) != len(z):
        raise ValueError(
            f"objective.weights must have {len(z)} entries, one for the input and one for each of "
            f"model.layers, got {len(weights)}"
        )
    costs = []
    for layer, weight in enumerate(weights):
        if weight and layer not in z_hat:
            raise ValueError(
                f"objective.weights must be 0 for layer {layer}, which model.denoising leaves "
                f"out, got {weights}"
            )
        if weight:
            costs.append(weight * jnp.mean(jnp.square(z_hat[layer] - z[layer])))
    return costs


def _check(field: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"objective.{field} must be one of {', '.join(allowed)}, got {value!r}")
