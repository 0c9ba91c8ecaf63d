"""The convolutional layers of our models."""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from flax.linen.initializers import Initializer

from adv_jax.convolution import MARGINS, Padding, conv, fast_in_loops
from adv_jax.models.initializers import fan_in
from adv_jax.types import Array


class Conv(nn.Module):
    """`conv` with a bias for each map: f[B, H, W, C] -> f[B, H', W', features].

    features: O, the number of maps.
    kernel_size: (kh, kw).
    padding: as in `conv`.
    stride: keeps every stride-th row and column of the result, from the first.
    use_bias: whether there is a bias.
    kernel_init: of the kernel as a matrix f32[kh * kw * C, O]; biases start at 0.
    dtype: of the arithmetic; None: the promoted dtype of x and the weights.
    """

    features: int
    kernel_size: tuple[int, int]
    padding: Padding = "VALID"
    stride: int = 1
    use_bias: bool = True
    kernel_init: Initializer = fan_in()
    dtype: Literal["bfloat16"] | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """f[B, H, W, C] -> f[B, H', W', features]."""
        kh, kw = self.kernel_size
        shape = (kh * kw * x.shape[-1], self.features)
        init = lambda key: self.kernel_init(key, shape).reshape(kh, kw, -1, self.features)
        kernel = self.param("kernel", init)
        x, kernel = promote_dtype(x, kernel, dtype=self.dtype)
        if self.stride == 1:
            y = conv(x, kernel, padding=self.padding)
        else:
            y = _strided(x, kernel, self.padding, self.stride)
        if not self.use_bias:
            return y
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        return y + bias.astype(y.dtype)[None, None, None]


class ConvTranspose(nn.Module):
    """The transpose of `Conv(C, (5, 5), "SAME", stride=2)`: f[B, H, W, C] -> f[B, 2 H, 2 W, O].

        y[b, p, q, o] = sum_{i, j, c} x[b, i, j, c] kernel[p - 2 i + 2, q - 2 j + 2, c, o]

    It is also called a fractionally strided convolution.

    features: O, the number of maps.
    use_bias: whether there is a bias for each map.
    kernel_init: of the kernel as a matrix f32[25 * C, O]; biases start at 0.
    """

    features: int
    use_bias: bool = True
    kernel_init: Initializer = fan_in()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """f[B, H, W, C] -> f[B, 2 H, 2 W, features]."""
        shape = (25 * x.shape[-1], self.features)
        init = lambda key: self.kernel_init(key, shape).reshape(5, 5, -1, self.features)
        y = _doubled(*promote_dtype(x, self.param("kernel", init)))
        if not self.use_bias:
            return y
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        return y + bias.astype(y.dtype)[None, None, None]


def _doubled(x: Array, kernel: Array) -> Array:
    """Computes `ConvTranspose` as a convolution of stride 1, which is fast in loops.

    Rows and columns of the result are even or odd, each with its own part of the kernel: the four
    parts make four times as many maps, of which each group of four pixels takes its own.
    """
    (batch, height, width, channels), maps = x.shape, kernel.shape[3]
    parts = jnp.pad(kernel, ((0, 1), (0, 1), (0, 0), (0, 0)))
    parts = parts.reshape(3, 2, 3, 2, channels, maps)[::-1, :, ::-1]  # row, odd, column, odd
    parts = parts.transpose(0, 2, 4, 1, 3, 5).reshape(3, 3, channels, 4 * maps)
    y = conv(x, parts, padding="SAME").reshape(batch, height, width, 2, 2, maps)
    return y.transpose(0, 1, 3, 2, 4, 5).reshape(batch, 2 * height, 2 * width, maps)


def _strided(x: Array, kernel: Array, padding: Padding, stride: int) -> Array:
    """Returns `conv(x, kernel, padding=padding)[:, ::stride, ::stride]`, without the others."""
    margins = [MARGINS[padding](size) for size in kernel.shape[:2]]
    axes = ("NHWC", "HWIO", "NHWC")

    def strided(x: Array, kernel: Array) -> Array:
        return jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), margins, dimension_numbers=axes
        )

    return fast_in_loops(strided)(x, kernel)
