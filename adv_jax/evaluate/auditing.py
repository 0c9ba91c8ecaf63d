"""The self-audit of an evaluation: signs that it says less about the model than it seems to.

Sources: Carlini et al. 2019, On Evaluating Adversarial Robustness, sec. 3 and 5; Athalye, Carlini
& Wagner 2018, Obfuscated Gradients, sec. 3.1.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from adv_jax import norms
from adv_jax.attacks.contract import loss_gradient
from adv_jax.evaluate.budget import function_name, norm_of, scale_of
from adv_jax.types import Array, Attack, Bounds, LogitsFn

# What an attack of the same norm and size should do at least as well as one of a lower rank.
_RANKS = {"sign_noise": 0, "uniform_noise": 0, "fgsm": 1, "pgd": 2, "apgd": 2, "auto_attack": 3}
_MASKED = 0.01  # share of zero gradients from which on a warning is due
_SLACK = 0.01  # share of the rows by which a stronger attack may fall behind, and at least ...
_SLACK_ROWS = 3


class AuditWarning(UserWarning):
    """An evaluation that may not be trusted; the message says why and what to do."""


class Audit(NamedTuple):
    """Shares are fractions of the N rows, in [0, 1].

    zero_gradients: whose gradient of the cross-entropy by the input is exactly 0.
    outside_ball: attack -> those that are longer than eps, in the attack's norm, at some eps;
      attacks that have a norm.
    outside_bounds: attack -> those that leave the bounds at some eps; empty without bounds.
    changed_at_zero: attack -> those that are classified otherwise at eps = 0; empty without 0.
    order: "stronger - weaker" -> the largest difference of accuracies over eps, which should not
      be positive: random noise, one step and iterated steps of the same norm.
    warnings: what is wrong, in words.
    """

    zero_gradients: float
    outside_ball: dict[str, float]
    outside_bounds: dict[str, float]
    changed_at_zero: dict[str, float]
    order: dict[str, float]
    warnings: tuple[str, ...]


def zero_gradient(logits_fn: LogitsFn, x: Array, y: Array) -> Array:
    """bool[B]: the gradient of the row's cross-entropy by x is exactly 0; one pass back."""
    gradient = loss_gradient(logits_fn, x, y, targeted=False)
    return (gradient == 0).reshape(len(y), -1).all(axis=1)


def violations(
    attack: Attack, x: Array, x_adv: Array, eps: Array, *, bounds: Bounds | None
) -> dict[str, Array]:
    """{"outside_ball", "outside_bounds": bool[B]}, the ones that apply.

    Adding a perturbation to x in its dtype rounds every entry, which is not counted.
    """
    found = {}
    # The scales of other names are no radii: a factor of the gradient, a share of the pixels.
    if (norm := norm_of(attack)) is not None and scale_of(attack) == "eps":
        rounding = norms.norm(jnp.finfo(x.dtype).eps * x_adv, norm)
        found["outside_ball"] = norms.norm(x_adv - x, norm) > eps * (1 + 1e-5) + rounding
    if bounds is not None:
        low, high = jnp.asarray(bounds, x.dtype)
        found["outside_bounds"] = ((x_adv < low) | (x_adv > high)).reshape(len(x), -1).any(axis=1)
    return found


def audit(
    attacks: Mapping[str, Attack],
    attacked: Mapping[str, Mapping[str, np.ndarray]],
    clean_labels: np.ndarray,
    y: np.ndarray,
    *,
    eps: Sequence[float],
    zero_gradients: np.ndarray,
    bounds: Bounds | None,
) -> Audit:
    """The audit of N rows under attacks at E sizes.

    Args:
      attacked: attack -> {"label": i32[E, N], and what `violations` gives, bool[E, N]}.
      clean_labels, y: i32[N], what the model says of x, and the truth.
      zero_gradients: bool[N].
    """
    zero = np.flatnonzero(np.asarray(eps) == 0)
    accuracies = {name: (rows["label"] == y).mean(-1) for name, rows in attacked.items()}

    def at_some_eps(flag: str) -> dict[str, float]:
        flagged = {name: rows[flag] for name, rows in attacked.items() if flag in rows}
        return {name: float(rows.any(0).mean()) for name, rows in flagged.items()}

    found = Audit(
        zero_gradients=float(zero_gradients.mean()),
        outside_ball=at_some_eps("outside_ball"),
        outside_bounds=at_some_eps("outside_bounds"),
        changed_at_zero={
            name: float((rows["label"][zero] != clean_labels).any(0).mean())
            for name, rows in attacked.items()
            if len(zero)
        },
        order={
            f"{strong} - {weak}": float((accuracies[strong] - accuracies[weak]).max())
            for strong, weak in _ordered(attacks)
        },
        warnings=(),
    )
    return found._replace(warnings=tuple(_warnings(found, attacks, len(y), bounds)))


def _ordered(attacks: Mapping[str, Attack]) -> Iterator[tuple[str, str]]:
    """(stronger, weaker): attacks of the same norm, of which one should beat the other."""
    ranked = {
        name: (norm_of(attack) or "linf", _RANKS[function_name(attack)])
        for name, attack in attacks.items()
        if function_name(attack) in _RANKS
    }
    for strong, (norm, rank) in ranked.items():
        for weak, (other, lower) in ranked.items():
            if norm == other and rank > lower:
                yield strong, weak


def _warnings(
    found: Audit, attacks: Mapping[str, Attack], rows: int, bounds: Bounds | None
) -> Iterator[str]:
    """One sentence for each thing that is wrong."""
    if found.zero_gradients >= _MASKED:
        yield (
            f"{_percent(found.zero_gradients)} of the gradients are exactly 0: they are masked, "
            "and attacks that follow them find little; try one without gradients, or on "
            "another model and transferred"
        )
    for name, share in found.outside_ball.items():
        if share:
            yield (
                f"{name} leaves its {norm_of(attacks[name])} ball in {_percent(share)} of the "
                "rows: its accuracy is lower than eps allows; project the perturbation"
            )
    for name, share in found.outside_bounds.items():
        if share:
            yield (
                f"{name} leaves the bounds {bounds} in {_percent(share)} of the rows, which are "
                f"no valid inputs; give it bounds={bounds}"
            )
    for name, share in found.changed_at_zero.items():
        if share:
            yield (
                f"{name} changes the class of {_percent(share)} of the rows at eps = 0, where it "
                "may change nothing; it ignores eps, or the model draws random numbers"
            )
    for pair, excess in found.order.items():
        strong, weak = pair.split(" - ")
        if round(excess * rows) > max(_SLACK * rows, _SLACK_ROWS):
            yield (
                f"{strong} leaves {_percent(excess)} more of the rows correct than {weak}, which "
                "should be weaker: gradients are masked, or its steps are too few or too small"
            )


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
