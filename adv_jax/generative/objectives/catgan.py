"""Categorical generative adversarial networks: a game about the entropy of classes."""

import math

import jax
import jax.numpy as jnp

from adv_jax.generative.objectives.gan import PLAYERS, check_players, constant
from adv_jax.objectives.stating import objective
from adv_jax.objectives.terms import accuracy, log_probs, mean_cross_entropy, unlabeled
from adv_jax.types import Apply, Array, Aux, Batch, Key, Variables


@objective(ranges={"weight": "[0, inf)"})
def catgan(
    apply: Apply,
    variables: Variables,
    batch: Batch,
    *,
    key: Key,
    weight: float | Array = 1.0,
) -> tuple[Array, Aux]:
    """Returns the sum of the losses of two players, each with the other's parameters constant.

        discriminator   E H[p(y|x)] - H[E p(y|x)] - E H[p(y|G(z))] + weight * J(x_l, y_l)
        generator       E H[p(y|G(z))] - H[E p(y|G(z))]

    The discriminator is the classifier: it is sure about real images, unsure about generated ones,
    and uses all classes equally often. H is the entropy, J the cross-entropy.

    Args:
      apply: a `models.catgan`, or a model like it.
      batch: {"x": f32[B, *D], "y": i32[B]}, the labeled images, and "unlabeled", the real ones.
      key: for z and the discriminator's dropout.
      weight: of the labels, >= 0; with 0 the classes are clusters without names, which
        `generative.measures.matched_classes` matches to labels.

    Returns:
      loss f32[] in nats, and (model_state, metrics): "discriminator_loss" and "generator_loss",
      "real_entropy" and "generated_entropy", means over images, "classes_entropy", that of the mean
      prediction, log K at most, and "accuracy" on the labeled images. A "classes_entropy" near 0 is
      a collapse: all images are in one class.

    Raises:
      UserError: the model has other parts than the two players; the batch has no unlabeled inputs.

    Sources: [springenberg2016]; [wardefarley2016], sec. 1.4.5.
    """
    check_players(variables, PLAYERS)
    key_z, key_labeled, key_real, key_generated = jax.random.split(key, 4)
    u = unlabeled(batch)
    samples = apply(variables, u, train=True, key=key_z, method="sample")
    variables = {**variables, **samples.model_state}
    labeled, _, _ = apply(variables, batch["x"], train=True, key=key_labeled)
    logits, _, model_state = apply(variables, u, train=True, key=key_real)
    variables = {**variables, **model_state}

    def entropies(variables: Variables, images: Array) -> tuple[Array, Array]:
        return _entropies(apply(variables, images, train=True, key=key_generated).logits)

    real, classes = _entropies(logits)
    generated, _ = entropies(variables, jax.lax.stop_gradient(samples.logits))
    judged, spread = entropies(constant(variables, ["discriminator"]), samples.logits)
    supervised = mean_cross_entropy(labeled, batch["y"])
    discriminator = real - classes - generated + weight * supervised
    generator = judged - spread
    metrics = {
        "discriminator_loss": discriminator,
        "generator_loss": generator,
        "real_entropy": real,
        "generated_entropy": generated,
        "classes_entropy": classes,
        "accuracy": accuracy(labeled, batch["y"]),
    }
    return discriminator + generator, (model_state, metrics)


def _entropies(logits: Array) -> tuple[Array, Array]:
    """Returns the mean entropy of predictions f32[B, K], and the entropy of their mean."""
    log_p = log_probs(logits)
    log_mean = jax.nn.logsumexp(log_p, axis=0) - math.log(len(log_p))
    return _entropy(log_p).mean(), _entropy(log_mean)


def _entropy(log_p: Array) -> Array:
    return -(jnp.exp(log_p) * log_p).sum(axis=-1)
