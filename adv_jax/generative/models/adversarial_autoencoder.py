"""Autoencoders whose codes a discriminator tells from draws of a prior."""

import math
from collections.abc import Sequence
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from adv_jax.models.checks import check_shape
from adv_jax.models.layered import Extras
from adv_jax.models.mlp import MLP
from adv_jax.random import normal
from adv_jax.ranges import COUNT, ranged
from adv_jax.types import Array, Bounds


class Discriminator(nn.Module):
    """A net for each part of a code, which tells an encoder's codes from draws of the prior.

    sizes: values of each part.
    features, activation: of the hidden layers of each net.
    """

    sizes: Sequence[int]
    features: Sequence[int]
    activation: str

    @nn.compact
    def __call__(self, code: Array, *, train: bool = False) -> Array:
        """f[B, C] -> log-odds of the prior f[B, parts]."""
        ends = [sum(self.sizes[:i]) for i in range(1, len(self.sizes))]
        settings = {"features": self.features, "activation": self.activation, "num_classes": 1}
        scores = [
            MLP(**settings, name=f"part{i}")(part, train=train)[0]
            for i, part in enumerate(jnp.split(code, ends, axis=1))
        ]
        return jnp.concatenate(scores, axis=1)


@ranged(latent=COUNT, features=COUNT, discriminator_features=COUNT)
class AdversarialAutoencoder(nn.Module):
    """An autoencoder with a discriminator of its codes; the prior is N(0, I).

    The parameters have the parts "encoder", "decoder" and "discriminator". Images are in [0, 1].

    shape: of an image.
    latent: values of a code.
    features: units of the encoder's hidden layers; the decoder has them in reverse order.
    discriminator_features: units of the hidden layers of a discriminator.
    activation: of all, a name in `activations.ACTIVATIONS`.

    Source: [makhzani2015], sec. 2, with a deterministic encoder.
    """

    predicts: ClassVar[str] = "loss"
    input_bounds: ClassVar[Bounds] = (0, 1)

    shape: Sequence[int] = (28, 28, 1)
    latent: int = 8
    features: Sequence[int] = (1000, 1000)
    discriminator_features: Sequence[int] = (1000, 1000)
    activation: str = "relu"

    def setup(self) -> None:
        sizes = self._sizes()
        self.encoder = MLP(
            features=self.features,
            num_classes=sum(sizes),
            activation=self.activation,
        )
        self.decoder = MLP(
            features=tuple(self.features)[::-1],
            num_classes=math.prod(self.shape),
            activation=self.activation,
        )
        self.discriminator = Discriminator(sizes, self.discriminator_features, self.activation)

    def _sizes(self) -> tuple[int, ...]:
        """Returns the number of values of each part of a code."""
        return (self.latent,)

    def __call__(self, x: Array, *, train: bool = False) -> tuple[Array, Extras]:
        """f[B, *D] -> reconstructed images f[B, *D], {"code": f[B, latent]}."""
        code = self.encode(x, train=train)
        if self.is_initializing():
            self.judge(code, train=train)
        return self.decode(code, train=train), {"code": code}

    def encode(self, x: Array, *, train: bool = False) -> Array:
        """f[B, *D] -> codes f[B, C]."""
        return self._values(x, train=train)

    def _values(self, x: Array, *, train: bool) -> Array:
        """f[B, *D] -> outputs of the encoder f[B, C]."""
        check_shape(x, self.shape)
        return self.encoder(x, train=train)[0]

    def decode(self, code: Array, *, train: bool = False) -> Array:
        """f[B, C] -> images f[B, *shape] in [0, 1]."""
        values, _ = self.decoder(code, train=train)
        return nn.sigmoid(values).reshape(len(code), *self.shape)

    def judge(self, code: Array, *, train: bool = False) -> Array:
        """f[B, C] -> log-odds of the prior f[B, parts], for each part of a code."""
        return self.discriminator(code, train=train)

    def prior(self, like: Array) -> Array:
        """Draws as many codes as `like` has rows, from the key of noise: f[len(like), C]."""
        return normal(self.make_rng("noise"), (len(like), self.latent))

    def sample(self, like: Array, *, train: bool = False) -> Array:
        """Returns as many images as `like` has rows, of codes from the prior."""
        return self.decode(self.prior(like), train=train)

    def row_loss(self, x: Array, *, train: bool = False) -> Array:
        """f[B, *D] -> squared error of the reconstruction f[B], summed over the pixels."""
        code = self.encode(x, train=train)
        return jnp.sum((self.decode(code, train=train) - x).reshape(len(x), -1) ** 2, axis=1)


@ranged(num_classes=COUNT)
class SemiSupervisedAutoencoder(AdversarialAutoencoder):
    """An adversarial autoencoder whose code has a second part, the probabilities of the classes.

    The prior of that part draws a class and gives it the probability 1.

    num_classes: K.
    shape, latent, features, discriminator_features, activation: as in `AdversarialAutoencoder`.

    Source: [makhzani2015], sec. 5.
    """

    predicts: ClassVar[str] = "labels"

    num_classes: int = 10

    def _sizes(self) -> tuple[int, ...]:
        return (self.latent, self.num_classes)

    def __call__(self, x: Array, *, train: bool = False) -> tuple[Array, Extras]:
        """f[B, *D] -> logits f[B, K], {"code": f[B, latent]}, without the classes."""
        values = self._values(x, train=train)
        if self.is_initializing():
            super().__call__(x, train=train)
        code, logits = jnp.split(values, [self.latent], axis=1)
        return logits, {"code": code}

    def encode(self, x: Array, *, train: bool = False) -> Array:
        """f[B, *D] -> codes f[B, latent + K]; the last K values are probabilities."""
        code, logits = jnp.split(self._values(x, train=train), [self.latent], axis=1)
        return jnp.concatenate([code, jax.nn.softmax(logits)], axis=1)

    def prior(self, like: Array) -> Array:
        """Draws as many codes as `like` has rows, from the key of noise: f[len(like), C]."""
        classes = jax.random.randint(self.make_rng("noise"), (len(like),), 0, self.num_classes)
        one_hot = jax.nn.one_hot(classes, self.num_classes)
        return jnp.concatenate([super().prior(like), one_hot], axis=1)
