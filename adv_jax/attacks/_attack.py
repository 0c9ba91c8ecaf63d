"""The decorator that makes an attack of one traceable function."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec

from adv_jax.attacks._calls import Body, called
from adv_jax.types import Array, RowFn

P = ParamSpec("P")


def attack(
    *,
    ranges: Mapping[str, str] = {},
    row_ranges: Mapping[str, str] = {},
    losses: Mapping[str, RowFn] | None = None,
    size: str | None = "eps",
    norm: str | None = None,
    sparse: bool = False,
    decisions: bool = False,
    model: bool = True,
    check: Callable[[dict[str, Any]], None] | None = None,
) -> Callable[[Callable[P, Array]], Callable[P, Array]]:
    """Makes an attack of a traceable function (logits_fn, x, y, *, ...) -> x_adv."""

    def decorate(fn: Callable[P, Array]) -> Callable[P, Array]:
        signature = inspect.signature(fn)
        body = Body(fn, ranges, row_ranges, losses, size, norm, sparse, decisions, model, check)

        @functools.wraps(fn)
        def attacked(*args: P.args, **settings: P.kwargs) -> Array:
            call = signature.bind(*args, **settings)
            call.apply_defaults()
            (_, logits_fn), (_, x), (_, y), *given = call.arguments.items()
            return called(body, logits_fn, x, y, dict(given))

        return attacked

    return decorate
