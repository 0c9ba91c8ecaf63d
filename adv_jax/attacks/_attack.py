"""The decorator that makes an attack of one traceable function."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

from adv_jax import norms
from adv_jax.annotations import accepts, catch_all, function_name
from adv_jax.attacks._calls import Body, Settings, called, counts_of
from adv_jax.attacks._traits import NOISE, SIZES, Rank, Traits
from adv_jax.checks import check_complete, check_keywords, explained, own_keywords
from adv_jax.random import key_of_rows
from adv_jax.ranges import COUNT, check_ranges, positional_of
from adv_jax.types import RowFn, UserError, check_choice, described

P = ParamSpec("P")
T = TypeVar("T")

_without_gradient: set[str] = set()  # Names in `adv_jax.attacks` that are aimed, for messages.


@own_keywords
def attack(
    *function: Any,
    size: str | None = "eps",
    norm: str | None = None,
    rank: int | None = None,
    aimed: bool = True,
    gradient: bool = True,
    needs_key: bool = False,
    decisions: bool = False,
    minimal: bool = False,
    confined: bool = False,
    ranges: Mapping[str, str] = {},
    row_ranges: Mapping[str, str] = {},
    losses: Mapping[str, RowFn] | None = None,
    legal_norms: Sequence[str] = norms.CONVEX,
    logits: bool = True,
    check: Callable[[Settings], None] | None = None,
    compiles: bool = True,
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Makes an attack of a traceable function (logits_fn, x, y, *, ...) -> x_adv.

    The function keeps its signature and gets the attributes `traits` and `ranges`. In it logits_fn
    is a function of x alone, as aux is a part of it. Outside `jit`, arguments and logits are
    checked, and the function is compiled once: for equal operations of the model, equal shapes, and
    equal settings but for real numbers, arrays and keys (`_calls.called`), which are traced:
    annotate a setting that Python branches on as bool, int or str. An unknown keyword is refused
    with ours for it, and so is a model without the derivative that the attack needs. A plain
    function is an attack too; evaluations compare it by what it returns.

    Keywords of these names are checked as those of our attacks, so use them for the same things:
    aux, bounds, constant, key, mask, norm or length (of a size), start; with losses, also loss,
    fooled and targeted.

    Args:
      size: the keyword of its size, "eps", "gamma", "tau" or "std"; None: none, and no curve.
      norm: of its size, if the function has no keyword `norm`.
      rank: how strong it is, for the audit: NOISE, ONE_STEP, ITERATED or ENSEMBLE; None: unknown.
      aimed: whether it is aimed at the model, not at another one. Noise never is: it does not read
        logits_fn, y and aux.
      gradient: whether it needs the derivative of the model.
      needs_key: whether it raises without a key.
      decisions: whether it reads the predicted class alone.
      minimal: whether it returns rows that are misclassified already unchanged.
      confined: whether rules of its own keep it to a part of the ball.
      ranges: of settings that are one number for all rows, such as {"rho": "[0, 1]"}.
      row_ranges: of settings that may also be f32[B], one number per row.
      losses: by name, if it climbs one of them or a function of the user; else None. The function
        itself gets as `loss` the loss of that name.
      legal_norms: the norms that it knows.
      logits: whether logits_fn returns logits, which are checked.
      check: (the arguments by name, but for the model) -> None; more checks of its own.
      compiles: False for an attack that only calls others.

    Raises:
      UserError: the decorator has no parentheses, or decorates no function of (logits_fn, x, y);
        size is no keyword of the function; norm, rank or a keyword is unknown; as
        `ranges.check_ranges`.

    Source of the ranks: [carlini2019], sec. 5.

    >>> from adv_jax.attacks import ITERATED, bim
    >>> @attack(rank=ITERATED)
    ... def twenty_steps(logits_fn, x, y, *, eps, norm="linf", key=None):
    ...     return bim(logits_fn, x, y, eps=eps, norm=norm, num_steps=20)
    >>> twenty_steps.traits.rank > bim.traits.rank
    False
    """
    if function:
        raise UserError(
            f"attack must be called before it decorates, @attack(), got {described(function[0])}"
        )
    if size is not None:
        check_choice("size", size, SIZES)
    rank = _checked_rank(rank)
    norm = None if norm is None else norms.canonical(norm)
    aimed, gradient = aimed and rank != NOISE, gradient and rank != NOISE
    traits = Traits(size, norm, rank, aimed, gradient, needs_key, decisions, minimal, confined)

    def decorate(fn: Callable[P, T]) -> Callable[P, T]:
        body = Body(fn, traits, ranges, row_ranges, losses, legal_norms, logits, check)
        return _decorated(body, compiles=compiles)

    return decorate


def _checked_rank(rank: int | None) -> Rank | None:
    if isinstance(rank, bool) or (rank is not None and rank not in tuple(Rank)):
        raise UserError(f"rank must be NOISE, ONE_STEP, ITERATED or ENSEMBLE, got {rank!r}")
    return None if rank is None else Rank(rank)


def _decorated(body: Body, *, compiles: bool) -> Any:
    """Returns the attack of a body, with its traits and ranges; `called` runs it if compiles.

    Raises:
      UserError: as `attack`, of the function.
    """
    fn, traits, size = body.fn, body.traits, body.traits.size
    _check_signature(fn, size)
    check_ranges(fn, {**body.ranges, **body.row_ranges})
    signature, name = inspect.signature(fn), function_name(fn)
    others = catch_all(signature.parameters)
    if traits.aimed and not traits.gradient and fn.__module__.startswith("adv_jax.attacks."):
        _without_gradient.add(name)

    @functools.wraps(fn)
    def attacked(*args: Any, **given: Any) -> Any:
        call = _bound(name, signature, size, args, given)
        (model_name, model), (_, x), *named = call.arguments.items()
        settings = dict(named)
        if others is not None:
            settings |= settings.pop(others)
        aux = settings.get("aux")
        if traits.needs_key and settings.get("key") is None:
            key_of_rows(None, batch=1)
        inputs = (x,) if aux is None else (x, aux)
        instead = forward_only() if body.logits else []
        with explained(
            name, model, *inputs, gradient=traits.gradient, instead=instead, model=model_name
        ):
            if compiles:
                return called(body, model, x, settings)
            return fn(*args, **given)

    with_traits: Any = attacked
    with_traits.__name__, with_traits.traits = name, traits
    own = dict.fromkeys(counts_of(fn), COUNT) | ({} if size is None else {size: "[0, inf)"})
    with_traits.ranges = {**own, **body.ranges, **body.row_ranges}
    return attacked


def _check_signature(fn: Any, size: str | None) -> None:
    """Raises UserError unless fn takes the model, x and perhaps y, then settings by name."""
    if not callable(fn):
        found = described(fn)
        raise UserError(f"an attack must be a function (logits_fn, x, y, *, ...), got {found}")
    name, parameters = function_name(fn), inspect.signature(fn).parameters
    if size is not None and size not in parameters:
        found = ", ".join(parameters)
        raise UserError(f"size must be a keyword of {name}, got {size!r}, not in {found}")
    by_position = positional_of(parameters)[:3]
    is_variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters.values())
    if size in by_position or is_variadic or not accepts(parameters, ("logits_fn", "x"), ()):
        bare = [p.replace(annotation=p.empty, default=p.empty) for p in parameters.values()]
        legal, found = f"(logits_fn, x, y, *, {size or '...'})", inspect.Signature(bare)
        raise UserError(f"an attack must take {legal}, got {name}, which takes {found}")


def _bound(
    name: str,
    signature: inspect.Signature,
    size: str | None,
    args: Sequence[Any],
    given: Mapping[str, Any],
) -> inspect.BoundArguments:
    """Returns the arguments of a call of an attack by name, with its defaults.

    Raises:
      UserError: an unknown keyword, a missing one, or settings by position.
      TypeError: the call does not fit the signature otherwise.
    """
    check_keywords(name, given, signature)
    try:
        call = signature.bind(*args, **given)
    except TypeError as error:
        if len(args) > len(positional_of(signature.parameters)):
            setting = f"{size}=0.1" if size else "key=key"
            raise UserError(
                f"settings of {name} must be given by name, as {setting}, got {len(args)} "
                "arguments by position"
            ) from None
        check_complete(name, args, given, signature)
        raise TypeError(f"{name}() is {error}") from None
    call.apply_defaults()
    return call


def forward_only() -> list[str]:
    """Returns the names in this package that are aimed at a model without its derivative."""
    return sorted(_without_gradient)
