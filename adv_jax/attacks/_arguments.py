"""Checks of the arguments of attacks and of `adv_jax.evaluate`, one for each value.

They raise UserError, `{name} must be {what is allowed}, got {value}`. Inside jit, vmap or grad the
values are unknown, and only shapes and dtypes are checked, at no cost.
"""

import contextlib
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import ArrayLike

from adv_jax import losses, norms
from adv_jax.attacks._bare import is_tracing
from adv_jax.types import Array, Bounds, LogitsFn, Norm, UserError, working_dtype

_ASKS_FOR_VALUES = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)


def as_batch(x: Array, bounds: Bounds | None = None, *, name: str = "x") -> Array:
    """Returns x as a JAX array f[B, *D] without a gradient, so that no attack is differentiated.

    Raises:
      UserError: x is not a batch of floats (integer pixels cannot take a small step) or is empty;
        where values are known: not finite, or outside the bounds.
    """
    allowed = "a batch f32[B, *D] of floats"
    if not norms.is_real(x):
        raise UserError(f"{name} must be {allowed}, got {norms.described(x)}")
    x = jnp.asarray(x)
    if x.ndim == 0 or not jnp.issubdtype(x.dtype, jnp.floating):
        raise UserError(f"{name} must be {allowed}, got {dtype_and_shape(x)}")
    if x.size == 0:
        raise UserError(
            f"{name} must be {allowed} with B and all of D at least 1, got {dtype_and_shape(x)}"
        )
    check_bounds(bounds)
    if is_known(x):
        _check_values(name, np.asarray(x), bounds)
    return jax.lax.stop_gradient(x)


def checked(logits_fn: LogitsFn, x: Array, y: Array | None, bounds: Bounds | None = None) -> Array:
    """`as_batch`, with a check of the model and the labels: one forward pass outside traced code.

    Args:
      y: i32[B], f32[B, K], or None for the model's own predictions.

    Raises:
      UserError: as `as_batch`; the model is not a traceable function of x, or its logits are not
        f32[B, K]; the labels have another shape or dtype; where values are known: logits are not
        finite or look like probabilities, or a label is not a class.
    """
    check_function(logits_fn)
    x = as_batch(x, bounds)
    if is_known(x) and not is_tracing():
        traced(logits_fn, x)
        logits = checked_logits(logits_fn(x), batch=x.shape[0])
        if is_known(logits):
            check_flags(logit_flags(np.asarray(logits)), "x")
        if y is not None:
            checked_labels(y, logits)
    return x


def check_function(fn: Any, *, name: str = "logits_fn") -> None:
    """Raises UserError for a value that is not a function, and for an unbound Flax module."""
    if not callable(fn) or _is_unbound(fn):
        raise UserError(
            f"{name} must be a function of x alone, got a {type(fn).__name__}: "
            "pass lambda x: model.apply(variables, x)"
        )


def traced(fn: Callable[[Array], Any], x: Any, *, name: str = "logits_fn") -> Any:
    """Returns the shapes and dtypes of a function's result, without computing it.

    Args:
      x: f[B, *D], or a ShapeDtypeStruct.

    Raises:
      UserError: as `traceable`.
    """
    with traceable(name):
        return jax.eval_shape(fn, x)


@contextlib.contextmanager
def traceable(name: str) -> Iterator[None]:
    """Names the function that fails in tracing, as NumPy's functions do, which need values.

    Raises:
      UserError: a function called in this context needs the value of a traced array.
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
      UserError: neither a real number nor f32[B]; where values are known: negative, not finite, or
        as `check_width`.
      ValueError: the norm is unknown.
    """
    per_row = norms.per_row(name, eps, x)
    if bounds is not None and is_known(eps):
        check_width(name, np.max(np.asarray(eps)), x.shape[1:], norm, bounds)
    else:
        norms.canonical(norm)
    return per_row


def check_width(name: str, eps: float, shape: tuple[int, ...], norm: Norm, bounds: Bounds) -> None:
    """Checks that a perturbation of that size fits into the bounds.

    It finds pixels in [0, 1] that are attacked as if they were in [0, 255].

    Args:
      shape: of one input, [*D].

    Raises:
      UserError: eps is larger than the distance of the farthest points within the bounds.
    """
    widest = norms.norm_of_ones(shape, norm) * (bounds[1] - bounds[0])
    if eps > widest * (1 + 1e-6):
        raise UserError(
            f"{name} must be at most {widest:g}, the {norm} width of the bounds {bounds}, "
            f"got {eps:g}"
        )


def check_bounds(bounds: Any) -> None:
    """Raises UserError unless bounds are None or two known numbers, the first the lower."""
    if bounds is None:
        return
    pair = norms.is_real(bounds) and is_known(bounds) and np.shape(bounds) == (2,)
    if not pair or not bounds[0] < bounds[1]:
        raise UserError(f"bounds must be (lo, hi) with lo < hi, got {norms.described(bounds)}")


def check_counts(**counts: int) -> None:
    """Raises UserError for a count (of steps, restarts, rows) that is not a whole number >= 1."""
    for name, count in counts.items():
        if not is_whole(count) or count < 1:
            found = norms.described(count)
            raise UserError(f"{name} must be a whole number of at least 1, got {found}")


def check_range(name: str, value: Any, interval: str, *, per_row: bool = False) -> None:
    """Checks that a setting is in an interval such as "(0, 1]", which excludes 0 and includes 1.

    Args:
      per_row: allows f32[B]; `norms.per_row` checks its shape.

    Raises:
      UserError: not a real number, or a known value outside the interval.
    """
    if not norms.is_real(value) or (np.ndim(value) and not per_row):
        raise UserError(f"{name} must be a real number, got {norms.described(value)}")
    low, high = map(float, interval[1:-1].split(","))

    def holds(number: np.ndarray) -> np.ndarray:
        above = number > low if interval[0] == "(" else number >= low
        return above & (number < high if interval[-1] == ")" else number <= high)

    norms.check_known(name, value, holds, f"in {interval}")


def checked_logits(logits: Array, *, batch: int) -> Array:
    """Returns logits f[B, K] as float32, or as float64 where they are.

    Raises:
      UserError: as `check_logits`.
    """
    check_logits(logits, batch=batch)
    return logits.astype(working_dtype(logits.dtype))


def check_logits(logits: Any, *, batch: int) -> None:
    """Checks the shape and dtype of logits, or of the result of `traced`.

    Raises:
      UserError: not one array f[B, K] of floats, or a single class.
    """
    allowed, found = f"logits f32[B, K] with B = {batch}", f"a {type(logits).__name__}"
    if isinstance(logits, jax.Array | jax.ShapeDtypeStruct):
        found = dtype_and_shape(logits)
        if logits.ndim == 2 and logits.shape[0] == batch:
            if not jnp.issubdtype(logits.dtype, jnp.floating):
                allowed = "logits of floating point, which have a gradient"
            elif logits.shape[1] < 2:
                allowed = "logits of 2 classes or more ([0, z] for one logistic output z)"
            else:
                return
    raise UserError(f"logits_fn must return {allowed}, got {found}")


def logit_flags(logits: Any) -> dict[str, Any]:
    """Flags of each row of NumPy or traced logits f[B, K]: {"finite", "probabilities": bool[B]}.

    The sum of a row of probabilities may be 0.01 off, as in bfloat16.
    """
    # Clipped, as the sum of huge logits would overflow.
    sums_to_one = abs(logits.astype("float32").clip(0, 2).sum(axis=1) - 1) < 1e-2
    return {
        "finite": (abs(logits) < float("inf")).all(axis=1),
        "probabilities": (logits >= 0).all(axis=1) & sums_to_one,
    }


def check_flags(flags: Mapping[str, np.ndarray], where: str) -> None:
    """Checks the flags that `logit_flags` gives for all rows.

    Raises:
      UserError: as `check_finite`, or all rows are probabilities.
    """
    check_finite(flags["finite"], where)
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
    if bad := int((~finite).reshape(-1, finite.shape[-1]).any(0).sum()):
        raise UserError(
            f"logits_fn must return finite logits, got NaN or infinity for {bad} of "
            f"{finite.shape[-1]} rows of {where}"
        )


def checked_labels(y: Any, logits: Any) -> Array:
    """Returns y as a JAX array: i32[B], or f32[B, K] like the logits.

    Args:
      logits: f32[B, K], or a ShapeDtypeStruct.

    Raises:
      UserError: another shape or dtype; where values are known: not classes, or not weights.
    """
    y, last = losses.as_labels(y, logits, name="y"), logits.shape[1] - 1
    if is_known(y):
        highest = last if y.ndim == 1 else np.finfo(np.float64).max
        values = np.asarray(y, np.float64)
        bad = values[~((values >= 0) & (values <= highest))]
        if bad.size:
            allowed = f"classes from 0 to {last}"
            allowed = allowed if y.ndim == 1 else "finite weights of at least 0"
            raise UserError(f"y must be {allowed}, got {bad[0]:g}")
    return y


def is_whole(value: Any) -> bool:
    """Whether a value is an integer of any type."""
    try:
        operator.index(value)
    except TypeError:
        return False
    return True


def is_known(value: ArrayLike) -> bool:
    """Whether the values are known, which they are not inside jit, vmap or grad."""
    return not isinstance(value, jax.core.Tracer)


def dtype_and_shape(array: Array | jax.ShapeDtypeStruct) -> str:
    """Returns the dtype and shape of an array, as float32[6, 5]."""
    return f"{array.dtype.name}{list(array.shape)}"


def _is_unbound(logits_fn: LogitsFn) -> bool:
    """Whether it is a Flax module without its variables, for which Flax raises many lines."""
    return isinstance(logits_fn, nn.Module) and logits_fn.scope is None


def linf_or_l2(norm: Norm) -> str:
    """Returns the canonical name of one of the two norms.

    Raises:
      ValueError: another norm.
    """
    name = norms.canonical(norm)
    if name not in ("linf", "l2"):
        raise UserError(f'norm must be "linf" or "l2" here, got {norm!r}')
    return name


def _check_values(name: str, x: np.ndarray, bounds: Bounds | None) -> None:
    bad = x[~np.isfinite(x)]
    if bad.size:
        raise UserError(f"{name} must be finite numbers, got {float(bad[0])}")
    if bounds is None:
        return
    outside = x[(x < x.dtype.type(bounds[0])) | (x > x.dtype.type(bounds[1]))]
    if outside.size:
        raise UserError(f"{name} must be within the bounds {bounds}, got {float(outside[0]):g}")
