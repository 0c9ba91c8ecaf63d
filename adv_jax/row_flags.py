"""What is right of each row of a traced x, which is checked when its values are known.

An attack notes flags while it is traced (`note_flags`); a bare call or an evaluation collects them
(`noted_flags`), returns them from its program, and checks them (`check_noted`).
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from jax.extend.core import get_opaque_trace_state

from adv_jax.checks import bad_rows
from adv_jax.types import Array, UserError

_noted: contextvars.ContextVar[tuple[Any, list[dict[str, Array]]] | None] = contextvars.ContextVar(
    "noted", default=None
)

_FLAG_WORDS = {
    "loss": "loss must return finite numbers, got NaN or infinity for {} of x",
    "features": "features_fn must return finite features, got NaN or infinity for {} of x",
    "gradient": "loss must have a gradient by x, got NaN for {} of x",
    "constraints": "x must obey the constraints of an attack, got {} that break a rule",
}


@contextlib.contextmanager
def noted_flags() -> Iterator[list[dict[str, Array]]]:
    """Collects what `note_flags` is given in attacks that the context traces.

    An attack inside a `jit` or a loop of the caller's is left out: its arrays cannot leave that.
    """
    found: list[dict[str, Array]] = []
    token = _noted.set((_trace_state(), found))
    try:
        yield found
    finally:
        _noted.reset(token)


def rows_flagged(noted: Iterable[Mapping[str, Array]], size: int) -> dict[str, Array]:
    """Returns what holds of each row in all that `noted_flags` collected: bool[size] by name."""
    found: dict[str, Array] = {}
    for flags in noted:
        for name, rows in flags.items():
            if rows.shape == (size,):  # An attack may be called with a part of the batch.
                found[name] = found[name] & rows if name in found else rows
    return found


def note_flags(flags_of: Callable[[], dict[str, Array]]) -> None:
    """Adds flags of the rows of x, bool[B] by name, to those that `noted_flags` collects.

    So a fault of traced rows, which raises nothing, is found when their values are known.

    Args:
      flags_of: returns what is right of each row, by a name that `check_noted` knows.
    """
    noted = _noted.get()
    if noted is not None and noted[0] == _trace_state():
        noted[1].append(flags_of())


def _trace_state() -> Any:
    return get_opaque_trace_state(convention="flax")


def check_noted(flags: Mapping[str, np.ndarray]) -> None:
    """Checks the flags of all rows, bool[..., N] each, if there are any.

    Raises:
      UserError: the loss is not finite at some rows, or its gradient is NaN; rows break a rule.
    """
    for name, words in _FLAG_WORDS.items():
        if name in flags and (bad := bad_rows(flags[name])):
            raise UserError(words.format(bad))
