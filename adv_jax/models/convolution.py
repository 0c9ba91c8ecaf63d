"""The convolutional layer of our models."""

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


def _strided(x: Array, kernel: Array, padding: Padding, stride: int) -> Array:
    """Returns `conv(x, kernel, padding=padding)[:, ::stride, ::stride]`, without the others."""
    margins = [MARGINS[padding](size) for size in kernel.shape[:2]]
    axes = ("NHWC", "HWIO", "NHWC")

    def strided(x: Array, kernel: Array) -> Array:
        return jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), margins, dimension_numbers=axes
        )

    return fast_in_loops(strided)(x, kernel)
