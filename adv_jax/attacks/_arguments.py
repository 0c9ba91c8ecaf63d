"""The arguments of attacks, checked before anything is computed.

Arguments with known values are checked and refused in words. Inside jit, vmap or grad there are
only shapes to check, and a checked call costs nothing there.
"""

import contextlib
import operator
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import ArrayLike

from adv_jax import losses, norms
from adv_jax.attacks._bare import is_tracing
from adv_jax.types import Array, Bounds, LogitsFn, Norm, UserError

_ASKS_FOR_VALUES = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)


def as_batch(x: Array, bounds: Bounds | None = None, *, name: str = "x") -> Array:
    """x as a JAX array f[B, *D], constant, so that nothing is differentiated twice for nothing.

    Raises:
      ValueError: x is not floating point (integer pixels cannot take a small step), or no batch,
        or an empty one; where values are known: not finite, or outside the bounds.
    """
    if not norms.is_real(x):
        raise ValueError(f"{name} must be a batch f32[B, *D] of floats, got {norms.described(x)}")
    x = jnp.asarray(x)
    if x.ndim == 0 or not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"{name} must be a batch f32[B, *D] of floats, got {describe(x)}")
    if x.shape[0] == 0:
        raise ValueError(f"{name} must have at least one row, got {describe(x)}")
    if x.size == 0:
        raise ValueError(f"{name} must have at least one number a row, got {describe(x)}")
    check_bounds(bounds)
    if is_known(x):
        _check_values(name, np.asarray(x, np.float64), x.dtype, bounds)
    return jax.lax.stop_gradient(x)


def checked(logits_fn: LogitsFn, x: Array, y: Array | None, bounds: Bounds | None = None) -> Array:
    """`as_batch`, and a look at the model and the labels: one forward pass outside traced code.

    Args:
      y: i32[B], f32[B, K], or None: what the model predicts at x.

    Raises:
      ValueError: as `as_batch`; a model that is no function of x, or not made of jax.numpy
        operations; logits that are no f32[B, K]; labels of another shape or type; where values are
        known: logits that are not finite or look like probabilities, labels that are no class.
    """
    check_function(logits_fn)
    x = as_batch(x, bounds)
    if is_known(x) and not is_tracing():
        traced(logits_fn, x)
        logits = checked_logits(logits_fn(x), batch=x.shape[0])
        if is_known(logits):
            _check_logits(np.asarray(logits))
        if y is not None:
            checked_labels(y, logits)
    return x


def check_function(fn: Any, *, name: str = "logits_fn") -> None:
    """Refuses what is no function, and Flax modules without their variables.

    Raises:
      UserError: names it.
    """
    if not callable(fn) or _is_unbound(fn):
        raise UserError(
            f"{name} must be a function of x alone, got a {type(fn).__name__}: "
            "pass lambda x: model.apply(variables, x)"
        )


def traced(fn: Callable[[Array], Any], x: Any, *, name: str = "logits_fn") -> Any:
    """What a function of x gives, as a tree of shapes and types; nothing is computed.

    Args:
      x: f[B, *D], or its shape and type alone.

    Raises:
      UserError: as `traceable`.
    """
    with traceable(name):
        return jax.eval_shape(fn, x)


@contextlib.contextmanager
def traceable(name: str) -> Iterator[None]:
    """Calls a function that asks for values, of which tracing has none, by its name.

    Raises:
      UserError: it does, as NumPy's functions do.
    """
    try:
        yield
    except _ASKS_FOR_VALUES as error:
        raise UserError(
            f"{name} must be made of jax.numpy operations, which can be traced; NumPy's, float() "
            "and if ask for values"
        ) from error


def radius(
    eps: ArrayLike, x: Array, norm: Norm, bounds: Bounds | None = None, *, name: str = "eps"
) -> Array:
    """The radius of each row's ball, f32[1 or B, 1, ..., 1], to multiply f[B, *D].

    Raises:
      ValueError: unknown norm; neither a real number nor f32[B]; where values are known:
        negative, or larger than the bounds are wide, as of a pixel scale of 255 with bounds (0, 1).
    """
    per_row, ones = norms.per_row(name, eps, x), norms.norm_of_ones(x.shape[1:], norm)
    if bounds is not None and is_known(eps):
        widest, largest = ones * (bounds[1] - bounds[0]), np.max(np.asarray(eps))
        if largest > widest * (1 + 1e-6):
            raise ValueError(
                f"{name} must be at most {widest:g}, the {norm} width of the bounds {bounds}, "
                f"got {largest:g}"
            )
    return per_row


def check_bounds(bounds: Bounds | None) -> None:
    """Refuses what is no interval.

    Raises:
      ValueError: neither None nor two numbers, the first the lower.
    """
    if bounds is not None and not is_interval(bounds):
        raise ValueError(f"bounds must be (lo, hi) with lo < hi, got {norms.described(bounds)}")


def is_interval(bounds: Any) -> bool:
    """Whether they are two known numbers, the first the lower."""
    pair = norms.is_real(bounds) and is_known(bounds) and np.shape(bounds) == (2,)
    return pair and bool(bounds[0] < bounds[1])


def check_counts(**counts: int) -> None:
    """Refuses a number of steps, restarts, rows, ... that is not whole or below 1.

    Raises:
      UserError: names it.
    """
    for name, count in counts.items():
        if not is_whole(count) or count < 1:
            found = norms.described(count)
            raise UserError(f"{name} is {found}; allowed are whole numbers of at least 1")


def check_range(name: str, value: Any, interval: str, *, per_row: bool = False) -> None:
    """Refuses a setting that is not in an interval as "(0, 1]", which 0 is not in and 1 is.

    Args:
      per_row: f32[B] is allowed too; its shape is for `norms.per_row` to check.

    Raises:
      ValueError: names it; no real number, or where its value is known, one outside.
    """
    if not norms.is_real(value) or (np.ndim(value) and not per_row):
        raise ValueError(f"{name} must be a real number, got {norms.described(value)}")
    low, high = map(float, interval[1:-1].split(","))

    def holds(number: np.ndarray) -> np.ndarray:
        above = number > low if interval[0] == "(" else number >= low
        return above & (number < high if interval[-1] == ")" else number <= high)

    norms.check_known(name, value, holds, f"in {interval}")


def checked_logits(logits: Array, *, batch: int) -> Array:
    """Logits f[B, K] as float32, or as float64 where they are.

    Raises:
      ValueError: something else than one array f[B, K] of floats, or a single class.
    """
    if not isinstance(logits, jax.Array):
        kind = type(logits).__name__
        raise ValueError(f"logits_fn must return one array of logits f32[B, K], got a {kind}")
    if logits.ndim != 2 or logits.shape[0] != batch:
        raise ValueError(
            f"logits_fn must return logits f32[B, K] with B = {batch}, got {describe(logits)}"
        )
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise ValueError(
            f"logits_fn must return logits of floating point, which have a gradient, got "
            f"{describe(logits)}"
        )
    if logits.shape[1] < 2:
        raise ValueError(
            f"logits_fn must return logits of 2 classes or more, got {describe(logits)}; those of "
            "one logistic output z are [0, z]"
        )
    return logits.astype(norms.working_dtype(logits.dtype))


def checked_labels(y: Array, logits: Array) -> Array:
    """y as a JAX array: i32[B], or f32[B, K] like the logits.

    Raises:
      ValueError: another shape or type; where values are known: no class, or no weights.
    """
    y, last = losses.checked_labels(y, logits, name="y"), logits.shape[1] - 1
    if is_known(y):
        highest = last if y.ndim == 1 else np.finfo(np.float64).max
        values = np.asarray(y, np.float64)
        bad = values[~((values >= 0) & (values <= highest))]
        if bad.size:
            allowed = f"classes from 0 to {last}"
            allowed = allowed if y.ndim == 1 else "finite weights of at least 0"
            raise ValueError(f"y has {bad[0]:g}; allowed are {allowed}")
    return y


def is_whole(value: Any) -> bool:
    """Whether it may count something."""
    try:
        operator.index(value)
    except TypeError:
        return False
    return True


def is_known(value: ArrayLike) -> bool:
    """Whether the numbers can be looked at: not inside jit, vmap or grad."""
    return not isinstance(value, jax.core.Tracer)


def describe(array: Array | jax.ShapeDtypeStruct) -> str:
    """Type and shape of an array, as float32[6, 5]."""
    return f"{array.dtype.name}{list(array.shape)}"


def _is_unbound(logits_fn: LogitsFn) -> bool:
    """Whether it is a Flax module without its variables, which Flax refuses in many lines."""
    return isinstance(logits_fn, nn.Module) and logits_fn.scope is None


def _check_values(name: str, x: np.ndarray, dtype: np.dtype, bounds: Bounds | None) -> None:
    if not np.isfinite(x).all():
        raise ValueError(f"{name} has {x[~np.isfinite(x)][0]}; allowed are finite numbers")
    if bounds is None:
        return
    lo, hi = (float(np.asarray(bound, dtype)) for bound in bounds)
    outside = x[(x < lo) | (x > hi)]
    if outside.size:
        raise ValueError(f"{name} has {outside[0]:g}, outside the bounds {bounds}")


def _check_logits(logits: np.ndarray) -> None:
    if not np.isfinite(logits).all():
        bad = logits[~np.isfinite(logits)][0]
        raise ValueError(f"logits_fn returns {bad} at x; allowed are finite logits")
    if logits.min() >= 0 and np.allclose(logits.sum(axis=1), 1, atol=1e-3):
        raise ValueError(
            "logits_fn returns rows >= 0 that sum to 1: these look like probabilities, whose "
            "gradients vanish; return the logits before the softmax, or jnp.log of it"
        )


def linf_or_l2(norm: Norm) -> str:
    """The canonical name of one of the two norms.

    Raises:
      ValueError: another norm.
    """
    kind = norms.canonical(norm)
    if kind not in ("linf", "l2"):
        raise ValueError(f'norm must be "linf" or "l2" here, got {norm!r}')
    return kind
