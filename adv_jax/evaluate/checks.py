"""Checks of the arguments of `evaluate` and of what a model returns for them."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adv_jax import norms
from adv_jax.attacks import ranges_of
from adv_jax.checks import (
    array_of_lists,
    as_batch,
    check_bounds,
    check_flags,
    check_function,
    check_logits,
    check_rows,
    check_width,
    checked_count,
    checked_labels,
    checked_number,
    is_targeted,
    traced_model,
    with_aux,
)
from adv_jax.evaluate.batching import mesh_sharding, over_batches, row_shards
from adv_jax.evaluate.compiled import Batched
from adv_jax.evaluate.crafting import naming
from adv_jax.evaluate.predicting import predicted
from adv_jax.evaluate.preparing import check_named
from adv_jax.evaluate.probing import probe_values
from adv_jax.evaluate.sentences import of_values
from adv_jax.evaluate.traits import ball_of, scale_of, sizes_of
from adv_jax.losses import on_host, with_dtype
from adv_jax.programs import is_tracing
from adv_jax.types import (
    Array,
    Attack,
    Bounds,
    LogitsFn,
    UserError,
    check_known,
    described,
    dtype_of,
    is_known,
    is_real,
)


def checked_data(
    x: Any, y: Any, aux: Any = None, *, bounds: Bounds | None
) -> tuple[Array, Array, Any]:
    """Returns x f32[N, *D], y i32[N] and aux, a tree of f[N, ...], as JAX arrays.

    Raises:
      UserError: x as in `known_batch`; y are not N integers; aux has not N rows; bounds are not
        (lo, hi).
    """
    x = known_batch(x, bounds)
    check_bounds(bounds, (1, *x.shape[1:]))
    y = _checked_classes(y, len(x))
    check_rows("aux", aux, batch=len(x))
    return x, y, jax.tree.map(jnp.asarray, aux)


def checked_inside(
    logits_fn: LogitsFn, x: Any, y: Any, *, batch_size: int, integers: bool = False
) -> tuple[Array, Array, int, bool]:
    """Returns x, y i32[N] and batch_size of a function that may be traced, and if all is known.

    integers: allows x of integers, such as indices of rows, which no attack can move.

    Raises:
      UserError: as `checked_count`, `checked_data` and `check_model`; of traced x or y only the
        shape and dtype of y are checked.
    """
    batch_size = checked_count("batch_size", batch_size)
    if is_tracing() or not (is_known(x) and is_known(y)):
        return x, _checked_classes(y, len(x)), batch_size, False
    whole = integers and np.ndim(x) and np.size(x) and jnp.issubdtype(dtype_of(x), jnp.integer)
    x = jnp.asarray(x) if whole else known_batch(x)
    y = _checked_classes(y, len(x))
    check_model(logits_fn, *like_batch(x, None, batch_size), y=y)
    return x, y, batch_size, True


def known_batch(x: Any, bounds: Bounds | None = None) -> Array:
    """Returns x as a JAX array f[N, *D] of known values.

    Raises:
      UserError: as `as_batch`; JAX is tracing.
    """
    x = as_batch(x, bounds)
    if is_tracing() or not is_known(x):
        found = f"{described(x)} inside jit, vmap or grad"
        raise UserError(f"x must be known, as an evaluation returns NumPy arrays, got {found}")
    return x


def _checked_classes(y: Any, rows: int) -> Array:
    """Returns i32[N]; raises UserError unless y are N integers, `_classes` of them."""
    y = array_of_lists(y)
    labels = on_host(_classes(y, rows)) if is_real(y) else None
    allowed = f"classes i32[N] with N = {rows}"
    if labels is None or labels.shape != (rows,) or labels.dtype.kind not in "iu":
        raise UserError(f"y must be {allowed}, got {described(y)}")
    check_known("y", labels, lambda label: (label >= -(2**31)) & (label < 2**31), allowed)
    return jnp.asarray(with_dtype(labels, jnp.int32))


def _classes(y: Any, rows: int) -> Any:
    """Returns the classes of integers [N, 1], and of known one-hot rows [N, K]; else y."""
    values = np.asarray(y) if is_known(y) else y
    if values.shape == (rows, 1) and values.dtype.kind in "iu":
        return values[:, 0]
    if is_known(y) and values.ndim == 2 and values.shape[1] > 1:
        one_hot = ((values == 0) | (values == 1)).all() and (values.sum(axis=1) == 1).all()
        return values.argmax(axis=1) if one_hot else y
    return y


def checked_sizes(
    attacks: Mapping[str, Attack], eps: Any, x: Array, *, bounds: Bounds | None
) -> dict[str, Sequence[float]]:
    """Returns the sizes of each attack, after `check_attacks`.

    Raises:
      UserError: eps is a single size, or anything but a sequence of numbers or a dict of such
        sequences, one of the same length for each attack; and as `check_attacks`.
    """
    check_named("attacks", attacks)
    if not attacks:
        raise UserError("attacks must have one or more entries, got none")
    sizes = sizes_of(attacks, eps)
    if sizes.keys() != attacks.keys():
        raise UserError(
            f"eps must have the names of the attacks, {', '.join(attacks)}, got {', '.join(sizes)}"
        )
    check_attacks(attacks, sizes, x, bounds=bounds)
    if not isinstance(eps, Mapping):  # A dict may hold the size of one attack and vary another.
        check_different("eps", list(eps))
    if len(lengths := {len(values) for values in sizes.values()}) > 1:
        found = ", ".join(map(str, sorted(lengths)))
        raise UserError(f"eps must be as many sizes for each attack, got {found}")
    return sizes


def check_attacks(
    attacks: Mapping[str, Attack],
    sizes: Mapping[str, Sequence[float]],
    x: Array,
    *,
    bounds: Bounds | None,
    name: str = "eps",
) -> None:
    """Checks that each attack is untargeted and can be run at each of its sizes, called `name`.

    Raises:
      UserError: as `check_sequence_of_sizes`; a size outside the range that the attack states, or
        larger than the bounds allow; an attack that is not a function, or targeted, or whose size
        cannot be set; an attack's norm is unknown.
    """
    for key, attack in attacks.items():
        check_sequence_of_sizes(name, sizes[key], x)
        with naming(key, attack):
            scale, norm, targeted = scale_of(attack), distance_of(attack), is_targeted(attack)
        if targeted:
            raise UserError(
                f"{key} must be an attack with targeted=False, as y are its labels (or a function "
                "that chooses its own classes), got targeted=True"
            )
        interval = ranges_of(attack).get(scale, "[0, inf)")
        checked_number(f"{name} of {key}", sizes[key], interval, per_row=True)
        if norm is not None and bounds is not None:
            check_width(f"{name} of {key}", max(sizes[key]), x.shape[1:], norm, bounds)


def check_sequence_of_sizes(name: str, sizes: Any, x: Array) -> None:
    """Raises UserError unless sizes are one or more numbers >= 0, finite in the precision of x."""
    if not is_real(sizes) or np.ndim(sizes) != 1:
        found = described(sizes)
        raise UserError(f"{name} must be a sequence of numbers such as [0, 0.1], got {found}")
    if not len(sizes):
        raise UserError(f"{name} must be one or more numbers of at least 0, got ()")
    for size in sizes:
        checked_number(name, size, "[0, inf)")
        norms.per_row(name, size, x)


def check_different(name: str, values: Sequence[Any]) -> None:
    """Raises UserError if a value is there twice.

    >>> check_different("eps", [0.1, 0.2, 0.1])
    Traceback (most recent call last):
    adv_jax.types.UserError: eps must not repeat, got 0.1 twice or more
    """
    for value in values:
        if values.count(value) > 1:
            raise UserError(f"{name} must not repeat, got {value} twice or more")


def distance_of(attack: Attack) -> str | None:
    """Returns the norm of an attack's size if it is a distance, which bounds limit, else None.

    Raises:
      as `norm_of` and `scale_of`.
    """
    return "linf" if scale_of(attack) == "std" else ball_of(attack)


def checked_predictions(
    logits_fn: LogitsFn,
    x: Array,
    y: Array,
    aux: Any,
    *,
    batch_size: int,
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Returns `predictions` for all clean rows, f[N] each, and `warnings_of_rows`.

    Raises:
      UserError: as `check_model`; a logit is NaN or infinite, or all are probabilities.
    """
    check_model(logits_fn, *like_batch(x, aux, batch_size), y=y)
    found = over_batches(Batched(predicted, logits_fn), (x, aux), batch_size=batch_size)
    check_flags(found)
    return found, warnings_of_rows(logits_fn, x, aux, batch_size=batch_size)


def warnings_of_rows(logits_fn: LogitsFn, x: Array, aux: Any, *, batch_size: int) -> list[str]:
    """Returns a sentence if the model draws random numbers, or if its rows interact."""

    def changes(logits_fn: LogitsFn, x: Array, aux: Any) -> dict[str, Array]:
        return probe_values(with_aux(logits_fn, aux), x)

    found = over_batches(Batched(changes, logits_fn), (x, aux), batch_size=batch_size)
    return list(of_values(found["random"].mean(), found["batch"].mean()))


def check_model(logits_fn: LogitsFn, x: Any, aux: Any, *, y: Array) -> Any:
    """Returns the shape of the logits, after checks; x, aux: the shapes of a batch.

    Raises:
      UserError: the model is not a traceable function; it does not return logits f32[B, K] of
        floats; y has a class outside them.
    """
    check_function(logits_fn)
    logits = traced_model(logits_fn, *((x,) if aux is None else (x, aux)))
    check_logits(logits, batch=x.shape[0])
    checked_labels(y, jax.ShapeDtypeStruct((len(y), logits.shape[1]), logits.dtype))
    return logits


def like_batch(x: Array, aux: Any, batch_size: int) -> tuple[Any, Any]:
    """Returns the shapes of a batch, on the mesh of x if it lies on one."""
    placed = mesh_sharding(x)
    rows = min(batch_size, len(x)) if placed is None else row_shards(x)

    def like(leaf: Any, sharding: Any = None) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((rows, *leaf.shape[1:]), leaf.dtype, sharding=sharding)

    return like(x, placed), jax.tree.map(like, aux)
