"""Maxout nets: a unit is the largest of a few linear functions of its input."""

from collections.abc import Sequence
from functools import partial

import flax.linen as nn

from adv_jax.models.convolution import Conv
from adv_jax.models.layered import Flat, Layer, Layered
from adv_jax.types import Array


class Maxout(Layered):
    """Full hidden layers of maxout units, h'_i = max_j (W_ij . h + b_ij), then the logits.

    features: units of the hidden layers.
    pieces: linear functions j of each unit; their weights are neighbouring columns of the kernel.
    num_classes, dropout, hidden_init, output_init: as in `layered.Layered`.

    Source: Goodfellow et al. 2013a, sec. 2 and 5.1: on MNIST 2 layers of 240 units with 5 pieces.
    """

    features: Sequence[int] = (240, 240)
    pieces: int = 5

    def _hidden_layers(self) -> list[Layer]:
        def layer(number: int, units: int) -> Layer:
            name = f"hidden{number}"
            linear = Flat(units * self.pieces, kernel_init=self.hidden_init, name=name)
            return lambda h: _largest(linear(h), self.pieces)

        return [layer(number, units) for number, units in enumerate(self.features, start=1)]


class MaxoutConvNet(Layered):
    """Convolutions of maxout maps, each followed by overlapping max-pooling, then the logits.

    The first convolution keeps to the image, the others keep its size (zeros outside). A pooling
    goes in steps of 2, and takes what is left at the border: with the numbers below 28 x 28 pixels
    become 11 x 11, 6 x 6 and 3 x 3. Takes f[B, H, W, C].

    maps, kernel_sizes, pieces, pools: of each layer, the maps, the convolution's weights along an
      axis, the linear functions of a unit, and the pixels along an axis of which a pooling takes
      the largest.
    num_classes, dropout, hidden_init, output_init: as in `layered.Layered`.

    Raises:
      ValueError: x is no batch of images; lists of different lengths.

    Source: Goodfellow et al. 2013a, sec. 5.1, the numbers being those of their program for MNIST,
    which pads the later layers by 3.
    """

    maps: Sequence[int] = (48, 48, 24)
    kernel_sizes: Sequence[int] = (8, 8, 5)
    pieces: Sequence[int] = (2, 2, 4)
    pools: Sequence[int] = (4, 4, 2)

    def _hidden_layers(self) -> list[Layer]:
        def layer(number: int, maps: int, size: int, pieces: int, pool: int) -> Layer:
            padding = "VALID" if number == 1 else "SAME"
            name = f"hidden{number}"
            kernel = (size, size)
            conv = Conv(maps * pieces, kernel, padding, kernel_init=self.hidden_init, name=name)
            pooled = partial(nn.max_pool, window_shape=(pool, pool), strides=(2, 2), padding="SAME")
            return lambda h: pooled(_largest(conv(h), pieces))

        lists = zip(self.maps, self.kernel_sizes, self.pieces, self.pools, strict=True)
        return [layer(number, *of_layer) for number, of_layer in enumerate(lists, start=1)]


def _largest(h: Array, pieces: int) -> Array:
    """The largest of each `pieces` neighbours: f[..., units * pieces] -> f[..., units]."""
    return h.reshape(*h.shape[:-1], -1, pieces).max(axis=-1)
