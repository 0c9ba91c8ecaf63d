"""The variational autoencoder, alone and with a discriminator of its images."""

import math
from collections.abc import Sequence
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
import optax

from adv_jax.generative.models.gan import two_logits
from adv_jax.models.checks import check_shape
from adv_jax.models.layered import Extras
from adv_jax.models.mlp import MLP
from adv_jax.random import normal
from adv_jax.ranges import COUNT, ranged
from adv_jax.types import Array, Bounds


@ranged(latent=COUNT, encoder_features=COUNT, decoder_features=COUNT)
class VAE(nn.Module):
    """A normal code z of an image, and the Bernoulli distribution of the image given its code.

        q(z | x) = N(mean(x), diag exp(log_var(x))),  p(z) = N(0, I),  p(x | z) = Bernoulli(s(d(z)))

    Pixels in [0, 1] count as probabilities. The parameters have the parts "encoder" and "decoder".

    shape: of an image.
    latent: values of z.
    encoder_features, decoder_features: units of the hidden layers.
    activation: of both, a name in `activations.ACTIVATIONS`.

    Source: [kingma2014], sec. 3, appendices B and C.
    """

    predicts: ClassVar[str] = "loss"
    input_bounds: ClassVar[Bounds] = (0, 1)

    shape: Sequence[int] = (28, 28, 1)
    latent: int = 20
    encoder_features: Sequence[int] = (500,)
    decoder_features: Sequence[int] = (500,)
    activation: str = "tanh"

    def setup(self) -> None:
        self.encoder = MLP(
            features=self.encoder_features,
            num_classes=2 * self.latent,
            activation=self.activation,
        )
        self.decoder = MLP(
            features=self.decoder_features,
            num_classes=math.prod(self.shape),
            activation=self.activation,
        )

    def __call__(self, x: Array, *, train: bool = False) -> tuple[Array, Extras]:
        """f[B, *D] -> images f[B, *D] from the means of the codes, {"mean", "log_var"}."""
        mean, extras = self.encode(x, train=train)
        return self.decode(mean, train=train), {"mean": mean, **extras}

    def encode(self, x: Array, *, train: bool = False) -> tuple[Array, Extras]:
        """f[B, *D] -> mean f[B, latent] and {"log_var": f[B, latent]} of q(z | x)."""
        check_shape(x, self.shape)
        values, _ = self.encoder(x, train=train)
        mean, log_var = jnp.split(values, 2, axis=1)
        return mean, {"log_var": log_var}

    def infer(self, x: Array, *, train: bool = False) -> tuple[Array, Extras]:
        """f[B, *D] -> z f[B, latent] from q(z | x), {"divergence": f[B], KL(q(z | x) || p(z))}."""
        mean, extras = self.encode(x, train=train)
        log_var = extras["log_var"]
        noise = normal(self.make_rng("noise"), mean.shape)
        divergence = jnp.sum(jnp.exp(log_var) + mean**2 - 1 - log_var, axis=1) / 2
        return mean + jnp.exp(log_var / 2) * noise, {"divergence": divergence}

    def decode(self, z: Array, *, train: bool = False) -> Array:
        """f[B, latent] -> images f[B, *shape], the probabilities of bright pixels."""
        return nn.sigmoid(self._log_odds(z, train=train)).reshape(len(z), *self.shape)

    def sample(self, like: Array, *, train: bool = False) -> Array:
        """Returns as many images, of z from p(z), as `like` has rows, from the key of noise."""
        return self.decode(normal(self.make_rng("noise"), (len(like), self.latent)), train=train)

    def row_loss(self, x: Array, *, train: bool = False) -> tuple[Array, Extras]:
        """f[B, *D] -> negative evidence lower bound f[B] in nats, at one z from the key of noise.

        extras: its terms f[B], "reconstruction", -log p(x | z), and "divergence".
        """
        z, terms = self.infer(x, train=train)
        log_odds = self._log_odds(z, train=train)
        pixels = optax.sigmoid_binary_cross_entropy(log_odds, x.reshape(log_odds.shape))
        terms |= {"reconstruction": pixels.sum(axis=1)}
        return terms["reconstruction"] + terms["divergence"], terms

    def _log_odds(self, z: Array, *, train: bool) -> Array:
        """f[B, latent] -> log p / (1 - p) of the pixels, f[B, D]."""
        return self.decoder(z, train=train)[0]


@ranged(discriminator_features=COUNT, dropout="[0, 1)")
class VAEGAN(VAE):
    """A variational autoencoder with a discriminator of its images.

    The parameters have the parts "encoder", "decoder" and "discriminator".

    discriminator_features: units of the discriminator's hidden layers.
    dropout: of the discriminator, as in `layered.Layered`.
    shape, latent, encoder_features, decoder_features, activation: as in `VAE`.

    Source: [larsen2016], sec. 2.
    """

    predicts: ClassVar[str] = "real"

    discriminator_features: Sequence[int] = (500, 500)
    dropout: Sequence[float] = ()

    def setup(self) -> None:
        super().setup()
        self.discriminator = MLP(
            features=self.discriminator_features,
            num_classes=1,
            activation=self.activation,
            dropout=self.dropout,
        )

    def __call__(self, x: Array, *, train: bool = False) -> tuple[Array, Extras]:
        """f[B, *D] -> logits f[B, 2] of a generated (0) and a real image (1), {"hidden1", ...}."""
        if self.is_initializing():
            super().__call__(x, train=train)
        # Centered, as in `gan.GAN`.
        logit, extras = self.discriminator(2 * x - 1, train=train)
        return two_logits(logit), extras
