"""What an evaluation asks of an attack, and how it calls one.

It is read from the attack's traits (`adv_jax.attack`), else from its signature.
"""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adv_jax import norms
from adv_jax.annotations import catch_all
from adv_jax.attacks import NOISE, SIZES, forward_only, function_name, traits_of
from adv_jax.checks import bad_rows, check_keywords, explained, targets, traceable, with_aux
from adv_jax.loss_gradients import check_loss, noted_losses
from adv_jax.types import Array, Attack, Key, LogitsFn, UserError, described


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
    inner = crafting(attack)
    parameters, traits = checked_parameters(inner), traits_of(inner)
    for name in ("length", "norm"):
        default = parameters[name].default if name in parameters else None
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


def has_unknown_ball(attack: Attack) -> bool:
    """Returns whether an attack's eps is a radius, if any, in a norm that it does not say."""
    return scale_of(attack) == "eps" and norm_of(attack) is None


def is_aimed(attack: Attack) -> bool:
    """Returns whether an attack is aimed at the evaluated model; a plain function counts as such.

    >>> from adv_jax import attacks
    >>> is_aimed(attacks.pgd), is_aimed(attacks.sign_noise), is_aimed(lambda *args, **given: 0)
    (True, False, True)
    """
    traits = traits_of(attack)
    return traits is None or traits.aimed


def is_noise(attack: Attack) -> bool:
    """Returns whether an attack draws its perturbation without the model."""
    return rank_of(attack) == NOISE


def rank_of(attack: Attack) -> int | None:
    """Returns the rank of an attack (`attacks.NOISE`, ...), None if it is unknown."""
    traits = traits_of(attack)
    return None if traits is None else traits.rank


def is_targeted(attack: Attack) -> bool:
    """Returns whether y is the class to reach, by the attack's bound or default arguments.

    Raises:
      UserError: the attack is not a function.

    >>> from adv_jax import attacks
    >>> is_targeted(partial(attacks.fgsm, targeted=True)), is_targeted(attacks.fgsm)
    (True, False)
    """
    checked_parameters(attack)
    return targets(attack)


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

    size: f32[], or f32[B], which the attack gets as f32[B, 1, ..., 1]: it broadcasts with x.
    keys: for an attack that takes `key`.
    aux: passed to an attack that takes it, so that it can split the batch; else bound.

    Raises:
      UserError: the attack cannot be traced, does not take a size of this shape, does not return an
        array of the shape and dtype of x, or needs a derivative that the model lacks.
    """
    name, scale, traits = function_name(attack), scale_of(attack), traits_of(attack)
    settings: dict[str, Any] = {scale: norms.per_row(scale, size, x) if jnp.ndim(size) else size}
    if takes(attack, "key"):
        settings["key"] = keys
    inputs = (x,)
    if aux is not None and "aux" in checked_parameters(attack):
        settings["aux"], inputs = aux, (x, aux)
    elif aux is not None:
        logits_fn = with_aux(logits_fn, aux)
    gradient = traits is None or traits.gradient
    try:
        with (
            traceable(f"{name} and logits_fn"),
            explained(name, logits_fn, *inputs, gradient=gradient, instead=forward_only()),
        ):
            x_adv = attack(logits_fn, x, y, **settings)
    except UserError:
        raise
    except Exception as error:  # Any: each operation raises its own.
        reason = str(error).partition("\n")[0]
        given = jnp.asarray(settings[scale])
        if _takes_other_size(partial(attack, logits_fn, x, y, **settings), scale, given, x):
            broadcast = ", which broadcasts with x" if given.ndim else ", one number for all rows"
            raise UserError(
                f"{name} must take {scale} as {described(given)}{broadcast}, got {reason}"
            ) from error
        if isinstance(error, TypeError):
            raise UserError(
                f"{name} must be an attack (logits_fn, x, y, *, {scale}, key) -> x_adv, "
                f"got {reason}"
            ) from error
        raise
    check_like_x(name, x_adv, x)
    return x_adv


def check_like_x(name: str, x_adv: Any, x: Array) -> None:
    """Raises UserError unless what the attack of that name returns has the shape and dtype of x."""
    for kind in ("shape", "dtype"):
        if getattr(x_adv, kind, None) != getattr(x, kind):
            array = hasattr(x_adv, "shape")
            found = described(x_adv) if array else f"a {type(x_adv).__name__}"
            raise UserError(
                f"{name} must return an array of the {kind} of x, {described(x)}, got {found}"
            )


def _takes_other_size(run: Callable[..., Any], scale: str, given: Array, x: Array) -> bool:
    """Returns whether an attack that failed at one shape of its size works at another."""

    def works(shape: tuple[int, ...]) -> bool:
        try:
            jax.eval_shape(lambda: run(**{scale: np.ones(shape, np.float32)}))
        except Exception:  # Any: each operation raises its own.
            return False
        return True

    rows = (len(x),)
    return any(map(works, [()] if given.ndim else [rows, rows + (1,) * (x.ndim - 1)]))


def crafted(
    attack: Attack,
    logits_fn: LogitsFn,
    x: Array,
    y: Array,
    size: Array | float,
    keys: Key | None,
    aux: Any = None,
) -> tuple[Array, dict[str, Array]]:
    """Returns the result of `at_size`, and flags bool[B] of its rows for `check_crafted`."""
    with noted_losses() as noted:
        x_adv = at_size(attack, logits_fn, x, y, size, keys, aux)
    flags = {"finite_x_adv": jnp.isfinite(x_adv).reshape(len(x), -1).all(axis=1)}
    for of_loss in noted:
        for name, rows in of_loss.items():
            if rows.shape == x.shape[:1]:  # An attack may be called with a part of the batch.
                flags[name] = flags.get(name, True) & rows
    return x_adv, flags


def check_crafted(name: str, flags: Mapping[str, np.ndarray]) -> None:
    """Checks the flags of `crafted`, bool[..., N] each, for the attack of that name.

    Raises:
      UserError: a loss of the user is not finite at x, or has a gradient of NaN; x_adv is not
        finite.
    """
    check_loss(flags)
    if bad := bad_rows(flags["finite_x_adv"]):
        raise UserError(f"{name} must return finite inputs, got NaN or infinity for {bad} of x")


def sizes_of(
    attacks: Mapping[str, Attack], eps: Sequence[float] | Mapping[str, Sequence[float]]
) -> dict[str, Sequence[float]]:
    """Returns the E sizes of each attack; eps: those of all attacks, or name -> those of one."""
    return dict(eps) if isinstance(eps, Mapping) else dict.fromkeys(attacks, eps)


def takes(attack: Attack, keyword: str) -> bool:
    """Returns whether an attack can be called with a keyword; a wrapper may take less than it says.

    >>> takes(lambda x, **settings: x, "key"), takes(lambda x: x, "key")
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


@contextlib.contextmanager
def naming(name: str, attack: Attack) -> Iterator[None]:
    """Puts the name of an attack in an evaluation before an error that does not name its function.

    Raises:
      UserError: that of the context.
    """
    try:
        yield
    except UserError as error:
        message = str(error)
        names = {name, function_name(attack)} - {"<lambda>"}
        if message.startswith(tuple(f"{own} " for own in names)):
            raise
        rest = message.removeprefix("<lambda> ").removeprefix("attack ")
        raise UserError(f"{name}: {message}" if rest == message else f"{name} {rest}") from error


def crafting(attack: Attack) -> Attack:
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
