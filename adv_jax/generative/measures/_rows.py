"""Samples and real inputs as rows that can be compared."""

import jax.numpy as jnp

from adv_jax.checks import as_batch
from adv_jax.types import Array, UserError, working_dtype


def centered(samples: Array, x: Array) -> tuple[Array, Array]:
    """Returns f[n, *D] and f[m, *D] as f[n, d] and f[m, d], minus the mean of x.

    Distances do not change, but squares of points far from 0 would round them away.

    Raises:
      UserError: samples and x of different inputs, without rows or not finite.
    """
    if samples.shape[1:] != x.shape[1:]:
        raise UserError(f"samples must be f[n, {x.shape[1:]}], as x is, got {samples.shape}")
    samples, x = (jnp.asarray(rows, working_dtype(rows.dtype)) for rows in (samples, x))
    as_batch(samples, name="samples")
    as_batch(x)
    flat = x.reshape(len(x), -1)
    center = flat.mean(0, keepdims=True)
    return samples.reshape(len(samples), -1) - center, flat - center
