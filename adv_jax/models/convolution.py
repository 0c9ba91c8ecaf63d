"""The convolutional layer of our models."""

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from flax.linen.initializers import Initializer

from adv_jax.convolution import Padding, conv
from adv_jax.models.initializers import fan_in
from adv_jax.types import Array


class Conv(nn.Module):
    """`conv` with a bias for each map: f[B, H, W, C] -> f[B, H', W', features].

    features: O, the number of maps.
    kernel_size: (kh, kw).
    padding: as in `conv`.
    kernel_init: of the kernel as a matrix f32[kh * kw * C, O]; biases start at 0.
    dtype: of the arithmetic; None: the promoted dtype of x and the weights.
    """

    features: int
    kernel_size: tuple[int, int]
    padding: Padding = "VALID"
    kernel_init: Initializer = fan_in()
    dtype: Literal["bfloat16"] | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """f[B, H, W, C] -> f[B, H', W', features]."""
        kh, kw = self.kernel_size
        shape = (kh * kw * x.shape[-1], self.features)
        init = lambda key: self.kernel_init(key, shape).reshape(kh, kw, -1, self.features)
        kernel = self.param("kernel", init)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        return conv(x, kernel, padding=self.padding) + bias[None, None, None]
