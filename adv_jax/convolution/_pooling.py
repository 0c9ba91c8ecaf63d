"""Max-pooling that is fast inside `lax` loops."""

import jax
import jax.numpy as jnp

from adv_jax.convolution._conv import WIDE, as_array, batch_last
from adv_jax.meshes import automatic, by_rows
from adv_jax.types import Array


def max_pool_2x2(x: Array) -> Array:
    """Returns 2 x 2 max-pooling of stride 2: f[B, H, W, C] -> f[B, H // 2, W // 2, C].

    An odd last row or column is dropped. The gradient goes to one pixel of the four, the first of
    equals in row-major order, as in PyTorch. NaN propagates.

    Raises:
      UserError: x is no array f[B, H, W, C].

    >>> x = jnp.array([[1., 2.], [3., 3.]]).reshape(1, 2, 2, 1)
    >>> max_pool_2x2(x).item(), jax.grad(lambda x: max_pool_2x2(x).sum())(x).ravel()
    (3.0, Array([0., 0., 1., 0.], dtype=float32))
    """
    x = as_array("x", x, "B, H, W, C")
    _, height, width, channels = x.shape
    x = x[:, : height // 2 * 2, : width // 2 * 2]
    # As in `conv`: the batch is the last axis in memory if there are few channels.
    pool = _pool if channels >= WIDE else lambda x: batch_last(_pool(batch_last(x)))
    return automatic(pool, by_rows(x))(x)


@jax.custom_vjp
def _pool(x: Array) -> Array:
    """f[M, H, W, N] -> f[M, H / 2, W / 2, N]."""
    return _pool_forward(x)[0]


def _pool_forward(x: Array) -> tuple[Array, Array]:
    (a, b), (c, d) = _quarters(x)
    return jnp.maximum(jnp.maximum(a, b), jnp.maximum(c, d)), x


def _pool_backward(x: Array, g: Array) -> tuple[Array]:
    # Compare the four with each other: XLA may recompute x, an ulp off the saved maximum.
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
    """Splits f[M, H, W, N] into 2 x 2 arrays f[M, H / 2, W / 2, N], one per pixel of a pool."""
    return [[x[:, i::2, j::2] for j in (0, 1)] for i in (0, 1)]
