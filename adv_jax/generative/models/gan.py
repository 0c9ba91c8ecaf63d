"""Generators of images, each with the discriminator that it is trained against."""

import math
from collections.abc import Sequence
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from adv_jax.losses import as_classes
from adv_jax.models.checks import check_shape
from adv_jax.models.layered import Extras
from adv_jax.models.mlp import MLP
from adv_jax.ranges import COUNT, ranged
from adv_jax.types import Array, Bounds, UserError


@ranged(latent=COUNT)
class Adversaries(nn.Module):
    """Base class of a generator of images and a discriminator.

    Subclasses define the submodules `generator` and `discriminator`, which are the players of a
    game: the parameters have these two parts. `given` is what both receive besides the latent
    values or the image, such as labels.

    shape: of an image.
    latent: values of z, the generator's input, uniform in [-1, 1].
    """

    predicts: ClassVar[str] = "real"
    input_bounds: ClassVar[Bounds] = (0, 1)

    shape: Sequence[int] = (28, 28, 1)
    latent: int = 100

    def __call__(self, x: Array, *given: Array, train: bool = False) -> tuple[Array, Extras]:
        """f[B, *D] -> logits f[B, 2] of a generated (0) and a real image (1), and extras."""
        logit, extras = self._judge(x, *given, train=train)
        return two_logits(logit), extras

    def _judge(self, x: Array, *given: Array, train: bool) -> tuple[Array, Extras]:
        """Returns the outputs of the discriminator for images, and extras."""
        check_shape(x, self.shape)
        if self.is_initializing():
            self.generate(jnp.zeros((len(x), self.latent), x.dtype), *given, train=train)
        # Centered, so that dark pixels move the weights, too.
        return self.discriminator(self._joined(2 * x - 1, *given), train=train)

    def generate(self, z: Array, *given: Array, train: bool = False) -> Array:
        """f[B, latent] -> images f[B, *shape] in [0, 1]."""
        values, _ = self.generator(self._joined(z, *given), train=train)
        return self._images(values)

    def sample(self, like: Array, *given: Array, train: bool = False) -> Array:
        """Returns as many images as `like` has rows, from the key of noise."""
        check_shape(like, self.shape)
        z = noise(self.make_rng("noise"), (len(like), self.latent), like)
        return self.generate(z, *given, train=train)

    def _joined(self, values: Array, *given: Array) -> Array:
        """Returns the input of a player: values f[B, *E] and what is given."""
        if given:
            name = type(self).__name__
            raise UserError(f"model must receive labels, as conditional_gan does, got {name}")
        return values

    def _images(self, values: Array) -> Array:
        """Returns the images of the generator's output."""
        return nn.sigmoid(values).reshape(len(values), *self.shape)


@ranged(generator_features=COUNT, discriminator_features=COUNT, dropout="[0, 1)")
class GAN(Adversaries):
    """A generator and a discriminator of images, both of dense layers.

    shape, latent: as in `Adversaries`.
    generator_features, discriminator_features: units of the hidden layers.
    activation: of both, a name in `activations.ACTIVATIONS`.
    dropout: of the discriminator, as in `layered.Layered`.

    Source: [goodfellow2014], sec. 5.
    """

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


@ranged(num_classes=COUNT)
class ConditionalGAN(GAN):
    """A generator of images of a class, and a discriminator of images with their labels.

    Both players receive the label as K further inputs, sqrt(n) for the class and 0 for the others,
    n the number of pixels or of latent values. Without labels an image has the score of its best
    label.

    num_classes: K.
    shape, latent, generator_features, discriminator_features, activation, dropout: as in `GAN`.

    Source: [mirza2014], sec. 3.2 and 4.1; their nets join image and label after a hidden layer.
    """

    num_classes: int = 10

    def __call__(
        self, x: Array, y: Array | None = None, *, train: bool = False
    ) -> tuple[Array, Extras]:
        """f[B, *D], labels i32[B] -> logits f[B, 2] as in `GAN`, and extras; {} without labels.

        Raises:
          UserError: there are no labels in training.
        """
        if y is not None:
            return super().__call__(x, y, train=train)
        if train and not self.is_initializing():
            raise UserError("y must be the labels of the images in training, got None")
        every = jnp.tile(jnp.arange(self.num_classes), len(x))
        logits, _ = super().__call__(jnp.repeat(x, self.num_classes, axis=0), every, train=train)
        scores = logits[:, 1].reshape(len(x), self.num_classes)
        return two_logits(scores.max(axis=1, keepdims=True)), {}

    def sample(self, like: Array, *given: Array, train: bool = False) -> Array:
        """Returns images of the labels i32[B], or of random labels, one for each row of `like`."""
        if not given:
            key = self.make_rng("noise")
            given = (jax.random.randint(key, (len(like),), 0, self.num_classes, jnp.int32),)
        return super().sample(like, *given, train=train)

    def _joined(self, values: Array, *given: Array) -> Array:
        y = as_classes(given[0], self.num_classes, name="y")
        rows = values.reshape(len(values), -1)
        if len(y) != len(rows):
            raise UserError(f"y must be one label for each of {len(rows)} rows, got {len(y)}")
        # As strong as all values together, so that players do not ignore it beside 784 pixels.
        label = rows.shape[1] ** 0.5 * jax.nn.one_hot(y, self.num_classes, dtype=rows.dtype)
        return jnp.concatenate([rows, label], axis=1)


@ranged(num_classes=COUNT)
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


def two_logits(score: Array) -> Array:
    """Returns logits f[B, 2] of a generated (0) and a real image (1) from log D / (1 - D)."""
    return jnp.concatenate([jnp.zeros_like(score), score], axis=1)


def noise(key: Array, shape: Sequence[int], like: Array) -> Array:
    """Draws latent values uniformly from [-1, 1], in the dtype of `like`."""
    return jax.random.uniform(key, shape, like.dtype, -1, 1)


def require_halvable(shape: Sequence[int], times: int, *, field: str) -> None:
    """Raises UserError unless images can be halved so often, at least once; `field` says it."""
    if times < 1:
        raise UserError(f"{field} must halve images at least once, got {times} halvings")
    if len(shape) != 3 or any(size % 2**times for size in shape[:2]):
        raise UserError(
            f"model.shape must be (height, width, channels) with sizes that are multiples of "
            f"{2**times}, to be halved {times} times, got {tuple(shape)}"
        )
