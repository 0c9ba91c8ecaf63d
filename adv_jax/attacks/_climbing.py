"""The loss that an attack climbs: by name, or a function of the user."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adv_jax.attacks._bare import check_fits, given_or_predicted
from adv_jax.checks import (
    arity,
    as_batch,
    check_rows,
    checked_labels,
    checked_logits,
    logit_flags,
    traceable,
    with_aux,
)
from adv_jax.loss_gradients import Rated, rated
from adv_jax.types import (
    Array,
    LogitsFn,
    RowFn,
    RowTree,
    UserError,
    described,
    described_array,
    dtype_of,
    not_one_of,
    widened,
    working_dtype,
)


def folded(
    logits_fn: LogitsFn,
    x: Array,
    y: RowTree | None,
    aux: RowTree | None,
    *,
    loss: str | RowFn | None,
    fooled: RowFn | None,
    named: Mapping[str, RowFn],
    targeted: bool,
    gradient: bool,
) -> tuple[Callable[..., Any], RowTree | None, RowTree | None, str | None]:
    """Returns logits_fn, y, aux and the loss' name; or (x, aux) -> Rated, None, (aux, y) and None.

    It is the latter if a loss or a criterion of the user has become a part of the model. Their
    operations are then in its jaxpr, by which programs are known, and the arrays that they close
    over are arguments of the program.

    Raises:
      UserError: as `check_kinds`; y has other rows than x.
    """
    check_kinds(loss, fooled, named)
    name = loss if isinstance(loss, str) else None
    if name is not None:
        # K targets of K logistic outputs are no class.
        logistic = name in ("binary_cross_entropy", "squared_error")
        if fooled is None and not (logistic and y is not None and np.ndim(y) == 2):
            return logits_fn, y, aux, name
        check_rows("y", y, batch=x.shape[0])
        loss = loss_of_logits(named[name], y)
        y = given_or_predicted(logits_fn, x, y, aux, targeted=targeted)
    check_rows("y", y, batch=x.shape[0])
    for leaf in jax.tree.leaves(y):
        _check_bits(leaf)
    row_fn: Any = loss
    rate = rating(
        logits_fn,
        row_fn,
        fooled,
        targeted=targeted,
        gradient=gradient,
        of_logits=name is not None,
    )
    return rate, None, (aux, y), None


def _check_bits(labels: Any) -> None:
    """Raises UserError for known integers that JAX would wrap, as those of more than 32 bits."""
    dtype = dtype_of(labels)
    if jnp.issubdtype(dtype, jnp.integer):
        check_fits(labels, jax.dtypes.canonicalize_dtype(dtype), "integers of 32 bits")


def checked_start(start: Array | None, x: Array) -> Array | None:
    """Returns the perturbation to begin with as f32[B, *D], or None.

    Raises:
      UserError: not a batch of finite floats, or not of the shape of x.
    """
    if start is None:
        return None
    start = as_batch(start, name="start")
    if start.shape != x.shape:
        raise UserError(f"start must have the shape of x, {described(x)}, got {described(start)}")
    return start.astype(working_dtype(x.dtype))


def rating(
    logits_fn: LogitsFn,
    loss: RowFn,
    fooled: RowFn | None,
    *,
    targeted: bool,
    gradient: bool,
    of_logits: bool,
) -> Callable[[Array, RowTree], Rated]:
    """Returns (x, (aux, y)) -> Rated; without `fooled` no point fools and only the loss counts.

    Args:
      gradient: the attack differentiates the loss.
      of_logits: the outputs are logits.
    """

    def rate(x: Array, rows: RowTree) -> Rated:
        aux, y = rows
        outputs, batch = jax.tree.map(_working, with_aux(logits_fn, aux)(x)), x.shape[:1]

        def climbed(outputs: Any) -> Array:
            with traceable("loss"), arity("loss", loss, ("outputs", "y")):
                value = _checked_result("loss", loss(outputs, y), batch, jnp.floating)
            value = widened(value)
            return -value if targeted else value

        fools = jnp.zeros(batch, bool)
        if fooled is not None:
            with traceable("fooled"), arity("fooled", fooled, ("outputs", "y")):
                fools = fooled(jax.lax.stop_gradient(outputs), y)
            fools = _checked_result("fooled", fools, batch, jnp.bool_)
        found = rated(climbed, outputs, fools) if gradient else Rated(climbed(outputs), fools)
        return found._replace(flags=logit_flags(outputs) if of_logits else None)

    return rate


def _working(output: Any) -> Any:
    """Returns floats of less than 32 bits, in which a loss would round to 0, as float32."""
    if hasattr(output, "dtype") and jnp.issubdtype(output.dtype, jnp.floating):
        return widened(output)
    return output


def loss_of_logits(loss: RowFn, given: Any) -> RowFn:
    """Returns a loss by name as one of any outputs, which checks that they are logits.

    given: the labels of all rows, whose values are known before the loss is traced; or None.
    """

    def checked_loss(outputs: Array, y: Array) -> Array:
        logits = checked_logits(outputs, batch=y.shape[0])
        if given is not None and len(given) == len(y):
            checked_labels(given, logits)
        return loss(logits, checked_labels(y, logits))

    return checked_loss


def check_kinds(loss: Any, fooled: Any, named: Mapping[str, RowFn]) -> None:
    """Raises UserError unless loss is a name or a function, and fooled None or a function."""
    if not callable(loss) and (not isinstance(loss, str) or loss not in named):
        also = " or a function (outputs, y) -> f[B]"
        raise UserError(not_one_of("loss", loss, named, also=also))
    if fooled is not None and not callable(fooled):
        raise UserError(
            f"fooled must be None or a function (outputs, y) -> bool[B], got {described(fooled)}"
        )


def _checked_result(name: str, rows: Any, batch: tuple[int, ...], kind: Any) -> Array:
    """Returns the result of a function of the user, if it is an array of that kind, [B]."""
    array = hasattr(rows, "dtype")
    if not array or rows.shape != batch or not jnp.issubdtype(rows.dtype, kind):
        allowed = "f[B]" if kind is jnp.floating else "bool[B]"
        found = described_array(rows)
        raise UserError(f"{name} must return {allowed} with B = {batch[0]}, got {found}")
    return jnp.asarray(rows)
