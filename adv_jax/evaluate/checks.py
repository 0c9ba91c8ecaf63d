"""Checks of the arguments of `evaluate` and of what a model returns for them."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adv_jax import norms
from adv_jax.checks import (
    as_batch,
    check_bounds,
    check_counts,
    check_flags,
    check_function,
    check_logits,
    check_range,
    check_width,
    checked_labels,
    logit_flags,
    traced,
)
from adv_jax.evaluate.batching import (
    Progress,
    mesh_sharding,
    over_batches,
    over_parts,
    row_shards,
    silent,
)
from adv_jax.evaluate.budget import ball_of, is_targeted, scale_of
from adv_jax.evaluate.measures import predictions
from adv_jax.types import Array, Attack, Bounds, LogitsFn, UserError

# The sizes that are distances, which bounds limit.
DISTANCES = ("eps", "std")


def checked_data(x: Any, y: Any, *, bounds: Bounds | None, batch_size: int) -> tuple[Array, Array]:
    """Returns x f32[N, *D] and y i32[N] as JAX arrays.

    Raises:
      UserError: x as in `attacks`; y are not N integers; bounds are not (lo, hi); batch_size < 1.
    """
    check_counts(batch_size=batch_size)
    x = as_batch(x, bounds)
    check_bounds(bounds, (1, *x.shape[1:]))
    labels = jnp.asarray(y) if norms.is_real(y) else None
    if labels is None or labels.shape != x.shape[:1] or labels.dtype.kind not in "iu":
        raise UserError(f"y must be classes i32[N] with N = {len(x)}, got {norms.described(y)}")
    return x, labels


def check_sizes(eps: Any) -> None:
    """Raises UserError for a single size, and for anything but a sequence of numbers."""
    if not norms.is_real(eps) or np.ndim(eps) != 1:
        found = norms.described(eps)
        raise UserError(f"eps must be a sequence of numbers such as [0, 0.1], got {found}")


def check_named(name: str, parts: Any) -> None:
    """Raises UserError for parts without names, as a list of them."""
    if not isinstance(parts, Mapping):
        kind = type(parts).__name__
        raise UserError(f"{name} must be a dict that gives each a name, got a {kind}")


def check_attacks(
    attacks: Mapping[str, Attack],
    eps: Sequence[float],
    x: Array,
    *,
    bounds: Bounds | None,
    name: str = "eps",
) -> None:
    """Checks that each attack is untargeted and can be run at each size; `name` is of the sizes.

    Raises:
      UserError: no attack or eps; eps negative, not finite in float32 or larger than the bounds
        allow; an attack that is not a function, or targeted, or whose size cannot be set.
      ValueError: an attack's norm is unknown.
    """
    check_named("attacks", attacks)
    if not attacks:
        raise UserError("attacks must have one or more entries, got none")
    if not len(eps):
        raise UserError(f"{name} must be one or more numbers of at least 0, got ()")
    for size in eps:
        check_range(name, size, "[0, inf)")
        norms.per_row(name, size, jax.ShapeDtypeStruct(x.shape, jnp.float32))
    for key, attack in attacks.items():
        if is_targeted(attack):
            raise UserError(
                f"{key} must be an attack with targeted=False, as y are its labels, got "
                "targeted=True"
            )
        norm = distance_of(attack)
        if norm is not None and bounds is not None:
            check_width(f"{name} of {key}", max(eps), x.shape[1:], norm, bounds)


def distance_of(attack: Attack) -> str | None:
    """Returns the norm of an attack's size if it is a distance, which bounds limit, else None.

    Raises:
      as `norm_of` and `scale_of`.
    """
    return "linf" if scale_of(attack) == "std" else ball_of(attack)


def checked_predictions(
    logits_fn: LogitsFn, x: Array, y: Array, *, batch_size: int, progress: Progress = silent
) -> dict[str, np.ndarray]:
    """Returns `predictions` for all clean rows, f[N] each, after checking the model.

    Raises:
      UserError: the model is not a traceable function; it does not return logits f32[N, K] of
        floats; y has a class outside them; a logit is NaN or infinite, or all are probabilities.
    """
    check_function(logits_fn)
    placed = mesh_sharding(x)
    rows = min(batch_size, len(x)) if placed is None else row_shards(x)
    like = jax.ShapeDtypeStruct((rows, *x.shape[1:]), x.dtype, sharding=placed)
    logits = traced(logits_fn, like)
    check_logits(logits, batch=rows)
    checked_labels(y, jax.ShapeDtypeStruct((len(y), logits.shape[1]), logits.dtype))

    def predicted(logits_fn: LogitsFn, x: Array) -> dict[str, Array]:
        logits = logits_fn(x)
        return predictions(logits) | logit_flags(logits)

    found = over_batches(
        over_parts(predicted, logits_fn, x),
        (x,),
        batch_size=batch_size,
        progress=progress,
        description="clean",
    )
    check_flags(found, "x")
    return found
