"""Convolutional nets of the papers: stages of convolutions, then dense layers."""

from collections.abc import Sequence
from typing import Literal

import flax.linen as nn

from adv_jax.convolution import max_pool_2x2
from adv_jax.models.layered import Activated, LayerFn
from adv_jax.types import Array


class ConvNet(Activated):
    """Stages of convolutions with a max-pooling after each stage, then dense layers.

    Takes f[B, H, W, C].

    stages: the maps of each convolution, stage by stage. ((128, 128, 128), (256, 256, 256)) with
      kernel_size 3 is the net of [huang2015], ((96,), (128,), (256,)) with 5 that of
      [srivastava2014]; ((32, 32), (64, 64)) with 3, VALID, a pool of 2 and units (200, 200) is the
      net of [zhang2019] for MNIST.
    kernel_size: height and width of the kernels.
    padding: of the convolutions.
    pool: height and width of the max-pooling, of stride 2: 3 with SAME padding, 32 -> 16, 7 -> 4;
      2 without padding, 24 -> 12, 7 -> 3.
    units: of the dense layers.
    num_classes, activation, dropout, hidden_init, output_init, dtype: as in `layered.Activated`;
      dropout rates of the input, each convolution (after its pooling, if any) and each dense layer.

    Raises:
      ValueError: x is not f[B, H, W, C].

    Sources: [huang2015], sec. 7; [srivastava2014], with the pooling of their program; [zhang2019],
    `SmallCNN` of their program.
    """

    stages: Sequence[Sequence[int]] = ((128, 128, 128), (256, 256, 256))
    kernel_size: int = 3
    units: Sequence[int] = (2048, 2048)
    padding: Literal["SAME", "VALID"] = "SAME"
    pool: Literal[2, 3] = 3

    def _hidden_layers(self) -> list[LayerFn]:
        pooled = {2: max_pool_2x2, 3: _max_pool_3x3}[self.pool]
        maps = [
            (count, pooled if i == len(stage) else _unpooled)
            for stage in self.stages
            for i, count in enumerate(stage, start=1)
        ]
        return [
            *(
                self._convolution(number, count, self.kernel_size, self.padding, pool)
                for number, (count, pool) in enumerate(maps, start=1)
            ),
            *(self._full(number, count) for number, count in enumerate(self.units, len(maps) + 1)),
        ]


def _max_pool_3x3(x: Array) -> Array:
    return nn.max_pool(x, (3, 3), strides=(2, 2), padding="SAME")


def _unpooled(x: Array) -> Array:
    return x
