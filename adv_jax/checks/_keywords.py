"""Checks of a call: unknown keywords, missing arguments, and attacks that are targeted."""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

import numpy as np

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


def check_complete(
    name: str, args: Sequence[Any], given: Mapping[str, Any], signature: inspect.Signature
) -> None:
    """Raises UserError for a call that lacks an argument, and passes what fails otherwise."""
    try:
        found = signature.bind_partial(*args, **given).arguments
    except TypeError:
        return
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    required = (p for p in signature.parameters.values() if p.default is p.empty)
    lacks = (p for p in required if p.kind not in variadic and p.name not in found)
    if missing := next(lacks, None):
        is_setting = missing.kind is missing.KEYWORD_ONLY and missing.name != "key"
        bind = f", or bind it by functools.partial({name}, {missing.name}=...)"
        instead = f"pass it{bind if is_setting else ''}"
        raise UserError(f"{name} must get {missing.name}, got none: {instead}") from None


def own_keywords(function: Callable[P, T]) -> Callable[P, T]:
    """Decorates a function: unknown keywords and missing arguments are refused in one line."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def called(*args: P.args, **given: P.kwargs) -> T:
        check_keywords(function.__name__, given, signature)
        check_complete(function.__name__, args, given, signature)
        return function(*args, **given)

    return called


def is_targeted(attack: Callable[..., Any]) -> bool:
    """Returns whether y is the class to reach.

    That `targeted` decides which `functools.partial` binds; else that of an inner attack that it
    binds, as of `transferred`; else the attack's default. Other values than True and False are left
    to the attack, which refuses them.

    >>> attack = lambda logits_fn, x, y, *, targeted=True: x
    >>> is_targeted(attack), is_targeted(functools.partial(attack, targeted=False))
    (True, False)
    """
    bound = attack.keywords if isinstance(attack, functools.partial) else {}
    if "targeted" not in bound and callable(bound.get("attack")):
        return is_targeted(bound["attack"])
    try:
        own = inspect.signature(attack).parameters.get("targeted")
    except (TypeError, ValueError):  # A builtin has no signature.
        own = None
    found = bound.get("targeted", own and own.default)
    return isinstance(found, bool | np.bool_) and bool(found)
