"""Samples and real inputs as rows that can be compared."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from adv_jax.checks import as_batch
from adv_jax.types import Array, UserError, described, dtype_of, is_real, working_dtype


def as_rows(samples: ArrayLike, x: ArrayLike) -> tuple[Array, Array]:
    """Returns f[n, *D] and f[m, *D] as f[n, d] and f[m, d], in the dtype to compute in.

    Raises:
      UserError: samples and x of different inputs, without rows or not finite.
    """
    for name, rows in (("samples", samples), ("x", x)):
        if not is_real(rows) or not np.ndim(rows):
            raise UserError(f"{name} must be numbers f[n, *D], got {described(rows)}")
    shapes = np.shape(samples), np.shape(x)
    if shapes[0][1:] != shapes[1][1:]:
        raise UserError(f"samples must be f[n, {shapes[1][1:]}], as x is, got {shapes[0]}")
    dtypes = (working_dtype(dtype_of(rows)) for rows in (samples, x))
    common = jax.dtypes.canonicalize_dtype(np.result_type(*dtypes))
    samples, x = (jnp.asarray(rows, common) for rows in (samples, x))
    as_batch(samples, name="samples")
    as_batch(x)
    return samples.reshape(len(samples), -1), x.reshape(len(x), -1)
