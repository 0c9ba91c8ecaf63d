"""A convolutional generator of images, and its discriminator."""

from collections.abc import Sequence
from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from adv_jax.generative.models.gan import Adversaries, require_halvable
from adv_jax.models.batch_norm import BatchNorm
from adv_jax.models.convolution import Conv, ConvTranspose
from adv_jax.models.initializers import gaussian
from adv_jax.models.layered import Extras, Flat
from adv_jax.ranges import COUNT, ranged
from adv_jax.types import Array

WEIGHTS = gaussian(0.02)
_leaky_relu = partial(nn.leaky_relu, negative_slope=0.2)


@ranged(maps=COUNT)
class DCGAN(Adversaries):
    """A generator and a discriminator of images under the constraints of their source.

    There is no pooling: the discriminator halves images by convolutions of stride 2, and the
    generator doubles them by the transposes of such convolutions, all of 5 x 5 pixels. There is no
    dense hidden layer: z becomes the generator's first maps, and the discriminator's last maps its
    output. All layers are normalized by batch, but for the generator's output and the
    discriminator's input. The generator has rectified linear units and tanh, the discriminator
    leaky units of slope .2. Weights start from N(0, .02^2).

    maps: of the generator's layers, from the smallest images on; the discriminator has them in
      reverse order.
    shape, latent: as in `gan.Adversaries`; the generator's tanh is scaled to [0, 1].

    Statistics in "batch_stats" are those of the last batch: see `batch_norm.BatchNorm`.

    Raises:
      UserError: height or width cannot be halved as often as `maps` asks for.

    Sources: [radford2016], sec. 3 and 4; [wardefarley2016], sec. 1.4.4.
    """

    maps: Sequence[int] = (128, 64)

    def setup(self) -> None:
        require_halvable(self.shape, len(self.maps), field="model.maps")
        self.generator = _Generator(self.shape, self.maps)
        self.discriminator = _Discriminator(self.maps[::-1])

    def _images(self, values: Array) -> Array:
        return (1 + jnp.tanh(values)) / 2


class _Generator(nn.Module):
    """f[B, latent] -> values f[B, *shape] before tanh, {"hidden1": f[B, h, w, maps[0]], ...}."""

    shape: Sequence[int]
    maps: Sequence[int]

    @nn.compact
    def __call__(self, z: Array, *, train: bool) -> tuple[Array, Extras]:
        height, width = (size >> len(self.maps) for size in self.shape[:2])
        first, *others = self.maps
        units = height * width * first
        h = nn.Dense(units, use_bias=False, kernel_init=WEIGHTS, name="hidden1")(z)
        h, extras = h.reshape(len(z), height, width, first), {}
        for number, maps in enumerate([*others, self.shape[2]], start=1):
            h = nn.relu(BatchNorm(name=f"norm{number}")(h, train=train))
            extras[f"hidden{number}"] = h
            is_last = number == len(self.maps)
            name = "image" if is_last else f"hidden{number + 1}"
            h = ConvTranspose(maps, use_bias=is_last, kernel_init=WEIGHTS, name=name)(h)
        return h, extras


class _Discriminator(nn.Module):
    """f[B, H, W, C] -> f[B, 1], {"hidden1": f[B, H / 2, W / 2, maps[0]], ...}."""

    maps: Sequence[int]

    @nn.compact
    def __call__(self, h: Array, *, train: bool) -> tuple[Array, Extras]:
        extras = {}
        for number, maps in enumerate(self.maps, start=1):
            name = f"hidden{number}"
            is_first = number == 1
            conv = partial(Conv, maps, (5, 5), "SAME", 2, kernel_init=WEIGHTS, name=name)
            h = conv(use_bias=is_first)(h)
            if not is_first:
                h = BatchNorm(name=f"norm{number}")(h, train=train)
            extras[name] = h = _leaky_relu(h)
        return Flat(1, kernel_init=WEIGHTS, name="logits")(h), extras
