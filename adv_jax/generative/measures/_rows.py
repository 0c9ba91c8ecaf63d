"""Samples and real inputs as rows that can be compared."""

import jax.numpy as jnp
import numpy as np

from adv_jax.checks import as_batch
from adv_jax.types import Array, UserError, working_dtype


def as_rows(samples: Array, x: Array) -> tuple[Array, Array]:
    """Returns f[n, *D] and f[m, *D] as f[n, d] and f[m, d], in the dtype to compute in.

    Raises:
      UserError: samples and x of different inputs, without rows or not finite.
    """
    if samples.shape[1:] != x.shape[1:]:
        raise UserError(f"samples must be f[n, {x.shape[1:]}], as x is, got {samples.shape}")
    dtypes = (working_dtype(rows.dtype) for rows in (samples, x))
    common = np.result_type(*dtypes)
    samples, x = (jnp.asarray(rows, common) for rows in (samples, x))
    as_batch(samples, name="samples")
    as_batch(x)
    return samples.reshape(len(samples), -1), x.reshape(len(x), -1)
