"""Nearest-neighbor classifiers as functions of x and the training set, without parameters.

    logits_fn = lambda x: smoothed_nearest_neighbor(x, train_x, train_y, num_classes=10)

is attacked like any other model. Training examples are processed in blocks, forward and backward,
so that memory does not grow with their number.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from adv_jax.losses import as_classes
from adv_jax.programs import run_compiled
from adv_jax.ranges import COUNT, ranged
from adv_jax.types import Array, UserError, described, is_real, working_dtype

# The logarithm of a weight of 0: finite, as derivatives at -inf are NaN.
_LOG_OF_0 = -1e30
# Features that one loop of a CPU adds; with 8 or 12 it is not vectorized and 5 times slower.
_UNROLLED = 16


@ranged(num_classes=COUNT, block_size=COUNT)
def nearest_neighbor(
    x: Array,
    train_x: ArrayLike,
    train_y: ArrayLike,
    *,
    num_classes: int,
    block_size: int = 1000,
) -> Array:
    """Returns minus the squared distance to the nearest training example of each class.

    The largest logit is the nearest neighbor's class. The logits are not log-probabilities.

    Args:
      x: f[B, *D].
      train_x, train_y: f[N, *D] and classes i[N].
      num_classes: K.
      block_size: training examples per block.

    Returns:
      f32[B, K], or f64 for x f64; -1e30 for a class without an example.

    Raises:
      UserError: no training examples, or of another shape than x; train_y is no i[N]; unless
        traced, a class outside [0, K).

    Source: [wardefarley2016], sec. 1.2.1 (Table 1.1).

    >>> x, y = jnp.array([[0.], [2.], [5.]]), jnp.array([0, 1, 1])
    >>> nearest_neighbor(jnp.array([[4.]]), x, y, num_classes=2)
    Array([[-16.,  -1.]], dtype=float32)
    """
    return _over_blocks(
        jnp.maximum, _largest, x, train_x, train_y, num_classes=num_classes, block_size=block_size
    )


@ranged(num_classes=COUNT, block_size=COUNT)
def smoothed_nearest_neighbor(
    x: Array,
    train_x: ArrayLike,
    train_y: ArrayLike,
    *,
    num_classes: int,
    block_size: int = 1000,
) -> Array:
    """Returns the log-probabilities of the classes, with neighbors weighted by distance.

        log y_i(x) = log sum_{n of class i} w_n,   w_n = exp(-|x - x_n|^2) / sum_m exp(-|x - x_m|^2)

    by log-sum-exp, as the exponentials underflow on MNIST. The factor 1/N printed before the sum in
    the source is omitted: with it the y_i do not sum to 1. It changes neither the class nor the
    direction of the gradient.

    Args:
      x, train_x, train_y, num_classes, block_size: as in `nearest_neighbor`.

    Returns:
      f32[B, K], or f64 for x f64, normalized; -1e30 for a class without an example.

    Raises:
      UserError: as `nearest_neighbor`.

    Source: [wardefarley2016], sec. 1.2.1.

    >>> x, y = jnp.array([[0.], [1.]]), jnp.array([0, 1])
    >>> jnp.exp(smoothed_nearest_neighbor(jnp.array([[.5]]), x, y, num_classes=2))
    Array([[0.5, 0.5]], dtype=float32)
    """
    return jax.nn.log_softmax(
        _over_blocks(
            jnp.logaddexp,
            _log_sum_exp,
            x,
            train_x,
            train_y,
            num_classes=num_classes,
            block_size=block_size,
        )
    )


def squared_distances(a: Array, b: Array) -> Array:
    """Returns sum_k (a_ki - b_kj)^2 of f[d, n] and f[d, m], a row for each feature: f[n, m].

    The product form |a|^2 - 2 a b + |b|^2 is faster, but rounds away what rows near each other
    differ by, if any of their features is large. Memory is n * m, also backward.
    """

    def add(total: Array, features: tuple[Array, Array]) -> tuple[Array, None]:
        return total + _squares(*features), None

    zeros = jnp.zeros((a.shape[1], b.shape[1]), a.dtype)
    return jax.lax.scan(add, zeros, (a, b), unroll=_UNROLLED)[0]


@partial(jax.checkpoint, prevent_cse=False)  # A scan keeps apart what it recomputes.
def _squares(a: Array, b: Array) -> Array:
    return jnp.square(a[:, None] - b[None])


def _over_blocks(
    combine: Callable[[Array, Array], Array],
    reduce: Callable[[Array, Array], Array],
    x: Array,
    train_x: ArrayLike,
    train_y: ArrayLike,
    *,
    num_classes: int,
    block_size: int,
) -> Array:
    """Returns -|x - x_n|^2, reduced over each class: f32[B, K]."""
    for name, values in (("x", x), ("train_x", train_x)):
        if not is_real(values):
            raise UserError(f"{name} must be an array of numbers, got {described(values)}")
    x, train_x = jnp.asarray(x), jnp.asarray(train_x)
    train_y = as_classes(train_y, num_classes, name="train_y")
    if not len(train_y) or train_x.shape != (len(train_y), *x.shape[1:]):
        raise UserError(
            f"train_x and train_y must be one or more examples of shape {x.shape[1:]} and as many "
            f"classes, got the shapes {train_x.shape} and {train_y.shape}"
        )
    dtype = working_dtype(x.dtype)
    queries, examples = _rows(x, dtype).T, _rows(train_x, dtype)
    size = min(block_size, len(examples))
    missing = -len(examples) % size
    # The padding of the last block has no class.
    classes = jnp.pad(train_y, (0, missing), constant_values=-1).reshape(-1, size)
    blocks = jnp.pad(examples, ((0, missing), (0, 0))).reshape(-1, size, examples.shape[1])

    @jax.checkpoint
    def step(found: Array, block: tuple[Array, Array]) -> tuple[Array, None]:
        examples, classes = block
        closeness = -squared_distances(queries, examples.T)
        is_of = jax.nn.one_hot(classes, num_classes, dtype=dtype)
        return combine(found, reduce(closeness, is_of)), None

    start = jnp.full((len(x), num_classes), _LOG_OF_0, dtype)
    over_blocks = lambda start, *examples: jax.lax.scan(step, start, examples)[0]
    return run_compiled(over_blocks, start, blocks, classes)


def _largest(closeness: Array, is_of: Array) -> Array:
    """Returns the maximum over each class: f32[B, n], one-hot f32[n, K] -> f32[B, K]."""
    return jnp.where(is_of[None] > 0, closeness[:, :, None], _LOG_OF_0).max(axis=1)


def _log_sum_exp(closeness: Array, is_of: Array) -> Array:
    """Returns the log-sum-exp over each class, with one exponential per pair: -> f32[B, K]."""
    largest = jax.lax.stop_gradient(_largest(closeness, is_of))
    sums = _product(jnp.exp(closeness - _product(largest, is_of.T)), is_of)
    return largest + jnp.log(jnp.where(is_of.any(axis=0, keepdims=True), sums, 1))


def _product(a: Array, b: Array) -> Array:
    """Returns the matrix product in float32 at least; accelerators default to 10 bits or fewer."""
    return jnp.matmul(a, b, precision="float32")


def _rows(x: Array, dtype: Any) -> Array:
    return x.reshape(len(x), math.prod(x.shape[1:])).astype(dtype)
