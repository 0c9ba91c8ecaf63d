"""What an attack's signature says: the keyword of its size, its norm, what it takes y for."""

import inspect
from collections.abc import Mapping
from functools import partial

from adv_jax import norms
from adv_jax.attacks._arguments import traceable
from adv_jax.types import Array, Attack, Key, LogitsFn, UserError

# Keywords that say how large an attack is, the first that an attack has counts.
SCALES = ("eps", "std", "tau", "gamma")
# The norms of the attacks that have but one.
_ONLY_NORMS = {"carlini_wagner": "l2", "lbfgs": "l2", "sign_noise": "linf"}


def scale_of(attack: Attack) -> str:
    """The keyword that sets the size of an attack, and which a curve varies.

    It is the first of `SCALES` in the signature; an attack that takes any keyword takes eps.

    Raises:
      UserError: there is none, or it is bound already, as in partial(fgsm, eps=.1); no function.

    >>> from adv_jax import attacks
    >>> [scale_of(attack) for attack in (attacks.fgsm, attacks.gaussian_noise)]
    ['eps', 'std']
    """
    parameters = _parameters(attack)
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    scale = next((name for name in SCALES if name in parameters), "eps" if takes_any else None)
    if scale is None:
        raise UserError(
            f"{function_name(attack)} has no keyword for its size; allowed are {', '.join(SCALES)}"
        )
    if scale in getattr(attack, "keywords", {}):
        raise UserError(
            f"{function_name(attack)} has {scale} bound already; leave it free: the evaluation "
            "sets it"
        )
    return scale


def norm_of(attack: Attack) -> str | None:
    """The name of the norm in which an attack's size is measured; None: it has none, or its
    signature does not say.

    Raises:
      ValueError: unknown norm; no function.

    >>> from adv_jax import attacks
    >>> norm_of(partial(attacks.fgsm, norm=2)), norm_of(attacks.raw_gradient)
    ('l2', None)
    >>> norm_of(attacks.carlini_wagner)
    'l2'
    >>> norm_of(partial(attacks.transferred, attack=partial(attacks.fgsm, norm="l1")))
    'l1'
    """
    crafting = _crafting(attack)
    parameters = _parameters(crafting)
    for name in ("length", "norm"):
        default = parameters[name].default if name in parameters else None
        if default not in (None, inspect.Parameter.empty):
            return norms.canonical(default)
    return _ONLY_NORMS.get(function_name(crafting))


def ball_of(attack: Attack) -> str | None:
    """The norm of the ball whose radius is an attack's size; None: its size is no radius.

    Sizes of other names than eps are none: a factor of the gradient, a share of the pixels.

    Raises:
      as `norm_of` and `scale_of`.
    """
    return norm_of(attack) if scale_of(attack) == "eps" else None


def is_targeted(attack: Attack) -> bool:
    """Whether an attack, as bound or by default, takes y for the class to reach.

    Raises:
      UserError: no function.

    >>> from adv_jax import attacks
    >>> is_targeted(partial(attacks.fgsm, targeted=True)), is_targeted(attacks.fgsm)
    (True, False)
    """
    parameter = _parameters(_crafting(attack)).get("targeted")
    return parameter is not None and parameter.default is True


def at_size(
    attack: Attack, logits_fn: LogitsFn, x: Array, y: Array, size: Array | float, keys: Key | None
) -> Array:
    """x_adv f[B, *D], what the attack makes of a batch at one size; traceable.

    Raises:
      UserError: it cannot be traced, or gives something else than an array of the shape of x.
    """
    with traceable(f"{function_name(attack)} and logits_fn"):
        x_adv = attack(logits_fn, x, y, **{scale_of(attack): size}, key=keys)
    if getattr(x_adv, "shape", None) != x.shape:
        array = hasattr(x_adv, "shape")
        found = norms.described(x_adv) if array else f"a {type(x_adv).__name__}"
        raise UserError(
            f"{function_name(attack)} gives {found}; allowed is an array of the shape of x, "
            f"{norms.described(x)}"
        )
    return x_adv


def _parameters(attack: Attack) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(attack).parameters
    except (TypeError, ValueError):
        raise UserError(
            f"attack is {norms.described(attack)}; allowed are functions such as attacks.fgsm"
        ) from None


def _crafting(attack: Attack) -> Attack:
    """The attack whose result another one shows, as `transferred` is bound to one; or itself."""
    return getattr(attack, "keywords", {}).get("attack", attack)


def function_name(attack: Attack) -> str:
    """The name of the function, whatever is bound to it."""
    while isinstance(attack, partial):
        attack = attack.func
    return getattr(attack, "__name__", type(attack).__name__)
