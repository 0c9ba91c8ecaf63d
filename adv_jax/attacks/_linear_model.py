"""The linear model around x: the class values and the nearest decision boundary."""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from adv_jax import norms
from adv_jax.loss_gradients import Pullback, linearized
from adv_jax.perturbations import without_fixed
from adv_jax.types import Array, LogitsFn, Norm, check_choice, working_dtype

# The rows of a block of backward passes on an accelerator. The activations of all classes at once
# would take 29 GB for one image and a ResNet-50 with 1,000 classes.
ROWS_AT_ONCE = 64

Carry = TypeVar("Carry")


class Boundary(NamedTuple):
    """A decision boundary of the linear model.

    distance: f32[B, 1, ..., 1], signed, in the norm; < 0: on the other side; inf: no boundary.
    direction: f32[B, *D], the shortest path, of norm 1; 0 if there is no boundary.
    """

    distance: Array
    direction: Array


def nearest_boundary(
    values: Array,
    pullback: Pullback,
    y: Array,
    rivals: Array,
    norm: Norm,
    scale: Array | None = None,
) -> Boundary:
    """Returns the boundary nearest to x between y and any of the rivals in the linear model.

        distance_j = (value_y - value_j) / ||v||_*,   v = d(value_j - value_y) / dx

    One backward pass for each rival j, by `over_classes`.

    Args:
      values: f32[B, K] at x.
      pullback: from `linearized`.
      y: i32[B], the class to leave.
      rivals: i32[B, M], the classes to reach, each other than y; of equals the first is taken.
      scale: the units of each feature (`norms`).
    """
    count, passes = values.shape[1], rivals.shape[1]
    is_label = jax.nn.one_hot(y, count, dtype=values.dtype)

    def boundary(i: Array) -> Boundary:
        rival = jax.lax.dynamic_index_in_dim(rivals, i, axis=1, keepdims=False)
        difference = jax.nn.one_hot(rival, count, dtype=values.dtype) - is_label
        slope = pullback(difference)
        direction = norms.dual(slope, norm, scale)
        slope = without_fixed(slope.astype(direction.dtype), scale)
        axes = tuple(range(1, slope.ndim))
        steepness = jnp.sum(slope * direction, axis=axes, keepdims=True)  # ||v||_*
        lead = -jnp.sum(difference * values, axis=1).reshape(steepness.shape).astype(slope.dtype)
        flat = steepness == 0
        return Boundary(jnp.where(flat, jnp.inf, lead / jnp.where(flat, 1, steepness)), direction)

    def nearer(here: Boundary, nearest: Boundary) -> Boundary:
        closer = here.distance < nearest.distance
        return jax.tree.map(lambda a, b: jnp.where(closer, a, b), here, nearest)

    def one(i: Array, nearest: Boundary) -> Boundary:
        return nearer(boundary(i), nearest)

    def block(i: Array, nearest: Boundary) -> Boundary:
        every = jax.vmap(boundary)(i)
        first = jnp.argmin(every.distance, axis=0, keepdims=True)
        found = jax.tree.map(lambda a: jnp.take_along_axis(a, first, axis=0)[0], every)
        return nearer(found, nearest)

    like = jax.eval_shape(pullback, values)
    dtype = working_dtype(like.dtype)
    rows = like.shape[0], *(1,) * (like.ndim - 1)
    far = jnp.full_like(values, jnp.inf, dtype, shape=rows)
    start = Boundary(far, jnp.zeros_like(values, dtype, shape=like.shape))
    return over_classes(one, block, start, passes=passes, batch=len(values))


def over_classes(
    one: Callable[[Array, Carry], Carry],
    block: Callable[[Array, Carry], Carry],
    start: Carry,
    *,
    passes: int,
    batch: int,
) -> Carry:
    """Folds a backward pass for each of `passes` classes into `start`.

    On CPUs one after another, as the activations of several classes would exceed the cache. On
    accelerators in blocks of classes, whose rows together are at most `ROWS_AT_ONCE`, or one class:
    memory does not grow with the number of classes.

    Args:
      one: (i32[], carry) -> carry, of the i-th class.
      block: (i32[M], carry) -> carry, of M classes. The last may come several times.
      batch: B, the rows of each class.
    """
    blocks = -(-passes // max(1, ROWS_AT_ONCE // batch))
    size = -(-passes // blocks)

    def of_block(number: Array, carry: Carry) -> Carry:
        return block(jnp.minimum(number * size + jnp.arange(size), passes - 1), carry)

    def in_sequence(start: Carry) -> Carry:
        return jax.lax.fori_loop(0, passes, one, start)

    def in_blocks(start: Carry) -> Carry:
        if blocks == 1:
            return block(jnp.arange(passes), start)
        return jax.lax.fori_loop(0, blocks, of_block, start)

    return jax.lax.platform_dependent(start, cpu=in_sequence, default=in_blocks)


def others(count: int, y: Array) -> Array:
    """Returns all of `count` classes but y, in order: i32[B] -> i32[B, count - 1]."""
    index = jnp.arange(count - 1, dtype=y.dtype)[None]
    return index + (index >= y[:, None]).astype(y.dtype)


def most_probable_others(logits: Array, y: Array) -> Array:
    """Returns the classes other than y, the most probable first: i32[B, K - 1]."""
    is_label = jax.nn.one_hot(y, logits.shape[1], dtype=bool)
    return jnp.argsort(jnp.where(is_label, jnp.inf, -logits), axis=1)[:, :-1]


def considered(logits: Array, y: Array, candidates: int | None) -> Array:
    """Returns the classes that an attack considers besides y, i32[B, candidates - 1] or all."""
    if candidates is None or logits.shape[1] <= candidates:
        return others(logits.shape[1], y)
    return most_probable_others(logits, y)[:, : candidates - 1].astype(y.dtype)


def strongest_other(logits: Array, y: Array) -> Array:
    """Returns the most probable class other than y: f32[B, K], i32[B] -> i32[B]."""
    is_label = jax.nn.one_hot(y, logits.shape[1], dtype=bool)
    return jnp.argmax(jnp.where(is_label, -jnp.inf, logits), axis=1).astype(y.dtype)


def class_values(logits_fn: LogitsFn, x: Array, of: str) -> tuple[Array, Pullback]:
    """Returns "logits" or "probs" at x f[B, *D], f32[B, K], and their pullback, by `linearized`.

    Raises:
      UserError: unknown `of`; logits that are not f32[B, K].
    """
    outputs = {"logits": lambda logits: logits, "probs": _softmax}
    check_choice("of", of, outputs)
    return linearized(logits_fn, x, outputs[of])


def _softmax(logits: Array) -> Array:
    """Returns the softmax of f32[B, K], with the largest probability as 1 minus the others.

    Else the derivative p (1 - p) would be 0 once float32 rounds p to 1.
    """
    probs = jax.nn.softmax(logits)
    wins = jax.nn.one_hot(jnp.argmax(logits, axis=1), logits.shape[1], dtype=bool)
    others = jnp.where(wins, 0, probs)
    return jnp.where(wins, 1 - others.sum(axis=1, keepdims=True), others)
