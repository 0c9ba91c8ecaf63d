"""Properties read from an attack's signature: the keyword of its size, its norm, its target."""

import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from adv_jax import norms
from adv_jax.checks import traceable
from adv_jax.evaluate.side_inputs import with_aux
from adv_jax.types import Array, Attack, Key, LogitsFn, UserError, described

# Keywords of an attack's size, by precedence.
SCALES = ("eps", "std", "tau", "gamma")
# Norms of the attacks without a norm keyword.
_ONLY_NORMS = {
    "boundary": "l2",
    "carlini_wagner": "l2",
    "ddn": "l2",
    "ead": "l1",
    "lbfgs": "l2",
    "sign_noise": "linf",
}


def scale_of(attack: Attack) -> str:
    """Returns the keyword that sets the size of an attack, which a curve varies.

    It is the first of `SCALES` in the signature, or eps if the attack accepts any keyword.

    Raises:
      UserError: the attack is not a function, has no such keyword, or has it bound, as in
        partial(fgsm, eps=.1).

    >>> from adv_jax import attacks
    >>> [scale_of(attack) for attack in (attacks.fgsm, attacks.gaussian_noise)]
    ['eps', 'std']
    """
    parameters = _parameters(attack)
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    scale = next((name for name in SCALES if name in parameters), "eps" if takes_any else None)
    if scale is None:
        raise UserError(
            f"{function_name(attack)} must have a keyword for its size ({', '.join(SCALES)}), got "
            f"{', '.join(parameters)}"
        )
    if scale in getattr(attack, "keywords", {}):
        raise UserError(
            f"{function_name(attack)} must leave {scale} to the evaluation, got it bound already"
        )
    return scale


def norm_of(attack: Attack) -> str | None:
    """Returns the name of the norm of an attack's size, None if its signature has none.

    Raises:
      ValueError: unknown norm; the attack is not a function.

    >>> from adv_jax import attacks
    >>> norm_of(partial(attacks.fgsm, norm=2)), norm_of(attacks.raw_gradient)
    ('l2', None)
    >>> [norm_of(attack) for attack in (attacks.carlini_wagner, attacks.ddn, attacks.ead)]
    ['l2', 'l2', 'l1']
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
    """Returns the norm of the ball whose radius is an attack's size, or None.

    Only eps is a radius; tau is a factor of the gradient, gamma a share of the pixels.

    Raises:
      UserError, ValueError: as `norm_of` and `scale_of`.
    """
    return norm_of(attack) if scale_of(attack) == "eps" else None


def is_targeted(attack: Attack) -> bool:
    """Returns whether y is the class to reach, by the attack's bound or default arguments.

    Raises:
      UserError: the attack is not a function.

    >>> from adv_jax import attacks
    >>> is_targeted(partial(attacks.fgsm, targeted=True)), is_targeted(attacks.fgsm)
    (True, False)
    """
    parameter = _parameters(_crafting(attack)).get("targeted")
    return parameter is not None and parameter.default is True


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

    aux: passed to an attack that takes it, so that it can split the batch; else bound.

    Raises:
      UserError: the attack cannot be traced, or does not return an array of the shape of x.
    """
    settings: dict[str, Any] = {scale_of(attack): size, "key": keys}
    if aux is not None and "aux" in _parameters(attack):
        settings["aux"] = aux
    else:
        logits_fn = with_aux(logits_fn, aux)
    with traceable(f"{function_name(attack)} and logits_fn"):
        x_adv = attack(logits_fn, x, y, **settings)
    if getattr(x_adv, "shape", None) != x.shape:
        array = hasattr(x_adv, "shape")
        found = described(x_adv) if array else f"a {type(x_adv).__name__}"
        raise UserError(
            f"{function_name(attack)} must return an array of the shape of x, "
            f"{described(x)}, got {found}"
        )
    return x_adv


def sizes_of(
    attacks: Mapping[str, Attack], eps: Sequence[float] | Mapping[str, Sequence[float]]
) -> dict[str, Sequence[float]]:
    """Returns the E sizes of each attack; eps: those of all attacks, or name -> those of one."""
    return dict(eps) if isinstance(eps, Mapping) else dict.fromkeys(attacks, eps)


def _parameters(attack: Attack) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(attack).parameters
    except (TypeError, ValueError):
        raise UserError(
            f"attack must be a function such as attacks.fgsm, got {described(attack)}"
        ) from None


def _crafting(attack: Attack) -> Attack:
    """Returns the inner attack of one such as `transferred`, else the attack."""
    return getattr(attack, "keywords", {}).get("attack", attack)


def function_name(attack: Attack) -> str:
    """Returns the name of the function inside `functools.partial`."""
    while isinstance(attack, partial):
        attack = attack.func
    return getattr(attack, "__name__", type(attack).__name__)
