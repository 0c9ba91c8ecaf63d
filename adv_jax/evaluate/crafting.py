"""Calls the attacks of an evaluation: each at a size, and checks what it returns."""

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adv_jax import norms
from adv_jax.annotations import function_name
from adv_jax.attacks import forward_only, traits_of
from adv_jax.checks import (
    bad_rows,
    check_finite,
    check_like_x,
    explained,
    finite_rows,
    traceable,
    with_aux,
)
from adv_jax.evaluate.traits import checked_parameters, scale_of, takes_keyword
from adv_jax.row_flags import check_noted, noted_flags, rows_flagged
from adv_jax.types import Array, Attack, Key, LogitsFn, UserError, described


def at_size(
    attack: Attack,
    logits_fn: LogitsFn,
    x: Array,
    y: Array,
    size: Array | float,
    keys: Key | None,
    aux: Any = None,
) -> Array:
    """Runs an attack on a batch at one size: x_adv f[B, *D]; traceable.

    size: f32[], or f32[B], which the attack gets as f32[B, 1, ..., 1]: it broadcasts with x.
    keys: for an attack that takes `key`.
    aux: passed to an attack that takes it, so that it can split the batch; else bound.

    Raises:
      UserError: the attack cannot be traced, does not take a size of this shape, does not return an
        array of the shape and dtype of x, or needs a derivative that the model lacks.
    """
    name, scale, traits = function_name(attack), scale_of(attack), traits_of(attack)
    settings: dict[str, Any] = {scale: norms.per_row(scale, size, x) if jnp.ndim(size) else size}
    if takes_keyword(attack, "key"):
        settings["key"] = keys
    inputs = (x,)
    if aux is not None and "aux" in checked_parameters(attack):
        settings["aux"], inputs = aux, (x, aux)
    elif aux is not None:
        logits_fn = with_aux(logits_fn, aux)
    gradient = traits is None or traits.gradient
    try:
        with (
            traceable(f"{name} and logits_fn", model="logits_fn"),
            explained(name, logits_fn, *inputs, gradient=gradient, instead=forward_only()),
        ):
            x_adv = attack(logits_fn, x, y, **settings)
    except UserError:
        raise
    except Exception as error:  # Any: each operation raises its own.
        reason = str(error).partition("\n")[0]
        given = jnp.asarray(settings[scale])
        if _takes_other_size(partial(attack, logits_fn, x, y, **settings), scale, given, x):
            broadcast = ", which broadcasts with x" if given.ndim else ", one number for all rows"
            raise UserError(
                f"{name} must take {scale} as {described(given)}{broadcast}, got {reason}"
            ) from error
        # Python says "name() takes ..." of a signature.
        if isinstance(error, TypeError) and not re.search(r"\w\(\) ", reason):
            raise UserError(f"{name} cannot compute x_adv: {reason}") from error
        if isinstance(error, TypeError):
            raise UserError(
                f"{name} must be an attack (logits_fn, x, y, *, {scale}, key) -> x_adv, "
                f"got {reason}"
            ) from error
        raise
    check_like_x(name, x_adv, x)
    return x_adv


def _takes_other_size(run: Callable[..., Any], scale: str, given: Array, x: Array) -> bool:
    """Returns whether an attack that failed at one shape of its size works at another."""

    def works(shape: tuple[int, ...]) -> bool:
        try:
            jax.eval_shape(lambda: run(**{scale: np.ones(shape, np.float32)}))
        except Exception:  # Any: each operation raises its own.
            return False
        return True

    rows = (len(x),)
    return any(map(works, [()] if given.ndim else [rows, rows + (1,) * (x.ndim - 1)]))


def crafted(
    attack: Attack,
    logits_fn: LogitsFn,
    x: Array,
    y: Array,
    size: Array | float,
    keys: Key | None,
    aux: Any = None,
) -> tuple[Array, dict[str, Array]]:
    """Returns the result of `at_size`, and flags bool[B] of its rows for `check_crafted`.

    `check_crafted` also takes {"finite": bool[B]}, whether the logits there are finite.
    """
    with noted_flags() as noted:
        x_adv = at_size(attack, logits_fn, x, y, size, keys, aux)
    return x_adv, {**rows_flagged(noted, len(x)), "finite_x_adv": finite_rows(x_adv)}


def check_crafted(name: str, flags: Mapping[str, np.ndarray]) -> None:
    """Checks the flags of `crafted` and "finite", bool[..., N] each, for the attack of that name.

    Raises:
      UserError: a loss of the user is not finite at x, or has a gradient of NaN; x breaks the
        constraints of the attack; x_adv or a logit there is not finite.
    """
    check_noted(flags)
    if bad := bad_rows(flags["finite_x_adv"]):
        raise UserError(f"{name} must return finite inputs, got NaN or infinity for {bad} of x")
    check_finite(flags["finite"], f"x under {name}")


@contextlib.contextmanager
def naming(name: str, attack: Attack) -> Iterator[None]:
    """Puts the name of an attack in an evaluation before an error that does not name its function.

    Raises:
      UserError: that of the context.
    """
    try:
        yield
    except UserError as error:
        message = str(error)
        names = {name, function_name(attack)} - {"<lambda>"}
        if message.startswith(tuple(f"{own} " for own in names)):
            raise
        rest = message.removeprefix("<lambda> ").removeprefix("attack ")
        raise UserError(f"{name}: {message}" if rest == message else f"{name} {rest}") from error
