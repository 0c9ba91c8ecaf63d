"""Maxout nets: a unit is the maximum of a few linear functions of its input."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp

from adv_jax.models.layered import Layered, LayerFn
from adv_jax.ranges import COUNT, ranged
from adv_jax.types import Array, UserError


class Maxed(Layered):
    """A sequential net with dense layers of maxout units."""

    def _full(self, number: int, units: int, pieces: int) -> LayerFn:
        """Returns a dense hidden layer over all values of a row."""
        linear = self._linear(number, units * pieces)
        return lambda h, *, train: _largest(linear(h), pieces)


@ranged(features=COUNT, pieces=COUNT)
class Maxout(Maxed):
    """Dense hidden layers of maxout units, h'_i = max_j (W_ij . h + b_ij), then the logits.

    features: units of the hidden layers.
    pieces: linear functions j of each unit; their weights are adjacent columns of the kernel.
    num_classes, dropout, hidden_init, output_init, dtype: as in `layered.Layered`.

    Source: [goodfellow2013], sec. 2 and 5.1: on MNIST 2 layers of 240 units with 5 pieces.
    """

    features: Sequence[int] = (240, 240)
    pieces: int = 5

    def _hidden_layers(self) -> list[LayerFn]:
        return [self._full(i, units, self.pieces) for i, units in enumerate(self.features, start=1)]


@ranged(
    maps=COUNT,
    kernel_sizes=COUNT,
    pads="{0, 1, ...}",
    pieces=COUNT,
    pools="{2, 3, ...}",
    units=COUNT,
    unit_pieces=COUNT,
)
class MaxoutConvNet(Maxed):
    """Convolutions of maxout maps, each followed by overlapping max-pooling, then dense layers.

    Max-pooling has stride 2 and covers the last pixel: with the defaults 28 x 28 pixels become
    10 x 10, 4 x 4 and 3 x 3. Takes f[B, H, W, C].

    maps, kernel_sizes, pads, pieces, pools: of each layer, the maps, the size of the kernel, the
      zeros on each side of its input, the linear functions per unit, and the size of the pooling
      window, at least 2.
    units, unit_pieces: maxout units of the dense layers, and their linear functions.
    num_classes, dropout, hidden_init, output_init, dtype: as in `layered.Layered`.

    Raises:
      UserError: x is not a batch of images; lists of different lengths.

    Source: [goodfellow2013], sec. 5.1 and 5.2, the numbers and the pooling being those of
    their program for MNIST, Pylearn2's mnist.yaml and cuda-convnet.
    """

    maps: Sequence[int] = (48, 48, 24)
    kernel_sizes: Sequence[int] = (8, 8, 5)
    pads: Sequence[int] = (0, 3, 3)
    pieces: Sequence[int] = (2, 2, 4)
    pools: Sequence[int] = (4, 4, 2)
    units: Sequence[int] = ()
    unit_pieces: int = 5

    def _hidden_layers(self) -> list[LayerFn]:
        def layer(number: int, maps: int, size: int, pad: int, pieces: int, pool: int) -> LayerFn:
            conv = self._conv(number, maps * pieces, size)
            return lambda h, *, train: _pooled(_largest(conv(_framed(h, pad)), pieces), pool)

        lists = (self.maps, self.kernel_sizes, self.pads, self.pieces, self.pools)
        if len({*map(len, lists)}) > 1:
            found = ", ".join(str(len(entries)) for entries in lists)
            raise UserError(
                "model.maps, kernel_sizes, pads, pieces and pools must have one entry per layer "
                f"each, got {found}"
            )
        layers = zip(*lists, strict=True)
        return [
            *(layer(number, *of_one) for number, of_one in enumerate(layers, start=1)),
            *(
                self._full(number, units, self.unit_pieces)
                for number, units in enumerate(self.units, len(self.maps) + 1)
            ),
        ]


def _framed(h: Array, width: int) -> Array:
    """Pads with zeros: f[B, H, W, C] -> f[B, H + 2 width, W + 2 width, C]."""
    margins = [(width, width)] * (h.ndim - 2)  # The convolution refuses another number of axes.
    return jnp.pad(h, ((0, 0), *margins, (0, 0))) if width else h


def _pooled(h: Array, size: int) -> Array:
    """Returns size x size max-pooling of stride 2: f[B, H', W', C].

    H' = ceil((H - size) / 2) + 1, at least 1, likewise W'; the last window may be cut.
    """
    outside = [(0, max(size - n, (n - size) % 2)) for n in h.shape[1:3]]
    return nn.max_pool(h, (size, size), strides=(2, 2), padding=outside)


def _largest(h: Array, pieces: int) -> Array:
    """Returns the maximum of each `pieces` neighbors: f[..., units * pieces] -> f[..., units]."""
    return h.reshape(*h.shape[:-1], -1, pieces).max(axis=-1)
