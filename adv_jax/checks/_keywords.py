"""What a function's signature says: unknown keywords, and attacks that are targeted."""

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar

from adv_jax.annotations import catch_all
from adv_jax.suggestions import suggestion
from adv_jax.types import UserError

P = ParamSpec("P")
T = TypeVar("T")


def check_keywords(name: str, given: Iterable[str], signature: inspect.Signature) -> None:
    """Raises UserError for a keyword that the function of that name does not take."""
    parameters = signature.parameters
    if catch_all(parameters):
        return
    for keyword in given:
        if keyword not in parameters:
            near = suggestion(keyword, parameters)
            legal = "" if near else f" ({', '.join(parameters)})"
            raise UserError(f"{name} must get keywords of its own{legal}, got {keyword!r}{near}")


def own_keywords(function: Callable[P, T]) -> Callable[P, T]:
    """Decorates a function so that an unknown keyword is refused in one line (`check_keywords`)."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def called(*args: P.args, **given: P.kwargs) -> T:
        check_keywords(function.__name__, given, signature)
        return function(*args, **given)

    return called


def targets(attack: Callable[..., Any]) -> bool:
    """Whether y is the class to reach, by an attack's bound or default arguments.

    An inner attack, as of `transferred`, decides. False for a builtin, which has no signature.

    >>> attack = lambda logits_fn, x, y, *, targeted=True: x
    >>> targets(attack), targets(functools.partial(attack, targeted=False))
    (True, False)
    """
    try:
        parameters = inspect.signature(attack).parameters
    except (TypeError, ValueError):
        return False
    bound = {name: p.default for name, p in parameters.items() if p.default is not p.empty}
    if callable(inner := bound.get("attack")):
        return targets(inner)
    return bool(bound.get("targeted", False))
