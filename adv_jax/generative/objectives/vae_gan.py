"""A variational autoencoder whose error is measured in the features of a discriminator."""

import operator
from typing import NamedTuple

import jax
import jax.numpy as jnp

from adv_jax.generative.objectives.gan import GENERATED, REAL, check_players, constant, origin_loss
from adv_jax.objectives.stating import objective
from adv_jax.types import Apply, Array, Aux, Batch, Key, Output, UserError, Variables

PLAYERS = ("encoder", "decoder", "discriminator")


class Terms(NamedTuple):
    """The terms of the players' losses, f[] each, means over rows.

    divergence: KL(q(z | x) || p(z)).
    error: |D_l(x) - D_l(x_hat)|^2 / 2, D_l the features of the discriminator.
    generation: -log D(x_hat) - log D(x_p), x_p a sample.
    discrimination: -log D(x) - log(1 - D(x_hat)) - log(1 - D(x_p)).
    """

    divergence: Array
    error: Array
    generation: Array
    discrimination: Array


@objective(predicts=("real",), ranges={"gamma": "[0, inf)"})
def vae_gan(
    apply: Apply,
    variables: Variables,
    batch: Batch,
    *,
    key: Key,
    gamma: float | Array,
    layer: int = 1,
) -> tuple[Array, Aux]:
    """Returns the sum of the losses of three players, each with the others' parameters constant.

        encoder         KL(q(z | x) || p(z)) + |D_l(x) - D_l(x_hat)|^2 / 2
        decoder         gamma |D_l(x) - D_l(x_hat)|^2 / 2 - log D(x_hat) - log D(x_p)
        discriminator   -log D(x) - log(1 - D(x_hat)) - log(1 - D(x_p))

    x_hat is decoded from a z of q(z | x), x_p from a z of p(z), and D_l are the features of hidden
    layer l of the discriminator. The gradient of the sum by the parameters of a player is that of
    the player's own loss.

    Args:
      apply: a `models.vae_gan`; its nets have no state.
      batch: {"x": f32[B, *D], "y": i32[B]}, the real images; labels are not used.
      key: for z and the discriminator's dropout, which is equal in all passes.
      gamma: weight of the error for the decoder, >= 0.
      layer: the hidden layer l, from 1.

    Returns:
      loss f32[] in nats, and ({}, metrics): "encoder_loss", "decoder_loss" and
      "discriminator_loss", and the terms "divergence" and "feature_distance", half
      the squared distance.

    Raises:
      UserError: the model has other parts than the three players, or its discriminator no such
        hidden layer.

    Source: [larsen2016], Algorithm 1, with the non-saturating loss of [goodfellow2014].
    """
    check_players(variables, PLAYERS)

    def terms(player: str) -> Terms:
        others = [name for name in PLAYERS if name != player]
        return _terms(apply, constant(variables, others), batch["x"], key, layer)

    of_encoder, of_decoder, of_discriminator = map(terms, PLAYERS)
    encoder = of_encoder.divergence + of_encoder.error
    decoder = gamma * of_decoder.error + of_decoder.generation
    discriminator = of_discriminator.discrimination
    metrics = {
        "encoder_loss": encoder,
        "decoder_loss": decoder,
        "discriminator_loss": discriminator,
        "divergence": of_encoder.divergence,
        "feature_distance": of_encoder.error,
    }
    return encoder + decoder + discriminator, ({}, metrics)


def _terms(apply: Apply, variables: Variables, x: Array, key: Key, layer: int) -> Terms:
    key_code, key_sample, key_judge = jax.random.split(key, 3)
    code = apply(variables, x, train=True, key=key_code, method="infer")
    rebuilt = apply(variables, code.logits, train=True, method="decode").logits
    sampled = apply(variables, x, train=True, key=key_sample, method="sample").logits
    of_real, of_rebuilt, of_sampled = (
        apply(variables, images, train=True, key=key_judge) for images in (x, rebuilt, sampled)
    )
    difference = _features(of_real, layer) - _features(of_rebuilt, layer)
    generated = (of_rebuilt, of_sampled)
    discrimination = origin_loss(of_real.logits, REAL) + sum(
        origin_loss(output.logits, GENERATED) for output in generated
    )
    return Terms(
        divergence=code.extras["divergence"].mean(),
        error=jnp.sum(difference**2, axis=1).mean() / 2,
        generation=origin_loss(of_rebuilt.logits, REAL) + origin_loss(of_sampled.logits, REAL),
        discrimination=discrimination,
    )


def _features(output: Output, layer: int) -> Array:
    """Returns the features of a hidden layer: f[B, D_l]."""
    name = f"hidden{operator.index(layer)}"  # It raises JAX's error for a traced one.
    if name not in output.extras:
        count = len(output.extras)
        raise UserError(
            f"objective.layer must be a hidden layer of the discriminator, 1 to {count}, "
            f"got {layer}"
        )
    return output.extras[name].reshape(len(output.logits), -1)
