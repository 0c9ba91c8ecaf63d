"""The traits of an attack, which are stated with it and read by evaluations."""

import functools
from collections.abc import Mapping
from enum import IntEnum
from typing import Any, NamedTuple

SIZES = ("eps", "std", "tau", "gamma")  # keywords of an attack's size, by precedence


class Rank(IntEnum):
    """The effort of an attack: it should fool at least as often as one of lower rank."""

    NOISE = 0
    ONE_STEP = 1
    ITERATED = 2
    ENSEMBLE = 3


NOISE, ONE_STEP, ITERATED, ENSEMBLE = Rank


class Traits(NamedTuple):
    """The properties of an attack that evaluations and tests read.

    size: the keyword of its size, one of `SIZES`; None: it has none, and no curve.
    norm: of its size, if it has no keyword `norm`.
    rank: one of NOISE, ONE_STEP, ITERATED and ENSEMBLE; None: unknown.
    aimed: it is aimed at the model that is evaluated, not at another one or at nothing.
    gradient: it needs the derivative of the model.
    needs_key: it raises without a key.
    decisions: it reads the predicted class alone.
    minimal: it returns rows that are misclassified already unchanged.
    confined: rules of its own keep it to a part of the ball, so that weaker attacks may do better.
    """

    size: str | None = "eps"
    norm: str | None = None
    rank: Rank | None = None
    aimed: bool = True
    gradient: bool = True
    needs_key: bool = False
    decisions: bool = False
    minimal: bool = False
    confined: bool = False


def traits_of(attack: Any) -> Traits | None:
    """Returns the traits of an attack, also inside `functools.partial`; None of a plain function.

    `functools.wraps` copies them to a wrapper.
    """
    return _stated(attack, "traits", Traits)


def ranges_of(attack: Any) -> Mapping[str, str]:
    """Returns the intervals of an attack's settings, {} of a plain function, as `traits_of`."""
    return _stated(attack, "ranges", dict) or {}


def _stated(attack: Any, name: str, kind: type) -> Any:
    while True:
        value = getattr(attack, name, None)
        if isinstance(value, kind) or not isinstance(attack, functools.partial):
            return value if isinstance(value, kind) else None
        attack = attack.func
