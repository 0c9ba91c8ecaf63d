"""The linear model around x: the class values and the nearest decision boundary."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from adv_jax import norms
from adv_jax.checks import checked_labels, checked_logits
from adv_jax.loss_gradients import classes
from adv_jax.types import Array, LogitsFn, Norm, working_dtype

Pullback = Callable[[Array], tuple[Array]]  # f32[B, K] -> (f[B, *D],)


class Boundary(NamedTuple):
    """A decision boundary of the linear model.

    distance: f32[B, 1, ..., 1], signed, in the norm; < 0: on the other side; inf: no boundary.
    direction: f32[B, *D], the shortest path, of norm 1; 0 if there is no boundary.
    """

    distance: Array
    direction: Array


def nearest_boundary(values: Array, pullback: Pullback, y: Array, norm: Norm) -> Boundary:
    """Returns the boundary nearest to x between y and any other class of the linear model.

        distance_j = (value_y - value_j) / ||v||_*,   v = d(value_j - value_y) / dx

    One backward pass for each j != y: vmapped on accelerators; in sequence on CPUs, with memory
    independent of the number of classes.

    Args:
      values: f32[B, K] at x.
      pullback: from `jax.vjp`, f32[B, K] -> (f[B, *D],).
      y: i32[B], or f32[B, K], of which the most probable class is the label.
    """
    count, y = values.shape[1], classes(checked_labels(y, values))
    is_label = jax.nn.one_hot(y, count, dtype=values.dtype)

    def boundary(i: Array) -> Boundary:
        other = i + (i >= y).astype(i.dtype)  # i32[B], each class but y, in order
        difference = jax.nn.one_hot(other, count, dtype=values.dtype) - is_label
        (slope,) = pullback(difference)
        direction = norms.dual(slope, norm)
        slope = slope.astype(direction.dtype)
        axes = tuple(range(1, slope.ndim))
        steepness = jnp.sum(slope * direction, axis=axes, keepdims=True)  # ||v||_*
        lead = -jnp.sum(difference * values, axis=1).reshape(steepness.shape).astype(slope.dtype)
        flat = steepness == 0
        return Boundary(jnp.where(flat, jnp.inf, lead / jnp.where(flat, 1, steepness)), direction)

    def nearer(i: Array, nearest: Boundary) -> Boundary:
        here = boundary(i)
        closer = here.distance < nearest.distance
        return jax.tree.map(lambda a, b: jnp.where(closer, a, b), here, nearest)

    if jax.default_backend() == "cpu":
        (like,) = jax.eval_shape(pullback, values)
        dtype = working_dtype(like.dtype)
        rows = like.shape[0], *(1,) * (like.ndim - 1)
        far = jnp.full_like(values, jnp.inf, dtype, shape=rows)
        start = Boundary(far, jnp.zeros_like(values, dtype, shape=like.shape))
        return jax.lax.fori_loop(0, count - 1, nearer, start)
    every = jax.vmap(boundary)(jnp.arange(count - 1))
    first = jnp.argmin(every.distance, axis=0, keepdims=True)
    return jax.tree.map(lambda a: jnp.take_along_axis(a, first, axis=0)[0], every)


def values_fn(logits_fn: LogitsFn, of: str) -> LogitsFn:
    """Returns a function x f[B, *D] -> "logits" or "probs", f32[B, K].

    Raises:
      ValueError: unknown `of`; logits that are not f32[B, K].
    """
    outputs = {"logits": lambda logits: logits, "probs": _softmax}
    if of not in outputs:
        raise ValueError(f'of must be "probs" or "logits", got {of!r}')
    return lambda x: outputs[of](checked_logits(logits_fn(x), batch=x.shape[0]))


def _softmax(logits: Array) -> Array:
    """Returns the softmax of f32[B, K], with the largest probability as 1 minus the others.

    Else the derivative p (1 - p) would be 0 once float32 rounds p to 1.
    """
    probs = jax.nn.softmax(logits)
    wins = jax.nn.one_hot(jnp.argmax(logits, axis=1), logits.shape[1], dtype=bool)
    others = jnp.where(wins, 0, probs)
    return jnp.where(wins, 1 - others.sum(axis=1, keepdims=True), others)
