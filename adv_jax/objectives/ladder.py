"""The ladder network's cost, with optional attacks on the labeled and unlabeled inputs."""

from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp

from adv_jax.objectives.stating import objective
from adv_jax.objectives.terms import accuracy, mean_cross_entropy, unlabeled
from adv_jax.types import (
    Apply,
    Array,
    Attack,
    Aux,
    Batch,
    Key,
    LogitsFn,
    Output,
    UserError,
    Variables,
    described,
    working_dtype,
)

Pass = Literal["corrupted", "clean"]
LABELED, UNLABELED = 0, 1


@objective(ranges={"weights": "[0, inf)"})
def ladder(
    apply: Apply,
    variables: Variables,
    batch: Batch,
    *,
    key: Key,
    weights: Sequence[float],
    attack: Attack | None = None,
    unlabeled_attack: Attack | None = None,
    gradient_pass: Pass = "corrupted",
    virtual_labels: Pass = "corrupted",
    draw: Literal["fresh", "same"] = "fresh",
    statistics: Literal["batch", "frozen"] = "batch",
    attacked_layers: Literal["input", "all"] = "input",
) -> tuple[Array, Aux]:
    """Returns C_s + sum_l weights[l] C_l.

    C_s is the cross-entropy of the corrupted labeled pass. C_l is the mean of
    (z_hat(l) - z(l))^2 over the unlabeled rows and the units of layer l. Gradients flow into the
    clean targets z(l) too.

    An attack perturbs the corrupted pass's input, before the Gaussian noise; the clean targets
    stay unperturbed. [maronas2016] does not name the pass whose gradient is taken; the default is
    the corrupted one, as C_s is its cost. The update runs through the perturbation unless the
    attack is `constant`.

    With attacked_layers="all" a noise of the same attack is added to z(l) of each layer too. The
    attack perturbs each layer alone, starting from 0, so its norm is taken over one layer: eps is
    the power per unit of "linf" and "rms".

    Args:
      apply: a `models.ladder`.
      batch: {"x": f32[B, *D], "y": i32[B], "unlabeled": f32[B, *D]}.
      key: for the noise and the attacks.
      weights: of the layers 0..L; a layer of weight 0 costs no time if all below it are 0 too.
      attack: on the labeled input, or None.
      unlabeled_attack: on the unlabeled input with virtual labels, or None.
      gradient_pass: the pass whose cost the attacks climb, "corrupted" or "clean".
      virtual_labels: the pass whose predictions are the virtual labels, "corrupted" or "clean".
      draw: Gaussian noise of the attacks' corrupted passes: "fresh", or "same" as in the update.
      statistics: "batch": gradients run through the batch statistics; "frozen": the statistics
        are constants.
      attacked_layers: "input" or "all", where the attacks perturb; with "all" they have no bounds.

    Returns:
      loss f32[], and the unchanged model state with {"accuracy", "supervised": f32[] in nats,
      "denoising": f32[], the weighted sum}. The accuracy is that of the corrupted pass.

    Raises:
      UserError: weights do not match the model's layers, or weigh one that is not reconstructed;
        an option is not as above; the batch has no unlabeled inputs, or not as many as x.

    Source: [rasmus2015]; [maronas2016], eq. 32, 33, 35 (corrected), 56-59; "all" layers: sec. 7.
    """
    key_pass, *keys = jax.random.split(key, 3)

    def perturbed(attack: Attack | None, x: Array, y: Array | None, half: int) -> list[Array]:
        """Returns the input and, for "all" layers, what is added to the layers 1..L."""
        key_noise, key_attack = jax.random.split(keys[half])

        def encoded(which: Pass, points: Sequence[Array]) -> Output:
            return apply(
                variables,
                points[0],
                train=True,
                key=key_pass if draw == "same" else key_noise,
                method="on_batch",
                noisy=which == "corrupted",
                half=half,
                frozen=statistics == "frozen",
                **_offsets(points[1:]),
            )

        def logits_of(i: int) -> LogitsFn:
            moved = lambda point: [*points[:i], point, *points[i + 1 :]]
            return lambda point: encoded(gradient_pass, moved(point)).logits

        points = [x]
        if attacked_layers == "all":
            points += [jnp.zeros_like(z) for z in encoded("clean", points).extras["z"][1:]]
        if attack is None:
            return points
        labels = jnp.argmax(encoded(virtual_labels, points).logits, axis=1) if y is None else y
        return [
            attack(logits_of(i), point, labels, key=jax.random.fold_in(key_attack, i))
            for i, point in enumerate(points)
        ]

    x, y, u = batch["x"], batch["y"], unlabeled(batch)
    if len(u) != len(x):
        raise UserError(f"unlabeled must have the {len(x)} rows of x, got {described(u)}")
    x_adv, *of_x = perturbed(attack, x, y, LABELED)
    u_adv, *of_u = perturbed(unlabeled_attack, u, None, UNLABELED)
    logits, extras, model_state = apply(
        variables,
        x_adv,
        u_adv,
        u,
        train=True,
        key=key_pass,
        method="autoencode",
        **_offsets([jnp.stack(halves) for halves in zip(of_x, of_u, strict=True)]),
    )
    supervised = mean_cross_entropy(logits, y)
    costs = _denoising(extras["z"], extras["z_hat"], weights)
    denoising = jnp.mean(sum(costs, start=jnp.zeros(len(u), supervised.dtype)))
    metrics = {
        "accuracy": accuracy(logits, y),
        "supervised": supervised,
        "denoising": denoising,
    }
    return supervised + denoising, (model_state, metrics)


def _offsets(offsets: Sequence[Array]) -> dict[str, Sequence[Array]]:
    """Returns the keyword of a pass that adds to the layers 1..L; {} if nothing is added."""
    return {"offsets": offsets} if offsets else {}


def _denoising(
    z: Sequence[Array], z_hat: dict[int, Array], weights: Sequence[float]
) -> list[Array]:
    """Returns the weighted costs f32[B] of the rows in the layers whose weight is not 0.

    Summed over the layers before the mean over the rows, they are one reduction on a GPU.
    """
    if len(weights) != len(z):
        raise UserError(
            f"objective.weights must have {len(z)} entries, one for the input and one for each of "
            f"model.layers, got {len(weights)}"
        )
    costs = []
    for layer, weight in enumerate(weights):
        if weight and layer not in z_hat:
            raise UserError(
                f"objective.weights must be 0 for layer {layer}, which model.denoising leaves "
                f"out, got {weights}"
            )
        if weight:
            square = jnp.square(z_hat[layer] - z[layer])
            units, fine = range(1, square.ndim), working_dtype(square.dtype)
            costs.append(weight * square.mean(units, dtype=fine))
    return costs
