"""The traits of an attack: those of `adv_jax.attack`, else those of its signature."""

import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from adv_jax import norms
from adv_jax.annotations import catch_all, function_name
from adv_jax.attacks import SIZES, Traits, traits_of
from adv_jax.checks import check_keywords
from adv_jax.types import Attack, UserError, described


def scale_of(attack: Attack) -> str:
    """Returns the keyword that sets the size of an attack, which a curve varies.

    It is the attack's trait `size`. That of a plain function is the first of `SIZES` in its
    signature, or eps if it accepts any keyword.

    Raises:
      UserError: the attack is not a function, has no such keyword, or has it bound, as in
        partial(fgsm, eps=.1).

    >>> from adv_jax import attacks
    >>> [scale_of(attack) for attack in (attacks.fgsm, attacks.gaussian_noise)]
    ['eps', 'std']
    """
    parameters, traits = checked_parameters(attack), traits_of(attack)
    default = "eps" if catch_all(parameters) else None
    first = next((name for name in SIZES if name in parameters), default)
    scale = first if traits is None else traits.size
    if scale is None:
        raise UserError(
            f"{function_name(attack)} must have a keyword for its size ({', '.join(SIZES)}), got "
            f"{', '.join(parameters)}"
        )
    if scale in getattr(attack, "keywords", {}):
        raise UserError(
            f"{function_name(attack)} must leave {scale} to the evaluation, got it bound already"
        )
    return scale


def norm_of(attack: Attack) -> str | None:
    """Returns the name of the norm of an attack's size, None if neither signature nor traits say.

    Raises:
      UserError: unknown norm; the attack is not a function.

    >>> from adv_jax import attacks
    >>> norm_of(partial(attacks.fgsm, norm=2)), norm_of(attacks.raw_gradient)
    ('l2', None)
    >>> [norm_of(attack) for attack in (attacks.carlini_wagner, attacks.ddn, attacks.ead)]
    ['l2', 'l2', 'l1']
    >>> norm_of(partial(attacks.transferred, attack=partial(attacks.fgsm, norm="l1")))
    'l1'
    """
    inner = inner_attack(attack)
    parameters, traits = checked_parameters(inner), traits_of(inner)
    bound = getattr(inner, "keywords", {})  # Those of **settings are no parameters.
    for name in ("length", "norm"):
        default = parameters[name].default if name in parameters else bound.get(name)
        if default not in (None, inspect.Parameter.empty):
            return norms.canonical(default)
    return None if traits is None else traits.norm


def ball_of(attack: Attack) -> str | None:
    """Returns the norm of the ball whose radius is an attack's size, or None.

    Only eps is a radius; tau is a factor of the gradient, gamma a share of the pixels. Where
    constraints have costs, eps limits the costs, not the length.

    Raises:
      UserError: as `norm_of` and `scale_of`.
    """
    constraints = getattr(attack, "keywords", {}).get("constraints")
    is_radius = scale_of(attack) == "eps" and getattr(constraints, "costs", None) is None
    return norm_of(attack) if is_radius else None


def kind_of_size(attack: Attack) -> str | None:
    """Returns what an attack's size is: the norm of a radius, "gamma" or "tau"; None: another.

    Raises:
      UserError: as `norm_of` and `scale_of`.
    """
    scale = scale_of(attack)
    return scale if scale in ("gamma", "tau") else ball_of(attack)


def has_unknown_ball(attack: Attack) -> bool:
    """Returns whether an attack's eps is a radius, if any, in a norm that it does not say."""
    return scale_of(attack) == "eps" and norm_of(attack) is None


def assumed_traits(attack: Attack) -> Traits:
    """Returns the traits of an attack; of a plain function the defaults: aimed, of unknown rank."""
    return traits_of(attack) or Traits()


def sizes_of(
    attacks: Mapping[str, Attack], eps: Sequence[float] | Mapping[str, Sequence[float]]
) -> dict[str, Sequence[float]]:
    """Returns the E sizes of each attack; eps: those of all attacks, or name -> those of one."""
    return dict(eps) if isinstance(eps, Mapping) else dict.fromkeys(attacks, eps)


def takes_keyword(attack: Attack, keyword: str) -> bool:
    """Returns whether an attack can be called with a keyword; a wrapper may take less than it says.

    >>> takes_keyword(lambda x, **settings: x, "key"), takes_keyword(lambda x: x, "key")
    (True, False)
    """
    said, own = (inspect.signature(attack, follow_wrapped=f).parameters for f in (True, False))
    return all(keyword in parameters or catch_all(parameters) for parameters in (said, own))


def checked_parameters(attack: Attack) -> Mapping[str, inspect.Parameter]:
    """Returns the parameters of an attack; raises UserError if it is not a function."""
    try:
        return inspect.signature(attack).parameters
    except (TypeError, ValueError):
        if isinstance(attack, partial) and callable(attack.func):
            name = function_name(attack)
            check_keywords(name, attack.keywords, inspect.signature(attack.func))
            raise UserError(
                f"attack must leave logits_fn, x and y of {name} to the evaluation, got "
                f"{len(attack.args)} of its arguments bound already"
            ) from None
        raise UserError(
            f"attack must be a function such as attacks.fgsm, got {described(attack)}"
        ) from None


def inner_attack(attack: Attack) -> Attack:
    """Returns the inner attack of one such as `transferred`, else the attack."""
    return getattr(attack, "keywords", {}).get("attack", attack)


def settings_of(attack: Attack) -> str:
    """Returns an attack's function and the settings that functools.partial binds, as text.

    >>> from adv_jax import attacks
    >>> settings_of(partial(attacks.pgd, num_steps=10, bounds=(0, 1)))
    'pgd(num_steps=10, bounds=(0, 1))'
    """
    bound: dict[str, Any] = {}
    inner: Any = attack
    while isinstance(inner, partial):
        bound, inner = {**inner.keywords, **bound}, inner.func
    settings = {
        name: settings_of(value) if callable(value) else described(value)
        for name, value in bound.items()
    }
    return f"{function_name(attack)}({', '.join(f'{n}={value}' for n, value in settings.items())})"
