"""Convolution of images that is fast inside `lax` loops, on every platform.

Images are batches f[B, H, W, C] and kernels f[kh, kw, C, O], as in Flax; maps are the O channels of
the result.

On CPUs, XLA's convolution is slow in a loop unless its operands have one memory layout, which its
gradients do not have. There, one of three forms with explicit derivatives is used:

- few channels: a matrix product with the batch as the last axis, as XLA keeps it between layers;
- an image to many maps: a matrix product with the maps as the last axis;
- many channels: XLA's convolution by Eigen, and a matrix product of a few images at a time for the
  derivative by the kernel, as patches of all would be too large.
"""

import itertools
import math
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from adv_jax.meshes import automatic, by_rows, vary_alike
from adv_jax.types import Array, UserError, check_choice, described, dtype_of, working_dtype

Padding = Literal["VALID", "SAME", "FULL"]
Margins = tuple[tuple[int, int], tuple[int, int]]  # zeros around an image, in height and in width

# Channels (in and out) from which `_wide_conv` is faster, and its number of images at a time, which
# fit the cache; measured with 3 x 3 and 5 x 5 kernels.
WIDE, _IMAGES = 32, 4
_COLORS = 4  # largest number of channels for which moving the channel axis first is cheap

# Size of the kernel -> zeros before and after the image.
MARGINS = {
    "VALID": lambda k: (0, 0),
    "SAME": lambda k: ((k - 1) // 2, k // 2),
    "FULL": lambda k: (k - 1, k - 1),
}


def conv(x: Array, kernel: Array, *, padding: Padding) -> Array:
    """Returns the cross-correlation of stride 1 (the kernel is not flipped).

        y[b, i, j, o] = sum_{u, v, c} x[b, i + u, j + v, c] kernel[u, v, c, o],   x 0 outside

    Equal to `lax.conv_general_dilated` up to rounding. It supports reverse mode (`grad`, `vjp`) of
    any order, not forward mode (`jvp`).

    Args:
      x: f[B, H, W, C].
      kernel: f[kh, kw, C, O].
      padding: "VALID": H' = H - kh + 1; "SAME": H' = H, an odd zero comes last; "FULL":
        H' = H + kh - 1. Likewise W'.

    Returns:
      f[B, H', W', O] of the promoted dtype of x and kernel.

    Raises:
      UserError: unknown padding; x or kernel not of floats, or of a wrong shape; the kernel is
        empty or exceeds the image.

    >>> x, edge = jnp.array([[[[1.], [2.], [4.]]]]), jnp.array([[[[-1.]], [[1.]]]])
    >>> conv(x, edge, padding="SAME").ravel()
    Array([ 1.,  2., -4.], dtype=float32)
    """
    check_choice("padding", padding, MARGINS)
    x = as_array("x", x, "B, H, W, C")
    kernel = as_array("kernel", kernel, "kh, kw, C, O")
    if x.shape[3] != kernel.shape[2]:
        found = f"{described(kernel)} and {described(x)}"
        raise UserError(f"kernel must be f[kh, kw, C, O] for x f[B, H, W, C], got {found}")
    if 0 in kernel.shape:
        raise UserError(f"kernel must have no axis of size 0, got {described(kernel)}")
    kh, kw = kernel.shape[:2]
    margins = (MARGINS[padding](kh), MARGINS[padding](kw))
    height, width = (n + sum(m) for n, m in zip(x.shape[1:3], margins, strict=True))
    if height < kh or width < kw:
        raise UserError(f"kernel must fit into images {x.shape[1:3]}, got {kernel.shape[:2]}")
    with jax.numpy_dtype_promotion("standard"):
        dtype = jnp.result_type(x, kernel)
    x, kernel = vary_alike((x.astype(dtype), kernel.astype(dtype)))

    default = partial(_conv_elsewhere, margins)
    branches = {"cpu": partial(conv_on_cpu, margins), "default": default}
    return automatic(partial(jax.lax.platform_dependent, **branches), by_rows(x))(x, kernel)


def as_array(name: str, value: Any, axes: str) -> Array:
    """Returns a JAX array of floats with four axes; raises UserError for any other value."""
    if not jnp.issubdtype(dtype_of(value), jnp.floating) or np.ndim(value) != 4:
        raise UserError(f"{name} must be f[{axes}], got {described(value)}")
    return jnp.asarray(value)


def conv_on_cpu(margins: Margins, x: Array, kernel: Array) -> Array:
    """Computes `_lax_conv` of padded images, in the form that suits the number of channels."""
    channels, maps = kernel.shape[2:]
    if kernel.shape[:2] == (1, 1):
        return _product(_padded(x, margins), kernel[0, 0]).astype(x.dtype)
    if min(channels, maps) >= WIDE:
        return _wide_conv(margins, x, kernel)
    if maps >= WIDE and channels <= _COLORS:
        return _widening_conv(_padded(x, margins), kernel)
    return _matrix_conv(_padded(x, margins), kernel)


def _conv_elsewhere(margins: Margins, x: Array, kernel: Array) -> Array:
    """Computes `conv` on GPUs and TPUs."""
    if kernel.shape[:2] == (1, 1):  # whose margins are 0
        # A product takes the kernel transposed; XLA:GPU copies that of a convolution in each turn.
        return jnp.matmul(x, kernel[0, 0])
    return _lax_conv(_padded(x, margins), kernel)


def _padded(x: Array, margins: Margins) -> Array:
    return jnp.pad(x, ((0, 0), *margins, (0, 0)))


def _lax_conv(x: Array, kernel: Array) -> Array:
    axes = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=axes)


@jax.custom_vjp
def _matrix_conv(x: Array, kernel: Array) -> Array:
    """Computes `_lax_conv` as a matrix product of weights and patches."""
    return _matrix_conv_forward(x, kernel)[0]


def _matrix_conv_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    batch, height, width, _ = x.shape
    kh, kw, _, maps = kernel.shape
    y = _product(_weights(kernel).T, _patches(batch_last(x), (kh, kw), axis=1))
    y = y.reshape(maps, height - kh + 1, width - kw + 1, batch)
    return batch_last(y).astype(x.dtype), (x, kernel)


def _matrix_conv_backward(saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    # Recompute the patches: they are kh * kw times as large as x.
    x, kernel = saved
    g = batch_last(g).reshape(kernel.shape[3], -1)
    by_patches = _product(_weights(kernel), g)
    x, size = batch_last(x), kernel.shape[:2]
    by_weights = _product(g, _patches(x, size, axis=1).T).T
    by_x = batch_last(_sum_of_patches(by_patches, x.shape, size, axis=1))
    return by_x.astype(x.dtype), by_weights.reshape(kernel.shape).astype(kernel.dtype)


_matrix_conv.defvjp(_matrix_conv_forward, _matrix_conv_backward)


@jax.custom_vjp
def _widening_conv(x: Array, kernel: Array) -> Array:
    """Computes `_lax_conv` for few channels and many maps, with the maps as the last axis."""
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
    """Computes `_lax_conv` of padded images in XLA's fast layout, its derivatives too."""
    return _wide_conv_forward(margins, x, kernel)[0]


def _wide_conv_forward(
    margins: Margins, x: Array, kernel: Array
) -> tuple[Array, tuple[Array, Array]]:
    fine = working_dtype(x.dtype)
    y = _eigen_conv(x.astype(fine), kernel.astype(fine), margins)
    return y.astype(x.dtype), (x, kernel)


def _wide_conv_backward(
    margins: Margins, saved: tuple[Array, Array], g: Array
) -> tuple[Array, Array]:
    x, kernel = saved
    x, kernel, g = (array.astype(working_dtype(x.dtype)) for array in (x, kernel, g))
    kh, kw = kernel.shape[:2]
    # The derivative by x is a convolution of g, cropped to x by its margins. With the kernel
    # transposed explicitly, its operands have the fast memory layout.
    (top, bottom), (left, right) = margins
    around = ((kh - 1 - top, kh - 1 - bottom), (kw - 1 - left, kw - 1 - right))
    by_x = _eigen_conv(g, jnp.flip(kernel, (0, 1)).swapaxes(2, 3), around)
    by_kernel = _kernel_gradient(_padded(x, margins), g, (kh, kw))
    return by_x.astype(saved[0].dtype), by_kernel.astype(saved[1].dtype)


def _eigen_conv(x: Array, kernel: Array, margins: Margins) -> Array:
    """Computes `_lax_conv` of padded images, on CPUs by Eigen.

    XLA calls YNNPACK, which takes two to five times as long, unless the zeros above and below an
    image, or left and right of it, are at least as many as the kernel is high or wide. Zeros below
    are enough; what they add to the result is cut off.
    """
    (top, bottom), (left, right) = margins
    kh, kw = kernel.shape[:2]
    height = x.shape[1] + top + bottom - kh + 1
    if top + bottom < kh and left + right < kw:
        bottom = kh - top
    padding, axes = ((top, bottom), (left, right)), ("NHWC", "HWIO", "NHWC")
    y = jax.lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=axes)
    return y[:, :height]


def _kernel_gradient(x: Array, g: Array, size: tuple[int, int]) -> Array:
    """Returns the derivative of `_lax_conv` by its kernel: f[kh, kw, C, O].

    A few images at a time: patches of all would be too large.
    """
    channels, (height, width, maps) = x.shape[3], g.shape[1:]

    def of_few(total: Array, part: tuple[Array, Array]) -> tuple[Array, None]:
        images, g = part
        seen = [
            images[:, u : u + height, v : v + width]
            for u, v in itertools.product(range(size[0]), range(size[1]))
        ]
        patches = jnp.concatenate(seen, axis=-1).reshape(-1, math.prod(size) * channels)
        # Faster than the transposed product.
        return total + _product(g.reshape(-1, maps).T, patches), None

    start = jnp.zeros_like(x, shape=(maps, math.prod(size) * channels))
    total, _ = jax.lax.scan(of_few, start, (_few_at_a_time(x), _few_at_a_time(g)))
    return total.T.reshape(*size, channels, maps)


_wide_conv.defvjp(_wide_conv_forward, _wide_conv_backward)


def _few_at_a_time(x: Array) -> Array:
    """Reshapes f[B, ...] to f[B / n, n, ...], n the largest divisor of B up to `_IMAGES`."""
    count = next(n for n in range(_IMAGES, 0, -1) if len(x) % n == 0)
    return x.reshape(len(x) // count, count, *x.shape[1:])


def batch_last(x: Array) -> Array:
    """f[B, H, W, C] <-> f[C, H, W, B]."""
    return jnp.swapaxes(x, 0, 3)


def _weights(kernel: Array) -> Array:
    """f[kh, kw, C, O] -> f[kh * kw * C, O]."""
    return kernel.reshape(-1, kernel.shape[3])


def _product(a: Array, b: Array) -> Array:
    """Returns the matrix product, in float32 or wider."""
    return jnp.matmul(a, b, preferred_element_type=working_dtype(a.dtype))


def _patches(x: Array, size: tuple[int, ...], *, axis: int) -> Array:
    """Returns patches f[kh * kw * C, ...] of f[C, ...], with height and width at `axis`."""
    # Columns, then rows: kh + kw slices to compile instead of kh * kw.
    of_row = _cuts(x, size[1], axis + 1)
    return _cuts(of_row, size[0], axis + 1).reshape(math.prod(size) * len(x), -1)


def _sum_of_patches(
    patches: Array, shape: tuple[int, ...], size: tuple[int, ...], *, axis: int
) -> Array:
    """Computes the transpose of `_patches`: f[C, ...] of that shape."""
    places = (n - k + 1 for n, k in zip(shape[axis : axis + 2], size, strict=True))
    cuts = patches.reshape(*size, *shape[:axis], *places, *shape[axis + 2 :])
    of_row = _sum_of_cuts(cuts, axis + 1)
    return _sum_of_cuts(of_row, axis + 1)


def _cuts(x: Array, count: int, axis: int) -> Array:
    """Returns the k = count shifted slices along `axis`: f[k, ..., N - k + 1, ...]."""
    length = x.shape[axis] - count + 1
    return jnp.stack([jax.lax.slice_in_dim(x, i, i + length, axis=axis) for i in range(count)])


def _sum_of_cuts(cuts: Array, axis: int) -> Array:
    """Computes the transpose of `_cuts`."""
    count, *shape = cuts.shape
    length = shape[axis]
    shape[axis] += count - 1
    total = jnp.zeros(shape, cuts.dtype)
    for i, cut in enumerate(cuts):
        total = total.at[(slice(None),) * axis + (slice(i, i + length),)].add(cut)
    return total
