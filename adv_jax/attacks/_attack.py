"""The decorator of attacks: what an attack is stands with it, as its traits."""

import functools
import inspect
from collections.abc import Callable
from enum import IntEnum
from typing import Any, NamedTuple, ParamSpec

from adv_jax import norms
from adv_jax.checks import check_keywords, explained
from adv_jax.types import Array, UserError, check_choice

P = ParamSpec("P")

SIZES = ("eps", "std", "tau", "gamma")  # keywords of an attack's size, by precedence


class Rank(IntEnum):
    """How much an attack searches: it should fool at least as often as one of lower rank."""

    NOISE = 0
    ONE_STEP = 1
    ITERATED = 2
    ENSEMBLE = 3


NOISE, ONE_STEP, ITERATED, ENSEMBLE = Rank


class Traits(NamedTuple):
    """What evaluations and tests ask of an attack.

    size: the keyword of its size, one of `SIZES`; None: it has none, and no curve.
    norm: of its size, if it has no keyword `norm`.
    rank: one of NOISE, ONE_STEP, ITERATED and ENSEMBLE; None: unknown.
    aimed: it is aimed at the model that is evaluated, not at another one or at nothing.
    gradient: it needs the derivative of the model.
    needs_key: it raises without a key.
    decisions: it reads the predicted class alone.
    minimal: it returns rows that are misclassified already unchanged.
    """

    size: str | None = "eps"
    norm: str | None = None
    rank: Rank | None = None
    aimed: bool = True
    gradient: bool = True
    needs_key: bool = False
    decisions: bool = False
    minimal: bool = False


_without_gradient: set[str] = set()  # Names of our aimed attacks, for messages.


def attack(
    *,
    size: str | None = "eps",
    norm: str | None = None,
    rank: int | None = None,
    aimed: bool = True,
    gradient: bool = True,
    needs_key: bool = False,
    decisions: bool = False,
    minimal: bool = False,
) -> Callable[[Callable[P, Array]], Callable[P, Array]]:
    """Makes an attack of a function (logits_fn, x, y, *, ...) -> x_adv; it states its `Traits`.

    The function keeps its signature. An unknown keyword is refused with ours for it, and a model
    whose missing derivative makes the attack fail is named. A plain function is an attack too;
    evaluations compare it by what it returns.

    Args: as `Traits`. Noise is never aimed.

    Raises:
      UserError: size is no keyword of the function; norm or rank is unknown.

    Source of the ranks: [carlini2019], sec. 5.

    >>> from adv_jax.attacks import ITERATED, bim
    >>> @attack(rank=ITERATED)
    ... def twenty_steps(logits_fn, x, y, *, eps, norm="linf", key=None):
    ...     return bim(logits_fn, x, y, eps=eps, norm=norm, num_steps=20)
    >>> twenty_steps.traits.rank > bim.traits.rank
    False
    """
    if size is not None:
        check_choice("size", size, SIZES)
    if rank is not None and rank not in tuple(Rank):
        raise UserError(f"rank must be NOISE, ONE_STEP, ITERATED or ENSEMBLE, got {rank!r}")
    traits = Traits(
        size=size,
        norm=None if norm is None else norms.canonical(norm),
        rank=None if rank is None else Rank(rank),
        aimed=aimed and rank != NOISE,
        gradient=gradient and rank != NOISE,
        needs_key=needs_key,
        decisions=decisions,
        minimal=minimal,
    )

    def decorate(body: Callable[P, Array]) -> Callable[P, Array]:
        signature, name = inspect.signature(body), body.__name__
        if size is not None and size not in signature.parameters:
            found = ", ".join(signature.parameters)
            raise UserError(f"size must be a keyword of {name}, got {size!r}, not in {found}")
        if traits.aimed and not gradient and body.__module__.startswith("adv_jax."):
            _without_gradient.add(name)

        @functools.wraps(body)
        def called(*args: P.args, **given: P.kwargs) -> Array:
            check_keywords(name, given, signature)
            call = signature.bind_partial(*args, **given).arguments
            fn, x = ([*call.values(), None, None])[:2]
            inputs = (x,) if call.get("aux") is None else (x, call["aux"])
            with explained(name, fn, *inputs, gradient=traits.gradient, instead=forward_only()):
                return body(*args, **given)

        called_with_traits: Any = called
        called_with_traits.traits = traits
        return called

    return decorate


def forward_only() -> list[str]:
    """Returns the names of our attacks that are aimed at a model without its derivative."""
    return sorted(_without_gradient)


def traits_of(attack: Any) -> Traits | None:
    """Returns the traits of an attack, also inside `functools.partial`; None of a plain function.

    `functools.wraps` copies them to a wrapper.
    """
    while True:
        traits = getattr(attack, "traits", None)
        if isinstance(traits, Traits) or not isinstance(attack, functools.partial):
            return traits if isinstance(traits, Traits) else None
        attack = attack.func
