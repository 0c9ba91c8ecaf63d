"""Auxiliary inputs of the rows, which a model takes beside x: an attention mask, a condition."""

from typing import Any

import jax
import jax.numpy as jnp

from adv_jax.types import Array, LogitsFn, UserError, described


def checked_aux(aux: Any, rows: int) -> Any:
    """Returns aux as a tree of JAX arrays f[N, ...], or None.

    Raises:
      UserError: a leaf is no array, or lacks the axis of the N rows.
    """
    for leaf in jax.tree.leaves(aux):
        if not hasattr(leaf, "shape") or leaf.shape[:1] != (rows,):
            found = described(leaf)
            raise UserError(f"aux must be a tree of arrays with N = {rows} rows, got {found}")
    return jax.tree.map(jnp.asarray, aux)


def with_aux(logits_fn: LogitsFn, aux: Any) -> LogitsFn:
    """Returns x -> logits_fn(x, aux), where x is the batch of aux, or k copies of it in a row.

    >>> add = with_aux(lambda x, aux: x + aux, jnp.array([1., 2.]))
    >>> add(jnp.zeros(4))
    Array([1., 2., 1., 2.], dtype=float32)
    """
    if aux is None:
        return logits_fn
    size = len(jax.tree.leaves(aux)[0])

    def bound(x: Array) -> Array:
        copies, rest = divmod(len(x), size)
        if rest:
            raise UserError(
                f"an attack without the keyword aux must call logits_fn with all {size} rows, as "
                f"aux goes with them, got {len(x)} rows"
            )
        return logits_fn(x, jax.tree.map(lambda leaf: jnp.concatenate([leaf] * copies), aux))

    return bound
