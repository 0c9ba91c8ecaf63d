"""Autoencoders: the loss of reconstructing an image from itself, or from a corrupted copy."""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp

from adv_jax.objectives.stating import objective
from adv_jax.objectives.terms import unlabeled
from adv_jax.random import bernoulli, normal
from adv_jax.types import Apply, Array, Aux, Batch, Key, Variables


@objective(predicts=("loss",), ranges={"masking": "[0, 1]", "noise_std": "[0, inf)"})
def reconstruction(
    apply: Apply,
    variables: Variables,
    batch: Batch,
    *,
    key: Key,
    level: Literal["input", "stacked"] = "input",
    masking: float | None = None,
    noise_std: float | None = None,
) -> tuple[Array, Aux]:
    """Returns the mean loss of reconstructing clean inputs from corrupted ones.

        input      E loss(r(corrupt(x)), x), of the whole net r
        stacked    sum over layers l of E loss(r_l(corrupt(h_{l-1})), h_{l-1}), h_0 = x

    r_l is the autoencoder of layer l alone, and h_l, the activations of clean inputs, are detached:
    the gradient by the parameters of a layer is that of its own loss. If each layer has an
    optimizer whose rate is 0 before and after its own epochs, the layers are trained one by one.

    Args:
      apply: a `models.autoencoder`, or a model like it.
      batch: {"unlabeled": f32[B, *D]}; labels are not used.
      key: for the noise and the model.
      level: what is reconstructed.
      masking, noise_std: as in `corrupted`.

    Returns:
      loss f32[] in the units of the model's loss, and (model_state, metrics): for the level
      stacked, "layer1_loss" and so on.

    Raises:
      UserError: unknown level.

    Sources: [vincent2010]; [maronas2016], sec. 3.6.3.
    """
    x = unlabeled(batch)
    noisy_copy = partial(corrupted, masking=masking, noise_std=noise_std)
    if level == "input":
        noisy = noisy_copy(x, key)
        losses, _, model_state = apply(variables, noisy, x, train=True, key=key, method="row_loss")
        return losses.mean(), (model_state, {})
    hidden = jax.lax.stop_gradient(apply(variables, x).extras)
    clean = [x, *(hidden[f"hidden{layer}"] for layer in range(1, len(hidden)))]
    metrics, model_state = {}, {}
    for layer, h in enumerate(clean, start=1):
        noisy = noisy_copy(h, jax.random.fold_in(key, layer))
        losses, _, model_state = apply(
            variables, noisy, h, layer=layer, train=True, key=key, method="layer_loss"
        )
        metrics[f"layer{layer}_loss"] = losses.mean()
    return sum(metrics.values(), jnp.float32(0)), (model_state, metrics)


def corrupted(
    x: Array, key: Key, *, masking: float | None = None, noise_std: float | None = None
) -> Array:
    """Returns a noisy copy of x.

    masking: probability that a value is set to 0; None without.
    noise_std: standard deviation of Gaussian noise on all values; None without.
    """
    key_noise, key_mask = jax.random.split(key)
    if noise_std is not None:
        x = x + noise_std * normal(key_noise, x.shape)
    if masking is not None:
        x = jnp.where(bernoulli(key_mask, masking, x.shape), 0, x)
    return x
