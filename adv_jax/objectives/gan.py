"""Generative adversarial networks: the losses of both players."""

from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp

from adv_jax.objectives.cross_entropy import mean_cross_entropy
from adv_jax.types import Apply, Array, Aux, Batch, Key, Output, Variables

GENERATED, REAL = 0, 1  # classes of the discriminator


def gan(
    apply: Apply,
    variables: Variables,
    batch: Batch,
    *,
    key: Key,
    generator_loss: Literal["non_saturating", "minimax"] = "non_saturating",
) -> tuple[Array, Aux]:
    """Returns the sum of the losses of two players, each with the other's parameters constant.

        discriminator   -E log D(x) - E log(1 - D(G(z)))
        generator       -E log D(G(z))        "non_saturating"
                         E log(1 - D(G(z)))   "minimax"

    The gradient of the sum by the parameters of a player is that of the player's own loss.

    Args:
      apply: a `models.gan`, or a model like it.
      batch: {"x": f32[B, *D], "y": i32[B]}, the real images; labels are not used.
      key: for z and the discriminator's dropout.

    Returns:
      loss f32[] in nats, and (model_state, metrics): "discriminator" and "generator", their losses,
      "real" and "generated", the mean D(x) and D(G(z)). If "generated" stays at 0, the
      discriminator has won and the generator does not learn.

    Sources: [goodfellow2014], eq. 1, Algorithm 1 (here both players move at once);
    [wardefarley2016], sec. 1.4.1.
    """
    key_z, key_real, key_generated = jax.random.split(key, 3)
    samples = apply(variables, batch["x"], train=True, key=key_z, method="sample")
    images = samples.logits
    variables = {**variables, **samples.model_state}
    real = apply(variables, batch["x"], train=True, key=key_real)
    variables = {**variables, **real.model_state}
    generated = apply(variables, jax.lax.stop_gradient(images), train=True, key=key_generated)
    judge = constant(variables, ["discriminator"])
    judged = apply(judge, images, train=True, key=key_generated)
    discriminator = _loss(real, REAL) + _loss(generated, GENERATED)
    generator = -_loss(judged, GENERATED) if generator_loss == "minimax" else _loss(judged, REAL)
    metrics = {
        "discriminator": discriminator,
        "generator": generator,
        "real": _probability(real),
        "generated": _probability(generated),
    }
    return discriminator + generator, (generated.model_state, metrics)


def constant(variables: Variables, players: Sequence[str]) -> Variables:
    """Returns the variables with the parameters of these players detached."""

    def part(name: str, params: Any) -> Any:
        return jax.lax.stop_gradient(params) if name in players else params

    params = {name: part(name, params) for name, params in variables["params"].items()}
    return {**variables, "params": params}


def _loss(output: Output, label: int) -> Array:
    """Returns the mean cross-entropy of the discriminator for images of one class."""
    labels = jnp.full(len(output.logits), label)
    return mean_cross_entropy(output.logits, labels)


def _probability(output: Output) -> Array:
    """Returns the mean probability of a real image."""
    return jnp.mean(jax.nn.softmax(output.logits)[:, REAL])
