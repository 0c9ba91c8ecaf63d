"""A denoising autoencoder in front of a trained classifier."""

import math
from collections.abc import Sequence

import flax.linen as nn

from adv_jax.models.layered import Extras
from adv_jax.models.mlp import MLP
from adv_jax.ranges import COUNT, ranged
from adv_jax.types import Array, LogitsFn, UserError


@ranged(features=COUNT)
class Denoised(nn.Module):
    """classifier_fn(d(x)), d an autoencoder with linear outputs; only d is trained.

    extras: "denoised", d(x) f32[B, *D].

    classifier_fn: f32[B, *D] -> f32[B, K].
    features: units of the autoencoder's hidden layers.
    activation: of the hidden layers, a name in `activations.ACTIVATIONS`.

    Raises:
      UserError: classifier_fn is a module.

    Source: [gu2014], sec. 3.
    """

    classifier_fn: LogitsFn
    features: Sequence[int] = (256, 128, 256)
    activation: str = "relu"

    @nn.compact
    def __call__(self, x: Array, *, train: bool = False) -> tuple[Array, Extras]:
        """f[B, *D] -> logits f[B, K], extras."""
        if isinstance(self.classifier_fn, nn.Module):  # It would be initialized and trained.
            found = type(self.classifier_fn).__name__
            raise UserError(f"classifier_fn must be a function with its parameters, got a {found}")
        size = math.prod(x.shape[1:])
        settings = {"features": self.features, "activation": self.activation}
        outputs, _ = MLP(num_classes=size, **settings, name="autoencoder")(x, train=train)
        denoised = outputs.reshape(x.shape)
        return self.classifier_fn(denoised), {"denoised": denoised}
