"""The ball of an attack: whether it leaves it, and the single step of its radius."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from adv_jax import norms
from adv_jax.attacks import traits_of
from adv_jax.evaluate.probing import Step
from adv_jax.evaluate.traits import assumed_traits, ball_of, has_unknown_ball
from adv_jax.perturbations import limits
from adv_jax.types import Array, Attack, Bounds

# A ball is filled if the longest perturbation is this share of the radius; the rest is rounding.
_FILLED, _FITTED = 0.95, 1.01
_BALLS = ("l1", "l2", "linf")  # each in the next one


def violations(
    attack: Attack, x: Array, x_adv: Array, eps: Array, *, bounds: Bounds | None
) -> dict[str, Array]:
    """Returns {"outside_ball", "outside_bounds": bool[B]}, where they apply.

    The rounding of x + r to the dtype of x is tolerated.
    """
    found = {}
    norm = ball_of(attack)
    if has_unknown_ball(attack) and traits_of(attack) is None:
        norm = "linf"  # a plain function; this ball holds those of l2 and l1
    if norm is not None:
        rounding = 0 if norm == "l0" else norms.norm(jnp.finfo(x.dtype).eps * x_adv, norm)
        found["outside_ball"] = norms.norm(x_adv - x, norm) > eps * (1 + 1e-5) + rounding
    if bounds is not None:
        low, high = limits(x, bounds)
        found["outside_bounds"] = ((x_adv < low) | (x_adv > high)).reshape(len(x), -1).any(axis=1)
    return found


def lengths(attack: Attack, x: Array, x_adv: Array) -> dict[str, Array]:
    """Returns {"in l1": f[B], ...} if the attack does not say the norm of its ball, for `audit`."""
    unknown = _BALLS if has_unknown_ball(attack) else ()
    return {f"in {norm}": norms.norm(x_adv - x, norm) for norm in unknown}


def steps_of(attack: Attack, eps: Sequence[float], bounds: Bounds | None) -> list[Step]:
    """Returns the single step that the attack must match in strength, clipped to the bounds.

    The `bounds` keyword of the attack, if bound, takes precedence. There is a step for each norm
    that it may turn out to have if it does not say, and none for noise, transferred and confined
    attacks, and for l0, whose ball has no longest step.
    """
    norm = ball_of(attack)
    kinds = _BALLS if has_unknown_ball(attack) else (norm,) if norm not in (None, "l0") else ()
    if not assumed_traits(attack).aimed or is_confined(attack):
        return []
    own = getattr(attack, "keywords", {}).get("bounds")
    sizes = tuple(map(float, eps))
    if (box := bounds if own is None else own) is None:
        return [Step(norm, None, sizes) for norm in kinds]
    low, high = (_nested(np.asarray(bound, float).tolist()) for bound in box)
    return [Step(norm, (low, high), sizes) for norm in kinds]


def found_ball(attacked: Mapping[str, np.ndarray], sizes: np.ndarray) -> str | None:
    """Returns the norm of the smallest ball that an attack of unknown norm fills, by `lengths`.

    It is linf if it fills none, and None if it leaves that ball too: its eps is no radius.
    """
    some = sizes > 0
    if not some.any() or "in linf" not in attacked:
        return None
    longest = {norm: attacked[f"in {norm}"][some].max(-1) / sizes[some] for norm in _BALLS}
    fitted = [norm for norm, shares in longest.items() if (shares <= _FITTED).all()]
    filled = [norm for norm in fitted if longest[norm].max() >= _FILLED]
    return next(iter([*filled, *fitted[-1:]]), None)


def is_confined(attack: Attack) -> bool:
    """Returns whether an attack may reach a part of the ball only, by its traits or a mask."""
    masked = getattr(attack, "keywords", {}).get("mask") is not None
    return masked or assumed_traits(attack).confined


def _nested(bound: Any) -> Any:
    """Returns lists as tuples, which are hashable."""
    return tuple(map(_nested, bound)) if isinstance(bound, list) else bound
