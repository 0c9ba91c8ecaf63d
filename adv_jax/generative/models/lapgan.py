"""A Laplacian pyramid of generators, each with its discriminator."""

import math
from collections.abc import Sequence
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from adv_jax.generative.models.gan import noise, require_halvable, two_logits
from adv_jax.models.activations import activation_fn
from adv_jax.models.checks import check_shape
from adv_jax.models.convolution import Conv
from adv_jax.models.layered import Extras, Flat
from adv_jax.models.mlp import MLP
from adv_jax.ranges import COUNT, ranged
from adv_jax.types import Array, Bounds


@ranged(
    latent=COUNT,
    maps=COUNT,
    generator_features=COUNT,
    discriminator_features=COUNT,
    dropout="[0, 1)",
)
class LAPGAN(nn.Module):
    """Generators of images of growing size, from coarse to fine, each with a discriminator.

        I_0 = x, I_{k+1} = d(I_k)                   d: the mean of 2 x 2 pixels
        l_k = u(I_{k+1})                            u: bilinear doubling
        sample: I_K = G_K(z_K), I_k = l_k + G_k(l_k, z_k)

    Level K is a `gan.GAN` of dense layers. At a finer level the generator adds details to the
    blurred image l_k, which both players receive: z_k is a further channel of it. The parameters
    have the parts generator_k and discriminator_k for k = 0, ..., K, the players of K + 1 games.

    shape: of x.
    halvings: K.
    latent: values of z_K; all noise is uniform in [-1, 1].
    maps: of the two convolutions of each net of a finer level.
    generator_features, discriminator_features, dropout: of level K, as in `gan.GAN`.
    activation: of all nets, a name in `activations.ACTIVATIONS`.

    Raises:
      UserError: height or width cannot be halved so often.

    Source: [denton2015], sec. 2.3. Its discriminators see the sum l_k + h_k; here l_k is a channel
    beside it, so that they know what was given.
    """

    predicts: ClassVar[str] = "real"
    input_bounds: ClassVar[Bounds] = (0, 1)

    shape: Sequence[int] = (28, 28, 1)
    halvings: int = 2
    latent: int = 100
    maps: int = 32
    generator_features: Sequence[int] = (256, 512)
    discriminator_features: Sequence[int] = (512, 256)
    dropout: Sequence[float] = ()
    activation: str = "leaky_relu"

    def setup(self) -> None:
        require_halvable(self.shape, self.halvings, field="model.halvings")
        finer, act = range(self.halvings), self.activation
        self.generator = [
            *(_Generator(self.shape[2], self.maps, act) for _ in finer),
            MLP(
                features=self.generator_features,
                num_classes=math.prod(self._size(self.halvings)),
                activation=act,
            ),
        ]
        self.discriminator = [
            *(_Discriminator(self.maps, act) for _ in finer),
            MLP(
                features=self.discriminator_features,
                num_classes=1,
                activation=act,
                dropout=self.dropout,
            ),
        ]

    def __call__(
        self, x: Array, low: Array | None = None, *, level: int = 0, train: bool = False
    ) -> tuple[Array, Extras]:
        """Images I_k of a level, and l_k -> logits f[B, 2] of generated and real, and extras.

        low: l_k, f[B, *D] as x; None for the blurred x itself.
        """
        if level == 0:
            check_shape(x, self.shape)
        if self.is_initializing() and level == 0:
            self._initialize(x, train=train)
        if level < self.halvings:
            low = doubled(halved(x)) if low is None else low
            x = jnp.concatenate([x, low], axis=-1)
        logit, extras = self.discriminator[level](2 * x - 1, train=train)
        return two_logits(logit), extras

    def band(self, x: Array, *, level: int) -> tuple[Array, Extras]:
        """f[B, *shape] -> I_k of a level, and {"low": l_k}; {} at the coarsest level."""
        for _ in range(level):
            x = halved(x)
        return x, {"low": doubled(halved(x))} if level < self.halvings else {}

    def generate(
        self, z: Sequence[Array], low: Array | None = None, *, level: int = 0, train: bool = False
    ) -> tuple[Array, Extras]:
        """Returns images I_k of a level, and the coarser {"level1": I_1, ...} that it generated.

        Args:
          z: z_k and, without `low`, those of all coarser levels.
          low: l_k; None to generate it. Only then the images are clipped to [0, 1]: a clipped pixel
            has no gradient.
        """
        own, *coarser = z
        if level == self.halvings:
            values, _ = self.generator[level](own, train=train)
            return nn.sigmoid(values).reshape(len(own), *self._size(level)), {}
        if low is not None:
            seen = jnp.concatenate([2 * low - 1, own], axis=-1)
            return low + jnp.tanh(self.generator[level](seen, train=train)[0]), {}
        image, extras = self.generate(coarser, level=level + 1, train=train)
        detailed, _ = self.generate([own], doubled(image), level=level, train=train)
        return jnp.clip(detailed, 0, 1), extras | {f"level{level + 1}": image}

    def sample(
        self, like: Array, low: Array | None = None, *, level: int = 0, train: bool = False
    ) -> tuple[Array, Extras]:
        """Returns `generate` for as many images as `like` has rows, from the key of noise."""
        last = level if low is not None else self.halvings
        keys = jax.random.split(self.make_rng("noise"), last + 1 - level)
        sizes = (self._noise_size(number) for number in range(level, last + 1))
        z = [noise(key, (len(like), *size), like) for key, size in zip(keys, sizes, strict=True)]
        return self.generate(z, low, level=level, train=train)

    def _initialize(self, x: Array, *, train: bool) -> None:
        """Runs all generators, and the discriminators of the coarser levels."""
        sizes = map(self._noise_size, range(self.halvings + 1))
        self.generate([jnp.zeros((len(x), *size), x.dtype) for size in sizes], train=train)
        for level in range(1, self.halvings + 1):
            self(self.band(x, level=level)[0], level=level, train=train)

    def _size(self, level: int) -> tuple[int, int, int]:
        """Returns the shape of I_k."""
        height, width, channels = self.shape
        return height >> level, width >> level, channels

    def _noise_size(self, level: int) -> tuple[int, ...]:
        """Returns the shape of z_k."""
        if level == self.halvings:
            return (self.latent,)
        return (*self._size(level)[:2], 1)


class _Generator(nn.Module):
    """f[B, H, W, C + 1] -> values f[B, H, W, C] before tanh, {"hidden1": f[B, H, W, maps], ...}."""

    channels: int
    maps: int
    activation: str

    @nn.compact
    def __call__(self, h: Array, *, train: bool) -> tuple[Array, Extras]:
        del train
        extras, act = {}, activation_fn(self.activation)
        for name in ("hidden1", "hidden2"):
            extras[name] = h = act(Conv(self.maps, (3, 3), "SAME", name=name)(h))
        return Conv(self.channels, (3, 3), "SAME", name="image")(h), extras


class _Discriminator(nn.Module):
    """f[B, H, W, 2 C] -> f[B, 1], {"hidden1": f[B, H / 2, W / 2, maps], ...}."""

    maps: int
    activation: str

    @nn.compact
    def __call__(self, h: Array, *, train: bool) -> tuple[Array, Extras]:
        del train
        extras, act = {}, activation_fn(self.activation)
        for name in ("hidden1", "hidden2"):
            extras[name] = h = act(Conv(self.maps, (5, 5), "SAME", 2, name=name)(h))
        return Flat(1, name="logits")(h), extras


def halved(x: Array) -> Array:
    """Returns the means of 2 x 2 pixels: f[B, H, W, C] -> f[B, H / 2, W / 2, C]."""
    batch, height, width, channels = x.shape
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels).mean((2, 4))


def doubled(x: Array) -> Array:
    """Returns images of twice the size, interpolated linearly: f[B, H, W, C] -> f[B, 2 H, 2 W, C].

    >>> doubled(jnp.array([0., 1.]).reshape(1, 1, 2, 1)).reshape(2, 4)[0]
    Array([0.  , 0.25, 0.75, 1.  ], dtype=float32)
    """
    batch, height, width, channels = x.shape
    return jax.image.resize(x, (batch, 2 * height, 2 * width, channels), "linear")
