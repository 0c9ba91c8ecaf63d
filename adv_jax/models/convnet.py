"""Stages of convolutions and poolings, and full layers: the CIFAR-10 nets of the papers."""

from collections.abc import Sequence

import flax.linen as nn

from adv_jax.models.layered import Activated, LayerFn
from adv_jax.types import Array


class ConvNet(Activated):
    """Convolutions that keep the size, a pooling after each stage of them, full layers.

    A pooling takes the largest of 3 x 3 pixels in steps of 2 and halves the size, rounded up. Of an
    even size the last window lacks a row outside the image, so that 32 become 16; of an odd one the
    first and the last do, so that 7 become 4. Takes f[B, H, W, C].

    stages: the maps of each convolution, stage by stage. ((128, 128, 128), (256, 256, 256)) with
      kernel_size 3 is Huang's net, ((96,), (128,), (256,)) with 5 that of Srivastava et al.
    kernel_size: a convolution's weights along each axis.
    units: of the full layers.
    num_classes, activation, dropout, hidden_init, output_init, dtype: as in `layered.Activated`;
      dropout is of the input, of each convolution (after its pooling, if it has one) and of each
      full layer.

    Raises:
      ValueError: x is no batch of images f[B, H, W, C].

    Sources: [huang2015], sec. 7; [srivastava2014], with the pooling of their program.
    """

    stages: Sequence[Sequence[int]] = ((128, 128, 128), (256, 256, 256))
    kernel_size: int = 3
    units: Sequence[int] = (2048, 2048)

    def _hidden_layers(self) -> list[LayerFn]:
        maps = [
            (count, _pooled if i == len(stage) else _unpooled)
            for stage in self.stages
            for i, count in enumerate(stage, start=1)
        ]
        return [
            *(
                self._convolution(number, count, self.kernel_size, "SAME", pool)
                for number, (count, pool) in enumerate(maps, start=1)
            ),
            *(self._full(number, count) for number, count in enumerate(self.units, len(maps) + 1)),
        ]


def _pooled(x: Array) -> Array:
    return nn.max_pool(x, (3, 3), strides=(2, 2), padding="SAME")


def _unpooled(x: Array) -> Array:
    return x
