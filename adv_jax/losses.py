"""Classification losses by name: rows of logits and labels -> a loss for each row.

Logits are f32[B, K]; labels are classes i32[B] or class weights f32[B, K]; losses are f32[B],
in nats but for the squared error. Logits of 16 bits are taken as float32, and those of float64 have
losses in float64. Other shapes and dtypes raise a UserError, because they might broadcast.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from adv_jax.types import (
    Array,
    UserError,
    check_choice,
    check_known,
    described,
    dtype_of,
    is_known,
    is_real,
    widened,
)

RowLoss = Callable[[Array, Array], Array]


def cross_entropy(logits: Array, labels: Array) -> Array:
    """Returns -sum_k t_k log softmax(logits)_k.

    The gradient keeps its direction at any confidence, for classes and one-hot weights. Computed
    as p_y - 1 it would round to 0 in float32 at margins above 16.6 nats.
    """
    logits, labels = _prepared(logits, labels)
    if labels.ndim == 1:
        return jax.nn.softplus(log_odds(logits, labels))
    # Only the most probable class can have a p_k that rounds to 1.
    top = jnp.argmax(logits, axis=1)
    is_top = jax.nn.one_hot(top, logits.shape[1], dtype=bool)
    sure = jax.nn.softplus(log_odds(logits, top))
    log_p = jax.nn.log_softmax(unfused(logits))
    # 0 log 0 = 0. Weights of 0 count in the derivative by the labels where log p is finite.
    others = jnp.where(is_top | ((labels == 0) & jnp.isinf(log_p)), 0, log_p)
    return jnp.where(is_top, labels, 0).sum(axis=1) * sure - (labels * others).sum(axis=1)


def log_odds(logits: Array, labels: Array) -> Array:
    """Returns log((1 - p_y) / p_y) = logsumexp of the other logits - logit_y, f32[B].

    Its ascent direction is that of the cross-entropy, softplus(log odds), whose slope underflows
    at margins above 87 nats; the slope of the log odds is 1 everywhere.

    labels: y i32[B], or f32[B, K], whose most probable class is used.
    """
    logits, labels = _prepared(logits, labels)
    labels = classes(labels)
    true = jax.nn.one_hot(labels, logits.shape[1], dtype=bool)
    others = jax.nn.logsumexp(jnp.where(true, -jnp.inf, logits), axis=1)
    return others - jnp.where(true, logits, 0).sum(axis=1)


def unfused(logits: Array) -> Array:
    """Returns the logits, clipped to finite numbers, for a softmax of them.

    XLA fuses the last product of a model into the subtraction of the largest logit, without
    rounding it. At logits of 1e10 the difference, up to 512 instead of 0, overflows `exp`. A
    clipped product is rounded first.
    """
    limits = jnp.finfo(logits.dtype)
    return jnp.clip(logits, limits.min, limits.max)


def binary_cross_entropy(logits: Array, labels: Array) -> Array:
    """Returns -sum_k [t_k log s_k + (1 - t_k) log(1 - s_k)], s = sigmoid(logits)."""
    logits, weights = _with_weights(logits, labels)
    # 0 log 0 = 0, which optax takes for NaN.
    yes = jnp.where(weights == 0, 0, weights * jax.nn.log_sigmoid(logits))
    no = jnp.where(weights == 1, 0, (1 - weights) * jax.nn.log_sigmoid(-logits))
    return -(yes + no).sum(axis=1)


def squared_error(logits: Array, labels: Array) -> Array:
    """Returns sum_k (t_k - s_k)^2, s = sigmoid(logits), a number without unit.

    Its gradient, 2 (s_k - t_k) s_k (1 - s_k), vanishes for logits far from 0, right or wrong.

    Source: the shallow-net thesis, sec. 2.4.
    """
    logits, weights = _with_weights(logits, labels)
    return jnp.square(jax.nn.sigmoid(logits) - weights).sum(axis=1)


def _with_weights(logits: Array, labels: Array) -> tuple[Array, Array]:
    """Returns `_prepared` logits, and the labels as class weights f32[B, K]."""
    weights = as_weights(labels, logits)
    logits = as_logits(logits)
    return logits, weights.astype(logits.dtype)


def _prepared(logits: Array, labels: Array) -> tuple[Array, Array]:
    """Returns logits f32[B, K], and labels i32[B], or f32[B, K] like the logits."""
    labels = as_labels(labels, logits)
    logits = as_logits(logits)
    return logits, labels if labels.ndim == 1 else labels.astype(logits.dtype)


def as_logits(logits: Array) -> Array:
    """Returns logits f32[B, K] as a JAX array of that dtype, or of float64 where they are.

    A softmax of bfloat16 has two digits, and its gradient at sure rows is 0.
    """
    logits = jnp.asarray(logits)
    return widened(logits)


def classes(labels: Array) -> Array:
    """Returns the most probable class, i32[B], of labels i32[B] or f32[B, K]."""
    labels = jnp.asarray(labels)
    return labels.astype(jnp.int32) if labels.ndim == 1 else jnp.argmax(labels, axis=1)


def as_weights(labels: Array, logits: Any) -> Array:
    """Returns labels as class weights f[B, K]; those of classes are 0 and 1.

    Raises:
      UserError: as `as_labels`.
    """
    labels = as_labels(labels, logits)
    return labels if labels.ndim > 1 else jax.nn.one_hot(labels, np.shape(logits)[1])


def as_labels(labels: Array, logits: Any, *, name: str = "labels") -> Array:
    """Returns labels i32[B] or f32[B, K] as a JAX array.

    logits: f[B, K], or a ShapeDtypeStruct.

    Raises:
      UserError: another shape or dtype, of logits too; a known class is not in 0 to K - 1, or a
        known weight not finite or, but for rounding, below 0; the message calls the labels `name`.
    """
    if not jnp.issubdtype(dtype_of(logits), jnp.floating) or np.ndim(logits) != 2:
        raise UserError(f"logits must be f32[B, K], got {described(logits)}")
    batch, count = np.shape(logits)
    if is_real(labels):
        shape, dtype = np.shape(labels), dtype_of(labels)
        if shape == (batch,) and jnp.issubdtype(dtype, jnp.integer):
            return as_classes(labels, count, name=name)
        if shape == (batch, count) and jnp.issubdtype(dtype, jnp.floating):
            # Probabilities that were completed to 1 in float32 may round below 0.
            is_weight = lambda weight: (weight >= -1e-6) & (weight < np.inf)
            check_known(name, labels, is_weight, "finite weights of at least 0")
            return jnp.asarray(labels)
    raise UserError(
        f"{name} must be integers i32[B] or class weights f32[B, K] with B = {batch}, K = {count}, "
        f"got {described(labels)}"
    )


def as_classes(labels: ArrayLike, num_classes: int, *, name: str = "labels") -> Array:
    """Returns classes i32[B] as a JAX array.

    Raises:
      UserError: another shape or dtype, or a known class is not in 0 to K - 1; the message calls
        the classes `name`.
    """
    is_array = is_real(labels) and np.ndim(labels) == 1
    if not is_array or not jnp.issubdtype(dtype_of(labels), jnp.integer):
        raise UserError(f"{name} must be classes i32[B], got {described(labels)}")
    in_range = lambda label: (label >= 0) & (label < num_classes)
    check_known(name, labels, in_range, f"classes from 0 to {num_classes - 1}")
    # `one_hot` counts to K in the dtype of the classes, where 261 bytes are 5.
    return jnp.asarray(with_dtype(labels, jnp.int32))


def with_dtype(value: ArrayLike, dtype: Any) -> Any:
    """Returns a list or an array in a dtype; on one device or none, by NumPy, without a program."""
    if dtype_of(value) == dtype and hasattr(value, "astype"):
        return value
    return on_host(value).astype(dtype)


def on_host(value: ArrayLike) -> Any:
    """Returns known values as a NumPy array, except an array on more devices than one."""
    if not is_known(value):
        return value
    spread = isinstance(value, jax.Array) and len(value.devices()) > 1
    return value if spread else np.asarray(value)


LOSSES: dict[str, RowLoss] = {
    "binary_cross_entropy": binary_cross_entropy,
    "cross_entropy": cross_entropy,
    "squared_error": squared_error,
}


def loss_fn(name: str) -> RowLoss:
    """Returns the loss of that name.

    Raises:
      UserError: the name is not in LOSSES.
    """
    check_choice("loss", name, LOSSES)
    return LOSSES[name]
