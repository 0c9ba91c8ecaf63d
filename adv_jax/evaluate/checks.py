"""What is refused before and after the compiled code runs: one line that says what to give."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adv_jax import norms
from adv_jax.attacks._arguments import check_counts, check_function, is_interval, traced
from adv_jax.evaluate.batching import Progress, over_batches, silent
from adv_jax.evaluate.budget import ball_of, is_targeted, scale_of
from adv_jax.evaluate.measures import predictions
from adv_jax.step import over_devices
from adv_jax.types import Array, Attack, Bounds, LogitsFn, UserError

# Keywords of a size that is a distance, which bounds limit.
DISTANCES = ("eps", "std")
_LARGEST = float(np.finfo(np.float32).max)


def checked_data(x: Any, y: Any, *, bounds: Bounds | None, batch_size: int) -> tuple[Array, Array]:
    """x f32[N, *D] and y i32[N] as JAX arrays.

    Raises:
      UserError: no rows or as many labels; a wrong rank or dtype; x not finite or outside the
        bounds; bounds that are none; no batch.
    """
    check_counts(batch_size=batch_size)
    for name, array in (("x", x), ("y", y)):
        if not norms.is_real(array) or not np.ndim(array) or not len(array):
            found = norms.described(array)
            raise UserError(f"{name} is {found}; allowed are one or more rows of numbers")
    if len(x) != len(y):
        raise UserError(f"x has {len(x)} rows and y {len(y)}; allowed are equal numbers")
    x, y = jnp.asarray(x), jnp.asarray(y)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise UserError(f"x is {norms.described(x)}; allowed are floats, f32[N, *D]")
    if y.ndim != 1 or not jnp.issubdtype(y.dtype, jnp.integer):
        raise UserError(f"y is {norms.described(y)}; allowed are classes, i32[N]")
    if bad := int((~jnp.isfinite(x)).sum()):
        raise UserError(f"x has {bad} values that are NaN or infinite; allowed are finite numbers")
    if bounds is not None:
        low, high = jnp.asarray(checked_bounds(bounds), x.dtype)
        if not low <= x.min() <= x.max() <= high:
            raise UserError(
                f"x has values from {x.min():g} to {x.max():g}; allowed are the bounds, {bounds}"
            )
    return x, y


def checked_bounds(bounds: Bounds) -> Bounds:
    """(lo, hi).

    Raises:
      UserError: not two numbers, the first the lower.
    """
    if not is_interval(bounds):
        found = norms.described(bounds)
        raise UserError(f"bounds is {found}; allowed are two numbers (lo, hi), lo < hi, or None")
    return bounds


def check_size(what: str, size: Any, *, above: bool = False) -> None:
    """Refuses what is no size of an attack.

    Args:
      what: the words before the size.
      above: 0 is none either.

    Raises:
      UserError: no number of at least 0, or more than float32 holds.
    """
    real = norms.is_real(size) and np.ndim(size) == 0
    if not real or not 0 <= size <= _LARGEST or (above and size == 0):
        found = f"{size:g}" if real else norms.described(size)
        least = "above 0" if above else "of at least 0"
        raise UserError(f"{what} {found}; allowed are numbers {least}, of 32 bits")


def check_sizes(eps: Any) -> None:
    """Refuses a single size, and what is no sequence of numbers.

    Raises:
      UserError: names it.
    """
    if not norms.is_real(eps) or np.ndim(eps) != 1:
        found = norms.described(eps)
        raise UserError(f"eps is {found}; allowed are sequences of numbers, as [0, 0.1]")


def check_named(name: str, parts: Any) -> None:
    """Refuses parts without names, as a list of them.

    Raises:
      UserError: no mapping.
    """
    if not isinstance(parts, Mapping):
        kind = type(parts).__name__
        raise UserError(f"{name} is a {kind}; allowed is a dict that gives each a name")


def check_attacks(
    attacks: Mapping[str, Attack], eps: Sequence[float], x: Array, *, bounds: Bounds | None
) -> None:
    """Refuses sizes that are none, and those that nothing within the bounds can have.

    Raises:
      UserError: no attack or eps; eps negative, not finite or larger than the bounds allow; an
        attack that is no function, or targeted, or whose size cannot be set.
      ValueError: an attack's norm is unknown.
    """
    check_named("attacks", attacks)
    if not attacks or not len(eps):
        raise UserError("evaluate needs at least one attack and one eps")
    for size in eps:
        check_size("eps has", size)
    for name, attack in attacks.items():
        if is_targeted(attack):
            raise UserError(
                f"{name} is targeted, and takes the labels for the classes to reach; allowed is "
                "targeted=False"
            )
        norm = distance_of(attack)
        if norm is not None and bounds is not None:
            check_distance("eps has", max(eps), x.shape[1:], norm=norm, bounds=bounds, attack=name)


def distance_of(attack: Attack) -> str | None:
    """The norm in which bounds limit an attack's size; None: they do not, or it does not say.

    Raises:
      as `norm_of` and `scale_of`.
    """
    return "linf" if scale_of(attack) == "std" else ball_of(attack)


def check_distance(
    what: str, size: float, shape: tuple[int, ...], *, norm: str, bounds: Bounds, attack: str
) -> None:
    """Refuses a size that nothing within the bounds can have.

    Args:
      what: the words before the size; attack: those after what is allowed.
      shape: of an input, [*D].

    Raises:
      UserError: it is larger than the bounds allow.
    """
    largest = (bounds[1] - bounds[0]) * norms.norm_of_ones(shape, norm)
    if size > largest * (1 + 1e-6):
        raise UserError(
            f"{what} {size:g}; allowed are 0 to {largest:g} for {attack}, the largest {norm} "
            f"distance within the bounds {bounds}"
        )


def checked_predictions(
    logits_fn: LogitsFn, x: Array, y: Array, *, batch_size: int, progress: Progress = silent
) -> dict[str, np.ndarray]:
    """`predictions` for all clean rows, f[N] each, once the model is found to be in order.

    Raises:
      UserError: it is no function, or cannot be traced; it gives no logits f32[N, K] of floats, or
        y has a class that K does not allow; a logit is NaN or infinite; the logits are
        probabilities.
    """
    check_function(logits_fn)
    rows = min(batch_size, len(x))
    logits = traced(logits_fn, jax.ShapeDtypeStruct((rows, *x.shape[1:]), x.dtype))
    shape = getattr(logits, "shape", None)
    if shape is None or len(shape) != 2 or shape[0] != rows:
        found = type(logits).__name__ if shape is None else f"{logits.dtype}{list(shape)}"
        raise UserError(f"logits_fn gives {found}; allowed are logits f32[B, K] with B = {rows}")
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise UserError(
            f"logits_fn gives {logits.dtype}{list(shape)}; allowed are logits of floating point"
        )
    classes = shape[1]
    for label in (int(y.min()), int(y.max())):
        if not 0 <= label < classes:
            allowed = f"allowed are 0 to {classes - 1}, the classes of the logits"
            raise UserError(f"y has the label {label}; {allowed}")

    def predicted(x: Array) -> dict[str, Array]:
        logits = logits_fn(x)
        # What float32 makes of a softmax, or bfloat16 of its 256 steps.
        sums_to_one = jnp.abs(logits.astype(jnp.float32).sum(axis=1) - 1) < 1e-2
        return predictions(logits) | {
            "finite": jnp.isfinite(logits).all(axis=1),
            "probabilities": (logits >= 0).all(axis=1) & sums_to_one,
        }

    found = over_batches(
        over_devices(predicted), (x,), batch_size=batch_size, progress=progress, description="clean"
    )
    check_finite(found["finite"], "x")
    if found["probabilities"].all():
        raise UserError(
            "logits_fn gives probabilities: no number is negative and every row sums to 1; "
            "allowed are logits, before the softmax"
        )
    return found


def check_finite(finite: np.ndarray, where: str) -> None:
    """Refuses a model that has diverged.

    Args:
      finite: bool[..., N].
      where: the inputs in words.

    Raises:
      UserError: the logits of some rows are not finite.
    """
    if bad := int((~finite).reshape(-1, finite.shape[-1]).any(0).sum()):
        raise UserError(
            f"logits_fn gives NaN or infinity for {bad} of {finite.shape[-1]} rows of {where}; "
            "allowed are finite logits"
        )
