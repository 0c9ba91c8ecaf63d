"""Autoencoders whose codes are to look like draws of a prior."""

import jax
import jax.numpy as jnp

from adv_jax.generative.objectives.gan import GENERATED, REAL, check_players, constant
from adv_jax.generative.objectives.reconstruction import corrupted
from adv_jax.losses import binary_cross_entropy
from adv_jax.objectives.stating import objective
from adv_jax.objectives.terms import accuracy, mean_cross_entropy, unlabeled
from adv_jax.types import Apply, Array, Aux, Batch, Key, Variables

PLAYERS = ("encoder", "decoder", "discriminator")


@objective(
    predicts=("loss", "labels"),  # The classes of a code may be clusters.
    ranges={"weight": "[0, inf)", "noise_std": "[0, inf)"},
)
def adversarial_autoencoder(
    apply: Apply,
    variables: Variables,
    batch: Batch,
    *,
    key: Key,
    weight: float | Array = 1.0,
    noise_std: float | None = None,
) -> tuple[Array, Aux]:
    """Returns the sum of the losses of three players, each with the others' parameters constant.

        encoder         |d(e(u)) - u|^2 - weight log D(e(u))
        decoder         |d(e(u)) - u|^2
        discriminator   -log D(z) - log(1 - D(e(u))),    z from the prior

    With noise only e sees noisy images. The losses are means over rows. A discriminator of several
    parts of a code has the sum of their losses. The gradient of the sum by the parameters of a
    player is that of its own loss.

    Args:
      apply: a `models.adversarial_autoencoder`, or a model like it; its nets have no state.
      batch: {"x": f32[B, *D], "y": i32[B], "unlabeled": f32[B, *D]}; only u is used.
      key: for the prior and the noise.
      weight: of the encoder's second term, >= 0.
      noise_std: as in `corrupted`, of the encoder's inputs.

    Returns:
      loss f32[], and ({}, metrics): "encoder_loss", "decoder_loss", the squared error, and in nats
      "discriminator_loss" and "fooling_loss", -log D(e(u)).

    Raises:
      UserError: the model has other parts than the three players; the batch has no unlabeled
        inputs.

    Sources: [makhzani2015], sec. 2; [wardefarley2016], sec. 1.4.5.
    """
    check_players(variables, PLAYERS)
    u = unlabeled(batch)
    noisy = corrupted(u, jax.random.fold_in(key, 1), noise_std=noise_std)
    code = apply(variables, noisy, train=True, method="encode").logits
    images = apply(variables, code, train=True, method="decode").logits
    prior = apply(variables, u, key=key, method="prior").logits

    def loss_of_origin(variables: Variables, code: Array, label: int) -> Array:
        scores = apply(variables, code, train=True, method="judge").logits
        return binary_cross_entropy(scores, jnp.full_like(scores, label)).mean()

    reconstruction = jnp.sum((images - u).reshape(len(u), -1) ** 2, axis=1).mean()
    fooling = loss_of_origin(constant(variables, ["discriminator"]), code, REAL)
    of_code = loss_of_origin(variables, jax.lax.stop_gradient(code), GENERATED)
    discriminator = loss_of_origin(variables, prior, REAL) + of_code
    encoder = reconstruction + weight * fooling
    metrics = {
        "encoder_loss": encoder,
        "decoder_loss": reconstruction,
        "discriminator_loss": discriminator,
        "fooling_loss": fooling,
    }
    return encoder + discriminator, ({}, metrics)


@objective(ranges={"weight": "[0, inf)", "label_weight": "[0, inf)", "noise_std": "[0, inf)"})
def semi_supervised_autoencoder(
    apply: Apply,
    variables: Variables,
    batch: Batch,
    *,
    key: Key,
    weight: float | Array = 1.0,
    label_weight: float | Array = 1.0,
    noise_std: float | None = None,
) -> tuple[Array, Aux]:
    """Returns the loss of `adversarial_autoencoder` and the cross-entropy of labeled images.

    The encoder has the loss |d(e(u)) - u|^2 - weight log D(e(u)) + label_weight J(x, y); the others
    are as before.

    Args:
      apply: a `models.semi_supervised_autoencoder`; its nets have no state.
      batch: {"x": f32[B, *D], "y": i32[B], "unlabeled": f32[B, *D]}.
      key, weight, noise_std: as in `adversarial_autoencoder`.
      label_weight: of the cross-entropy, >= 0.

    Returns:
      loss f32[], and ({}, metrics): those of `adversarial_autoencoder`, of which "encoder_loss" has
      the term of the labels, "accuracy" on x and "supervised", J in nats.

    Raises:
      UserError: as `adversarial_autoencoder`.

    Source: [makhzani2015], sec. 5.
    """
    loss, (_, metrics) = adversarial_autoencoder(
        apply, variables, batch, key=key, weight=weight, noise_std=noise_std
    )
    noisy = corrupted(batch["x"], jax.random.fold_in(key, 2), noise_std=noise_std)
    logits = apply(variables, noisy, train=True).logits
    supervised = mean_cross_entropy(logits, batch["y"])
    of_labels = label_weight * supervised
    metrics |= {
        "encoder_loss": metrics["encoder_loss"] + of_labels,
        "accuracy": accuracy(logits, batch["y"]),
        "supervised": supervised,
    }
    return loss + of_labels, ({}, metrics)
