"""Generators of images, each with the discriminator that it is trained against."""

import math
from collections.abc import Sequence
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from adv_jax.models.layered import Extras
from adv_jax.models.mlp import MLP
from adv_jax.types import Array


class GAN(nn.Module):
    """A generator and a discriminator of images, both of dense layers.

    The players of a game are the submodules: the parameters have the parts "generator" and
    "discriminator".

    shape: of an image.
    latent: values of z, the generator's input, uniform in [-1, 1].
    generator_features, discriminator_features: units of the hidden layers.
    activation: of both, a name in `activations.ACTIVATIONS`.
    dropout: of the discriminator, as in `layered.Layered`.

    Source: [goodfellow2014], sec. 5.
    """

    predicts: ClassVar[str] = "real"

    shape: Sequence[int] = (28, 28, 1)
    latent: int = 100
    generator_features: Sequence[int] = (256, 512)
    discriminator_features: Sequence[int] = (512, 256)
    activation: str = "leaky_relu"
    dropout: Sequence[float] = ()

    def setup(self) -> None:
        self.generator = MLP(
            features=self.generator_features,
            num_classes=math.prod(self.shape),
            activation=self.activation,
        )
        self.discriminator = MLP(
            features=self.discriminator_features,
            num_classes=self._outputs(),
            activation=self.activation,
            dropout=self.dropout,
        )

    def _outputs(self) -> int:
        """Returns the number of outputs of the discriminator."""
        return 1

    def __call__(self, x: Array, *, train: bool = False) -> tuple[Array, Extras]:
        """f[B, *D] -> logits f[B, 2] of a generated (0) and a real image (1), and extras."""
        logit, extras = self._judge(x, train=train)
        return jnp.concatenate([jnp.zeros_like(logit), logit], axis=1), extras

    def _judge(self, x: Array, *, train: bool) -> tuple[Array, Extras]:
        """Returns the outputs of the discriminator for images."""
        if self.is_initializing():
            self.generate(jnp.zeros((len(x), self.latent), x.dtype), train=train)
        # Centered: with dark pixels at 0 the generator collapses to one or two digits.
        return self.discriminator(2 * x - 1, train=train)

    def generate(self, z: Array, *, train: bool = False) -> Array:
        """f[B, latent] -> images f[B, *shape] in [0, 1]."""
        values, _ = self.generator(z, train=train)
        return nn.sigmoid(values).reshape(len(z), *self.shape)

    def sample(self, like: Array, *, train: bool = False) -> Array:
        """Returns as many images as `like` has rows, from the key of noise."""
        key = self.make_rng("noise")
        z = jax.random.uniform(key, (len(like), self.latent), like.dtype, -1, 1)
        return self.generate(z, train=train)


class CatGAN(GAN):
    """A generator and a classifier of images, both of dense layers.

    The classifier is the discriminator of the game: it is sure about real images only.

    num_classes: K.
    shape, latent, generator_features, discriminator_features, activation, dropout: as in `GAN`.

    Source: [springenberg2016].
    """

    predicts: ClassVar[str] = "labels"

    num_classes: int = 10

    def _outputs(self) -> int:
        return self.num_classes

    def __call__(self, x: Array, *, train: bool = False) -> tuple[Array, Extras]:
        """f[B, *D] -> logits f[B, K], and extras."""
        return self._judge(x, train=train)
