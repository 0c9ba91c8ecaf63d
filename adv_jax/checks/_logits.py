"""Checks of logits and labels."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adv_jax import losses
from adv_jax.types import (
    Array,
    UserError,
    described,
    dtype_of,
    host_array,
    is_known,
    is_real,
    widened,
    working_dtype,
)


def checked_logits(logits: Array, *, batch: int) -> Array:
    """Returns logits f[B, K] as float32, or as float64 where they are, `losses.unfused`.

    Raises:
      UserError: as `check_logits`.
    """
    check_logits(logits, batch=batch)
    return losses.unfused(widened(logits))


def check_logits(logits: Any, *, batch: int, name: str = "logits_fn") -> None:
    """Checks the shape and dtype of logits, or of the result of `traced_model`.

    name: of the function that returned them.

    Raises:
      UserError: not one array f[B, K] of floats, or a single class.
    """
    allowed, found = f"logits f32[B, K] with B = {batch}", f"a {type(logits).__name__}"
    if isinstance(logits, tuple):  # As many modules return (logits, hidden representations).
        found += ": return its logits alone"
    if isinstance(logits, jax.Array | jax.ShapeDtypeStruct):
        found = described(logits)
        if logits.ndim == 2 and logits.shape[0] == batch:
            if not jnp.issubdtype(logits.dtype, jnp.floating):
                allowed = "logits of floating point, which have a gradient"
            elif logits.shape[1] < 2:
                allowed = "logits of 2 classes or more ([0, z] for one logistic output z)"
            else:
                return
    raise UserError(f"{name} must return {allowed}, got {found}")


def logit_flags(logits: Any) -> dict[str, Any]:
    """Returns {"finite", "probabilities": bool[B]} for the rows of logits f[B, K], NumPy or traced.

    The sum of a row of probabilities may be 0.01 off, as in bfloat16.
    """
    # Clipped, as the sum of huge logits would overflow.
    sums_to_one = abs(logits.astype("float32").clip(0, 2).sum(axis=1) - 1) < 1e-2
    return {
        "finite": (abs(logits) < float("inf")).all(axis=1),
        "probabilities": (logits >= 0).all(axis=1) & sums_to_one,
    }


def finite_rows(values: Array) -> Array:
    """Returns whether all numbers of each row of f[B, ...] are finite: bool[B]."""
    return jnp.isfinite(values).reshape(len(values), -1).all(axis=1)


def check_flags(flags: Mapping[str, np.ndarray]) -> None:
    """Checks the flags that `logit_flags` gives for all rows of x.

    Raises:
      UserError: as `check_finite`, or all rows are probabilities.
    """
    check_finite(flags["finite"], "x")
    if flags["probabilities"].all():
        raise UserError(
            "logits_fn must return logits, the values before the softmax or the jnp.log of it, "
            "got rows >= 0 that sum to 1, which look like probabilities: their gradients vanish"
        )


def check_finite(finite: np.ndarray, where: str) -> None:
    """Checks that a model has not diverged.

    Args:
      finite: bool[..., N], whether the logits of a row are finite.
      where: the inputs, in words.

    Raises:
      UserError: some are not.
    """
    if bad := bad_rows(finite):
        raise UserError(
            f"logits_fn must return finite logits, got NaN or infinity for {bad} of {where}"
        )


def bad_rows(good: np.ndarray) -> str:
    """Returns the number of rows of bool[..., N] that are False somewhere, in words; "" if none.

    >>> bad_rows(np.array([[True, False, True], [True, True, False]]))
    '2 of 3 rows'
    """
    bad = int((~good).reshape(-1, good.shape[-1]).any(0).sum())
    return f"{bad} of {good.shape[-1]} rows" if bad else ""


def checked_labels(y: Any, logits: Any) -> Array:
    """Returns y as a JAX array: i32[B], or f32[B, K] like the logits.

    Integers i32[B, 1] become i32[B]; a one-hot i32[B, K] becomes f32[B, K].

    Args:
      logits: f32[B, K], or a ShapeDtypeStruct.

    Raises:
      UserError: another shape or dtype; where values are known: not classes, or not weights.
    """
    given = y
    y = losses.as_labels(_flat(y, logits), logits, name="y")
    if is_known(y) and y.ndim == 2 and jnp.issubdtype(dtype_of(given), jnp.integer):
        values = np.asarray(y, np.float64)
        other = values[values.sum(axis=1) != 1]
        if other.size:
            raise UserError(
                f"y must be classes i32[B], or one-hot i32[B, K], got the row {other[0]}: several "
                'labels need floats and loss="binary_cross_entropy"'
            )
    return y


def _flat(y: Any, logits: Any) -> Any:
    """Returns integers [B, 1] as [B], and [B, K] as weights; else y."""
    if jnp.issubdtype(dtype_of(y), jnp.integer) and np.ndim(y) == 2:
        if np.shape(y) == (logits.shape[0], 1):
            return losses.on_host(y).reshape(-1)
        if np.shape(y) == logits.shape:
            return losses.with_dtype(y, working_dtype(logits.dtype))
    return y


def array_of_lists(y: Any) -> Any:
    """Returns nested lists of numbers as a NumPy array; all else, as trees of arrays, as it is."""
    leaves = jax.tree.leaves(y)
    if not isinstance(y, list | tuple) or not leaves or any(map(np.ndim, leaves)):
        return y
    array = host_array(y)
    return array if is_real(array) else y
