"""Residual networks of pre-activated blocks: PreAct-ResNet-18, WRN-28-10 and narrower ones."""

from collections.abc import Sequence
from typing import Literal

import flax.linen as nn
from flax.linen.initializers import Initializer

from adv_jax.models.activations import activation_fn
from adv_jax.models.batch_norm import BatchNorm
from adv_jax.models.convolution import Conv
from adv_jax.models.initializers import he
from adv_jax.models.layered import Layered, LayerFn
from adv_jax.ranges import COUNT, ranged
from adv_jax.types import Array


@ranged(stem=COUNT, stages=COUNT, blocks=COUNT)
class PreActResNet(Layered):
    """A 3x3 convolution, stages of residual blocks, and the mean over all pixels.

    Each stage after the first halves height and width. Takes f[B, H, W, C]. Hidden layers are the
    first convolution, each block, and the mean of the normalized, activated last maps.

    stem: maps of the first convolution.
    stages: maps of each stage's blocks.
    blocks: blocks in each stage.
    recompute: whether the backward pass computes the values inside each block again instead of
      storing them, by `jax.checkpoint`: for batches that do not fit into memory.
    activation: a name in `activations.ACTIVATIONS`.
    num_classes, dropout, hidden_init, output_init, dtype: as in `layered.Layered`.

    The defaults are PreAct-ResNet-18 for CIFAR-10, with 11.17 million parameters. WRN-28-10 is
    stem=16, stages=(160, 320, 640), blocks=4, with 36.48 million: 28 = 3 * 2 blocks + 4, and
    widths are 10 times 16, 32 and 64.

    Statistics in "batch_stats" are those of the last batch: see `batch_norm.BatchNorm`.

    Sources: [he2016], Fig. 4 (e); [zagoruyko2016], Table 1.
    """

    stem: int = 64
    stages: Sequence[int] = (64, 128, 256, 512)
    blocks: int = 2
    recompute: bool = False
    activation: str = "relu"
    hidden_init: Initializer = he()

    def _hidden_layers(self) -> list[LayerFn]:
        stem = Conv(
            self.stem,
            (3, 3),
            "SAME",
            use_bias=False,
            kernel_init=self.hidden_init,
            dtype=self.dtype,
            name="hidden1",
        )
        shapes = [
            (maps, 2 if stage and not block else 1)
            for stage, maps in enumerate(self.stages)
            for block in range(self.blocks)
        ]
        # The second argument of __call__ beside self, `train`, is no array.
        block = nn.remat(Block, static_argnums=2) if self.recompute else Block
        blocks = [
            block(*shape, self.activation, self.hidden_init, self.dtype, name=f"hidden{number}")
            for number, shape in enumerate(shapes, start=2)
        ]
        mean = _Mean(self.activation, name=f"hidden{len(shapes) + 2}")
        layers = [lambda h, *, train, block=block: block(h, train) for block in blocks]
        return [lambda x, *, train: stem(x), *layers, mean]


class Block(nn.Module):
    """h + C2 a(N2 C1 a(N1 h)): convolutions C of 3x3, normalizations N and the activation a.

    If it changes the number of maps or the size, the shortcut is a 1x1 convolution of a(N1 h)
    instead of h.

    maps: of both convolutions.
    stride: of the first convolution and the shortcut.
    """

    maps: int
    stride: int = 1
    activation: str = "relu"
    kernel_init: Initializer = he()
    dtype: Literal["bfloat16"] | None = None

    @nn.compact
    def __call__(self, h: Array, train: bool) -> Array:
        """f[B, H, W, C] -> f[B, H / stride, W / stride, maps], rounded up."""

        def conv(name: str, size: int, stride: int) -> Conv:
            return Conv(
                self.maps,
                (size, size),
                "SAME",
                stride,
                use_bias=False,
                kernel_init=self.kernel_init,
                dtype=self.dtype,
                name=name,
            )

        def activated(name: str, h: Array) -> Array:
            return activation_fn(self.activation)(BatchNorm(name=name)(h, train=train))

        a = activated("norm1", h)
        if self.stride > 1 or self.maps != h.shape[-1]:
            h = conv("shortcut", 1, 1)(a[:, :: self.stride, :: self.stride])
        a = activated("norm2", conv("conv1", 3, self.stride)(a))
        return h + conv("conv2", 3, 1)(a)


class _Mean(nn.Module):
    """Normalizes and activates, then averages over pixels: f[B, H, W, C] -> f[B, C]."""

    activation: str

    @nn.compact
    def __call__(self, h: Array, *, train: bool) -> Array:
        h = activation_fn(self.activation)(BatchNorm(name="norm")(h, train=train))
        return h.mean((1, 2))
