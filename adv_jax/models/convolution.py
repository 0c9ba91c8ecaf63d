"""Convolution and max-pooling of images that are fast inside `lax` loops, on every platform.

Images are batches f[B, H, W, C] and kernels f[kh, kw, C, O], as in Flax.

On CPUs, XLA's convolution is slow in a loop unless its operands have one order of axes, which
those of its gradients do not have. There a convolution is one of three, with explicit derivatives,
by which axis is best the last in memory, so that long runs of it are copied:

- of few channels, a matrix product with the batch last, where XLA keeps it from layer to layer;
- of an image into many maps, a matrix product with the maps last;
- of many channels, XLA's convolution of a few images at a time, as patches would be too large.
"""

import itertools
import math
from functools import partial
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from flax.linen.initializers import Initializer

from adv_jax.models.initializers import fan_in
from adv_jax.types import Array

Padding = Literal["VALID", "SAME", "FULL"]
Margins = tuple[tuple[int, int], tuple[int, int]]  # zeros around an image, in height and in width

# Channels on both sides from which `_wide_conv` is the faster, forward and back, and the number of
# images it takes at a time, so that they stay in a cache: measured with 3 x 3 and 5 x 5 kernels.
_WIDE, _IMAGES = 32, 4
_COLOURS = 4  # Channels up to which an image is cheap to have with its channels first.

# Size of the kernel -> zeros before and after the image.
_MARGINS = {
    "VALID": lambda k: (0, 0),
    "SAME": lambda k: ((k - 1) // 2, k // 2),
    "FULL": lambda k: (k - 1, k - 1),
}


class Conv(nn.Module):
    """`conv` with a bias for each map: f[B, H, W, C] -> f[B, H', W', features].

    features: O, the number of maps.
    kernel_size: (kh, kw).
    padding: as in `conv`.
    kernel_init: of the kernel as a matrix of weights f32[kh * kw * C, O]; biases begin at 0.
    dtype: of the arithmetic; None: that to which x and the weights promote.
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
        return conv(x, kernel, padding=self.padding) + bias


def conv(x: Array, kernel: Array, *, padding: Padding) -> Array:
    """Convolution of stride 1, as networks mean it: the kernel is not flipped.

        y[b, i, j, o] = sum_{u, v, c} x[b, i + u, j + v, c] kernel[u, v, c, o],   x 0 outside

    Equal to `lax.conv_general_dilated` up to rounding. It has gradients of any order by reverse
    mode (`grad`, `vjp`), none by forward mode (`jvp`).

    Args:
      x: f[B, H, W, C].
      kernel: f[kh, kw, C, O].
      padding: "VALID", no zeros: H' = H - kh + 1; "SAME": H' = H, an odd zero comes last;
        "FULL", wherever kernel and image overlap: H' = H + kh - 1. Likewise W'.

    Returns:
      f[B, H', W', O] of the dtype to which x and kernel promote.

    Raises:
      ValueError: unknown padding; x or kernel of a wrong shape; no room for the kernel.

    >>> x, edge = jnp.array([[[[1.], [2.], [4.]]]]), jnp.array([[[[-1.]], [[1.]]]])
    >>> conv(x, edge, padding="SAME").ravel()
    Array([ 1.,  2., -4.], dtype=float32)
    """
    if padding not in _MARGINS:
        raise ValueError(f"padding is {padding!r}; allowed are {', '.join(_MARGINS)}")
    if x.ndim != 4 or kernel.ndim != 4 or x.shape[3] != kernel.shape[2]:
        raise ValueError(
            "x and kernel must be f[B, H, W, C] and f[kh, kw, C, O], "
            f"got the shapes {x.shape} and {kernel.shape}"
        )
    kh, kw = kernel.shape[:2]
    margins = (_MARGINS[padding](kh), _MARGINS[padding](kw))
    height, width = (n + sum(m) for n, m in zip(x.shape[1:3], margins, strict=True))
    if height < kh or width < kw:
        raise ValueError(f"a kernel {kernel.shape[:2]} has no room in an image {x.shape[1:3]}")
    dtype = jnp.result_type(x, kernel)
    x, kernel = x.astype(dtype), kernel.astype(dtype)

    def on_cpu(x: Array, kernel: Array) -> Array:
        channels, maps = kernel.shape[2:]
        if (kh, kw) == (1, 1):
            return _product(x, kernel[0, 0]).astype(dtype)
        if min(channels, maps) >= _WIDE:
            return _wide_conv(margins, x, kernel)
        if maps >= _WIDE and channels <= _COLOURS:
            return _widening_conv(_padded(x, margins), kernel)
        return _matrix_conv(_padded(x, margins), kernel)

    default = lambda x, kernel: _lax_conv(_padded(x, margins), kernel)
    return jax.lax.platform_dependent(x, kernel, cpu=on_cpu, default=default)


def max_pool_2x2(x: Array) -> Array:
    """Largest of each 2 x 2 pixels: f[B, H, W, C] -> f[B, H // 2, W // 2, C].

    An odd row or column at the end is left out. The gradient goes to one pixel of the four, the
    first of equals in the order of reading, as in PyTorch. A NaN stays a NaN.

    >>> x = jnp.array([[1., 2.], [3., 3.]]).reshape(1, 2, 2, 1)
    >>> max_pool_2x2(x).item(), jax.grad(lambda x: max_pool_2x2(x).sum())(x).ravel()
    (3.0, Array([0., 0., 1., 0.], dtype=float32))
    """
    _, height, width, channels = x.shape
    x = x[:, : height // 2 * 2, : width // 2 * 2]
    # Whichever axis is last in memory around here.
    return _pool(x) if channels >= _WIDE else _batch_last(_pool(_batch_last(x)))


def _padded(x: Array, margins: Margins) -> Array:
    return jnp.pad(x, ((0, 0), *margins, (0, 0)))


def _lax_conv(x: Array, kernel: Array) -> Array:
    axes = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=axes)


@jax.custom_vjp
def _matrix_conv(x: Array, kernel: Array) -> Array:
    """What `_lax_conv` computes, by one product of a matrix of weights and one of patches."""
    return _matrix_conv_forward(x, kernel)[0]


def _matrix_conv_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    batch, height, width, _ = x.shape
    kh, kw, _, maps = kernel.shape
    y = _product(_weights(kernel).T, _patches(_batch_last(x), (kh, kw), axis=1))
    y = y.reshape(maps, height - kh + 1, width - kw + 1, batch)
    return _batch_last(y).astype(x.dtype), (x, kernel)


def _matrix_conv_backward(saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    # The patches are taken again, as they are kh * kw times as large as x.
    x, kernel = saved
    g = _batch_last(g).reshape(kernel.shape[3], -1)
    by_patches = _product(_weights(kernel), g)
    x, size = _batch_last(x), kernel.shape[:2]
    by_weights = _product(g, _patches(x, size, axis=1).T).T
    by_x = _batch_last(_sum_of_patches(by_patches, x.shape, size, axis=1))
    return by_x.astype(x.dtype), by_weights.reshape(kernel.shape).astype(kernel.dtype)


_matrix_conv.defvjp(_matrix_conv_forward, _matrix_conv_backward)


@jax.custom_vjp
def _widening_conv(x: Array, kernel: Array) -> Array:
    """What `_lax_conv` computes of few channels, with the many maps last, as the next layer has."""
    return _widening_conv_forward(x, kernel)[0]


def _widening_conv_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    batch, height, width, _ = x.shape
    kh, kw, _, maps = kernel.shape
    patches = _patches(jnp.moveaxis(x, -1, 0), (kh, kw), axis=2)
    y = _product(patches.T, _weights(kernel))
    return y.reshape(batch, height - kh + 1, width - kw + 1, maps).astype(x.dtype), (x, kernel)


def _widening_conv_backward(saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = saved
    g = g.reshape(-1, kernel.shape[3])
    by_patches = _product(_weights(kernel), g.T)
    x, size = jnp.moveaxis(x, -1, 0), kernel.shape[:2]
    by_weights = _product(_patches(x, size, axis=2), g)
    by_x = jnp.moveaxis(_sum_of_patches(by_patches, x.shape, size, axis=2), 0, -1)
    return by_x.astype(x.dtype), by_weights.reshape(kernel.shape).astype(kernel.dtype)


_widening_conv.defvjp(_widening_conv_forward, _widening_conv_backward)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _wide_conv(margins: Margins, x: Array, kernel: Array) -> Array:
    """What `_lax_conv` computes of images with margins, a few images at a time."""
    return _wide_conv_forward(margins, x, kernel)[0]


def _wide_conv_forward(
    margins: Margins, x: Array, kernel: Array
) -> tuple[Array, tuple[Array, Array]]:
    fine = jnp.promote_types(x.dtype, jnp.float32)
    convolved = lambda images: _lax_conv(_padded(images, margins), kernel.astype(fine))
    y = jax.lax.map(convolved, _few_at_a_time(x.astype(fine)))
    return y.reshape(-1, *y.shape[2:]).astype(x.dtype), (x, kernel)


def _wide_conv_backward(
    margins: Margins, saved: tuple[Array, Array], g: Array
) -> tuple[Array, Array]:
    x, kernel = saved
    fine = jnp.promote_types(x.dtype, jnp.float32)
    kh, kw, channels, maps = kernel.shape
    # The derivative by x is a convolution of g, whose margins leave that by the zeros out; with its
    # kernel transposed here, the axes of that one have the fast order again.
    (top, bottom), (left, right) = margins
    around = ((kh - 1 - top, kh - 1 - bottom), (kw - 1 - left, kw - 1 - right))
    turned = jnp.flip(kernel, (0, 1)).swapaxes(2, 3).astype(fine)

    def of_few(by_kernel: Array, part: tuple[Array, Array]) -> tuple[Array, Array]:
        images, g = part
        padded = _padded(images, margins)
        height, width = g.shape[1:3]
        seen = [
            padded[:, u : u + height, v : v + width]
            for u, v in itertools.product(range(kh), range(kw))
        ]
        patches = jnp.concatenate(seen, axis=-1).reshape(-1, kh * kw * channels)
        # Of the two orders of this product the faster one.
        by_weights = _product(g.reshape(-1, maps).T, patches)
        return by_kernel + by_weights, _lax_conv(_padded(g, around), turned)

    parts = (_few_at_a_time(x.astype(fine)), _few_at_a_time(g.astype(fine)))
    by_kernel, by_x = jax.lax.scan(of_few, jnp.zeros((maps, kh * kw * channels), fine), parts)
    by_kernel = by_kernel.T.reshape(kernel.shape)
    return by_x.reshape(x.shape).astype(x.dtype), by_kernel.astype(x.dtype)


_wide_conv.defvjp(_wide_conv_forward, _wide_conv_backward)


def _few_at_a_time(x: Array) -> Array:
    """f[B, ...] -> f[B / n, n, ...], n as large as divides B up to `_IMAGES`."""
    count = next(n for n in range(_IMAGES, 0, -1) if len(x) % n == 0)
    return x.reshape(len(x) // count, count, *x.shape[1:])


def _batch_last(x: Array) -> Array:
    """f[B, H, W, C] <-> f[C, H, W, B]."""
    return jnp.swapaxes(x, 0, 3)


def _weights(kernel: Array) -> Array:
    """f[kh, kw, C, O] -> f[kh * kw * C, O]."""
    return kernel.reshape(-1, kernel.shape[3])


def _product(a: Array, b: Array) -> Array:
    """The matrix product, in float32 at least."""
    return jnp.matmul(a, b, preferred_element_type=jnp.promote_types(a.dtype, jnp.float32))


def _patches(x: Array, size: tuple[int, ...], *, axis: int) -> Array:
    """f[C, ...], height and width from `axis` -> f[kh * kw * C, all others], what a weight sees."""
    # Row by row of the kernel, so that a program has kh + kw cuts to compile, not kh * kw.
    of_row = _cuts(x, size[1], axis + 1)  # an axis more before height and width
    return _cuts(of_row, size[0], axis + 1).reshape(math.prod(size) * len(x), -1)


def _sum_of_patches(
    patches: Array, shape: tuple[int, ...], size: tuple[int, ...], *, axis: int
) -> Array:
    """The transpose of `_patches` -> f[C, ...] = shape."""
    places = (n - k + 1 for n, k in zip(shape[axis : axis + 2], size, strict=True))
    cuts = patches.reshape(*size, *shape[:axis], *places, *shape[axis + 2 :])
    of_row = _sum_of_cuts(cuts, axis + 1)
    return _sum_of_cuts(of_row, axis + 1)


def _cuts(x: Array, count: int, axis: int) -> Array:
    """f[..., N, ...] -> f[k, ..., N - k + 1, ...], what each of k weights along `axis` sees."""
    length = x.shape[axis] - count + 1
    return jnp.stack([jax.lax.slice_in_dim(x, i, i + length, axis=axis) for i in range(count)])


def _sum_of_cuts(cuts: Array, axis: int) -> Array:
    """The transpose of `_cuts`."""
    count, *shape = cuts.shape
    length = shape[axis]
    shape[axis] += count - 1
    total = jnp.zeros(shape, cuts.dtype)
    for i, cut in enumerate(cuts):
        total = total.at[(slice(None),) * axis + (slice(i, i + length),)].add(cut)
    return total


@jax.custom_vjp
def _pool(x: Array) -> Array:
    """f[M, H, W, N] -> f[M, H / 2, W / 2, N]."""
    return _pool_forward(x)[0]


def _pool_forward(x: Array) -> tuple[Array, Array]:
    (a, b), (c, d) = _quarters(x)
    return jnp.maximum(jnp.maximum(a, b), jnp.maximum(c, d)), x


def _pool_backward(x: Array, g: Array) -> tuple[Array]:
    # By comparing the four with each other: XLA may compute x anew here, an ulp off the largest.
    (a, b), (c, d) = _quarters(x)
    first = (a >= b) & (a >= c) & (a >= d)
    second = ~first & (b >= c) & (b >= d)
    third = ~(first | second) & (c >= d)
    fourth = ~(first | second | third)
    share = lambda wins: jnp.where(wins, g, 0)
    upper = jnp.stack([share(first), share(second)], axis=3)
    lower = jnp.stack([share(third), share(fourth)], axis=3)
    return (jnp.stack([upper, lower], axis=2).reshape(x.shape),)


_pool.defvjp(_pool_forward, _pool_backward)


def _quarters(x: Array) -> list[list[Array]]:
    """f[M, H, W, N] -> the pixels of each 2 x 2, 2 x 2 times f[M, H / 2, W / 2, N]."""
    return [[x[:, i::2, j::2] for j in (0, 1)] for i in (0, 1)]
