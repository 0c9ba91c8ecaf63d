"""Convolutional nets of the papers: stages of convolutions, then dense layers."""

from collections.abc import Sequence
from functools import partial
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.initializers import Initializer

from adv_jax.convolution import max_pool_2x2
from adv_jax.models.activations import activation_fn
from adv_jax.models.convolution import Conv
from adv_jax.models.initializers import fan_in
from adv_jax.models.layered import Activated, LayerFn, Pool
from adv_jax.ranges import COUNT, ranged
from adv_jax.types import Array, UserError


@ranged(stages=COUNT, kernel_size=COUNT, units=COUNT)
class ConvNet(Activated):
    """Stages of convolutions or inception blocks, a pooling after each stage, then dense layers.

    Takes f[B, H, W, C].

    stages: stage by stage, the maps of each convolution, or the six numbers of an `Inception`
      block. ((128, 128, 128), (256, 256, 256)) with kernel_size 3 is the net of [huang2015],
      ((96,), (128,), (256,)) with 5 that of [srivastava2014]; ((32, 32), (64, 64)) with 3, VALID, a
      pool of 2 and units (200, 200) is the net of [zhang2019] for MNIST.
    kernel_size: height and width of the kernels, but for those in inception blocks.
    padding: of the convolutions, but for those in inception blocks, which keep the size.
    pool: height and width of the pooling, of stride 2: 3 with SAME padding, 32 -> 16, 7 -> 4;
      2 without padding, 24 -> 12, 7 -> 3.
    pooling: "max", or "average" over the pixels of the image in each window.
    units: of the dense layers.
    num_classes, activation, dropout, dropconnect, hidden_init, output_init, dtype: as in
      `layered.Activated`; dropout rates of the input, each convolution or block (after its pooling,
      if any) and each dense layer.

    Raises:
      UserError: x is not f[B, H, W, C]; an empty stage; a block without six numbers.

    Sources: [huang2015], sec. 7; [srivastava2014], with the pooling of their program; [zhang2019],
    `SmallCNN` of their program.
    """

    stages: Sequence[Sequence[int | Sequence[int]]] = ((128, 128, 128), (256, 256, 256))
    kernel_size: int = 3
    units: Sequence[int] = (2048, 2048)
    padding: Literal["SAME", "VALID"] = "SAME"
    pool: Literal[2, 3] = 3
    pooling: Literal["max", "average"] = "max"

    def _hidden_layers(self) -> list[LayerFn]:
        if not all(self.stages):
            raise UserError(f"each of model.stages must have a convolution, got {self.stages}")
        pool = _POOLS[self.pooling, self.pool]
        maps = [
            (count, pool if i == len(stage) else _unpooled)
            for stage in self.stages
            for i, count in enumerate(stage, start=1)
        ]
        return [
            *(self._layer(number, *layer) for number, layer in enumerate(maps, start=1)),
            *(self._full(number, count) for number, count in enumerate(self.units, len(maps) + 1)),
        ]

    def _layer(self, number: int, maps: int | Sequence[int], pool: Pool) -> LayerFn:
        """Returns a convolution or an inception block, and its pooling."""
        if not isinstance(maps, int):
            init, name = self.hidden_init, f"hidden{number}"
            block = Inception(maps, self.activation, init, self.dtype, name=name)
            return lambda h, *, train: pool(block(h))
        if self.pooling == "max":
            return self._convolution(number, maps, self.kernel_size, self.padding, pool)
        layer = self._convolution(number, maps, self.kernel_size, self.padding, _unpooled)
        return lambda h, *, train: pool(layer(h, train=train))


class Inception(nn.Module):
    """Four branches side by side, whose maps are the block's: f[B, H, W, C] -> f[B, H, W, C'].

    They are 1x1 convolutions; 3x3 and 5x5 convolutions after a reduction by 1x1; and 1x1 after 3x3
    max-pooling of stride 1. The activation follows each convolution.

    maps: of the 1x1; of the reduction, the 3x3; of the reduction, the 5x5; of the 1x1 after the
      pooling: six numbers in the order of the source's Table 1.

    Raises:
      UserError: maps has no six numbers.

    Source: [szegedy2015], Fig. 2 (b).
    """

    maps: Sequence[int]
    activation: str = "relu"
    kernel_init: Initializer = fan_in()
    dtype: Literal["bfloat16"] | None = None

    @nn.compact
    def __call__(self, h: Array) -> Array:
        if len(self.maps) != 6:
            branches = "1x1, reduction, 3x3, reduction, 5x5, pooling"
            found = f"got {tuple(self.maps)}"
            raise UserError(f"a block in model.stages must have 6 numbers ({branches}), {found}")
        one, reduce3, three, reduce5, five, pooled = self.maps

        def conv(name: str, maps: int, size: int, h: Array) -> Array:
            settings = {"kernel_init": self.kernel_init, "dtype": self.dtype, "name": name}
            return activation_fn(self.activation)(Conv(maps, (size, size), "SAME", **settings)(h))

        branches = [
            conv("one", one, 1, h),
            conv("three", three, 3, conv("reduce3", reduce3, 1, h)),
            conv("five", five, 5, conv("reduce5", reduce5, 1, h)),
            conv("pooled", pooled, 1, nn.max_pool(h, (3, 3), padding="SAME")),
        ]
        return jnp.concatenate(branches, axis=-1)


def _unpooled(x: Array) -> Array:
    return x


def _average(x: Array, size: int, padding: str) -> Array:
    """Returns the mean of the pixels of the image in each size x size window of stride 2."""

    def total(x: Array) -> Array:
        return nn.pool(x, 0.0, jax.lax.add, (size, size), (2, 2), padding)

    return total(x) / total(jnp.ones_like(x[:1]))


_POOLS: dict[tuple[str, int], Pool] = {
    ("max", 2): max_pool_2x2,
    ("max", 3): partial(nn.max_pool, window_shape=(3, 3), strides=(2, 2), padding="SAME"),
    ("average", 2): partial(_average, size=2, padding="VALID"),
    ("average", 3): partial(_average, size=3, padding="SAME"),
}
