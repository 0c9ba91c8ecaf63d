"""The audit of an evaluation: signs of gradient masking, weak attacks and invalid inputs.

Sources: [carlini2019], sec. 3 and 5; [athalye2018], sec. 3.1 and 4; [kurakin2017scale] (label
leaking). docs/reliability.md lists the broken defenses that it finds.
"""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from adv_jax import norms
from adv_jax.evaluate.budget import ball_of, function_name, norm_of
from adv_jax.evaluate.probing import Step
from adv_jax.types import Array, Attack, Bounds

# An attack should succeed at least as often as one of lower rank, at the same norm and size.
_RANKS = {"sign_noise": 0, "uniform_noise": 0, "fgsm": 1, "pgd": 2, "apgd": 2, "auto_attack": 3}
_MASKED = 0.01  # share of rows from which a sign of masking is reported
_MISLED = 0.25  # the same for misleading gradients; random masks mislead two fifths
_NOISE = {"gaussian_noise", "rubbish", "sign_noise", "uniform_noise"}
_NOT_AIMED = {*_NOISE, "transferred"}
_SLACK, _SLACK_ROWS = 0.01, 3  # share (and number) of rows by which a stronger attack may lag
_RISE = 0.05  # share of rows by which accuracy may rise with eps: one long step overshoots
_BEHIND = 0.05  # share of rows that one step may fool and the attacks of its norm do not


class AuditWarning(UserWarning):
    """An unreliable evaluation; the message says why and what to do."""


class Audit(NamedTuple):
    """Shares of the N rows, as fractions in [0, 1].

    zero_gradients: the gradient of the cross-entropy by the input is 0, or subnormal in float32,
      which devices round to 0.
    saturated: the gradient by the logits is 0 already; a subset of zero_gradients.
    random: two evaluations of the model differ.
    batch: the logits depend on the other rows of the batch, or on the position in it.
    misleading: the logits do not change along the gradient as it predicts.
    outside_ball: attack -> the perturbation is longer than eps at some eps; attacks with a norm.
    outside_bounds: attack -> x_adv leaves the bounds at some eps; empty without bounds.
    changed_at_zero: attack -> the class changes at eps = 0; empty without eps = 0.
    order: "stronger - weaker" -> the largest difference of accuracies over eps, which should not
      be positive; pairs of random noise, one step and iterated steps in the same norm.
    rises: attack -> the rise of its accuracy with eps, from the clean accuracy on; without noise.
    one_step: norm -> all attacks fail at some eps, but one step of that size up the logit margin
      succeeds; norms of the attacks on this model.
    at_grey: norm -> its attacks fail although eps, at least half the width of the bounds, allows
      to turn every input into the same gray one, whose class a model can only guess; empty
      without bounds or such an eps.
    warnings: one sentence for each problem.
    """

    zero_gradients: float
    saturated: float
    random: float
    batch: float
    misleading: float
    outside_ball: dict[str, float]
    outside_bounds: dict[str, float]
    changed_at_zero: dict[str, float]
    order: dict[str, float]
    rises: dict[str, float]
    one_step: dict[str, float]
    at_grey: dict[str, float]
    warnings: tuple[str, ...]


def violations(
    attack: Attack, x: Array, x_adv: Array, eps: Array, *, bounds: Bounds | None
) -> dict[str, Array]:
    """Returns {"outside_ball", "outside_bounds": bool[B]}, where they apply.

    The rounding of x + r to the dtype of x is tolerated.
    """
    found = {}
    if (norm := ball_of(attack)) is not None:
        rounding = norms.norm(jnp.finfo(x.dtype).eps * x_adv, norm)
        found["outside_ball"] = norms.norm(x_adv - x, norm) > eps * (1 + 1e-5) + rounding
    if bounds is not None:
        low, high = jnp.asarray(bounds, x.dtype)
        found["outside_bounds"] = ((x_adv < low) | (x_adv > high)).reshape(len(x), -1).any(axis=1)
    return found


def step_of(attack: Attack, bounds: Bounds | None) -> Step | None:
    """Returns the single step that the attack should be at least as strong as, with its bounds.

    None for noise and transferred attacks. Bounds bound to the attack take precedence.
    """
    norm = ball_of(attack)
    if norm is None or function_name(attack) in _NOT_AIMED:
        return None
    own = getattr(attack, "keywords", {}).get("bounds")
    if (box := bounds if own is None else own) is None:
        return Step(norm, None)
    low, high = map(float, box)
    return Step(norm, (low, high))


def audit(
    attacks: Mapping[str, Attack],
    attacked: Mapping[str, Mapping[str, np.ndarray]],
    clean_labels: np.ndarray,
    y: np.ndarray,
    *,
    stepped: Mapping[Step, np.ndarray] = MappingProxyType({}),
    eps: Sequence[float],
    probed: Mapping[str, np.ndarray],
    shape: tuple[int, ...],
    bounds: Bounds | None,
) -> Audit:
    """Returns the audit of N rows under attacks at E sizes.

    Args:
      attacked: attack -> {"label": i32[E, N], and the results of `violations`, bool[E, N]}.
      clean_labels, y: i32[N], predictions at x and labels.
      stepped: step -> predictions after it, i32[E, N].
      probed: the results of `probe`, bool[N] each.
      shape: *D, of a row.
    """
    zero = np.flatnonzero(np.asarray(eps) == 0)
    right = {name: rows["label"] == y for name, rows in attacked.items()}
    accuracies = {name: rows.mean(-1) for name, rows in right.items()}
    clean_accuracy = (clean_labels == y).mean()

    def at_some_eps(flag: str) -> dict[str, float]:
        flagged = {name: rows[flag] for name, rows in attacked.items() if flag in rows}
        return {name: float(rows.any(0).mean()) for name, rows in flagged.items()}

    found = Audit(
        zero_gradients=float(probed["zero_gradient"].mean()),
        saturated=float(probed["saturated"].mean()),
        random=float(probed["random"].mean()),
        batch=float(probed["batch"].mean()),
        misleading=float(probed["misleading"].mean()),
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
        rises={
            name: _rise([clean_accuracy, *accuracies[name][np.argsort(eps)]])
            for name, attack in attacks.items()
            if function_name(attack) not in _NOISE
        },
        one_step=_one_step(right, {step: labels == y for step, labels in stepped.items()}),
        at_grey=_at_grey(attacks, right, eps=eps, shape=shape, bounds=bounds),
        warnings=(),
    )
    return found._replace(warnings=tuple(_warnings(found, attacks, y, bounds)))


def _ordered(attacks: Mapping[str, Attack]) -> Iterator[tuple[str, str]]:
    """Yields (stronger, weaker) pairs of attacks in the same norm."""
    ranked = {
        name: (norm_of(attack), _RANKS[function_name(attack)])
        for name, attack in attacks.items()
        if function_name(attack) in _RANKS
    }
    for strong, (norm, rank) in ranked.items():
        for weak, (other, lower) in ranked.items():
            if norm == other and rank > lower:
                yield strong, weak


def _rise(accuracies: Sequence[float]) -> float:
    """Returns the largest rise from an entry to a later one.

    >>> round(_rise([.9, .4, .6, .3]), 9)
    0.2
    """
    return float((accuracies - np.minimum.accumulate(accuracies)).max())


def _one_step(
    right: Mapping[str, np.ndarray], stepped: Mapping[Step, np.ndarray]
) -> dict[str, float]:
    """Returns `Audit.one_step`; right, stepped: bool[E, N], the rows still correct."""
    robust = np.all(list(right.values()), axis=0)
    shares = [(step.norm, float((robust & ~left).mean(-1).max())) for step, left in stepped.items()]
    return {norm: max(share for other, share in shares if other == norm) for norm, _ in shares}


def _at_grey(
    attacks: Mapping[str, Attack],
    right: Mapping[str, np.ndarray],
    *,
    eps: Sequence[float],
    shape: tuple[int, ...],
    bounds: Bounds | None,
) -> dict[str, float]:
    """Returns `Audit.at_grey`; right: attack -> bool[E, N], the rows still correct."""
    withstand: dict[str, Any] = {}  # norm -> bool[N]
    for name, attack in attacks.items():
        norm = ball_of(attack)
        if norm is not None and bounds is not None:
            enough = norms.norm_of_ones(shape, norm) * (bounds[1] - bounds[0]) / 2
            if (large := np.asarray(eps) >= enough).any():
                withstand[norm] = withstand.get(norm, True) & right[name][large].all(0)
    return {norm: float(rows.mean()) for norm, rows in withstand.items()}


def _warnings(
    found: Audit, attacks: Mapping[str, Attack], y: np.ndarray, bounds: Bounds | None
) -> Iterator[str]:
    """Yields one sentence for each problem."""

    def too_many(excess: float, slack: float = _SLACK) -> bool:
        return round(excess * len(y)) > max(slack * len(y), _SLACK_ROWS)

    yield from _warnings_of_model(found)
    for name, share in found.outside_ball.items():
        if share:
            yield (
                f"{name} leaves its {norm_of(attacks[name])} ball in {_percent(share)} of the "
                "rows: its accuracy is lower than eps allows; project the perturbation"
            )
    for name, share in found.outside_bounds.items():
        if share:
            yield (
                f"{name} leaves the bounds {bounds} in {_percent(share)} of the rows: they are not "
                f"valid inputs; pass bounds={bounds}"
            )
    for name, share in found.changed_at_zero.items():
        if share:
            yield (
                f"{name} changes the class of {_percent(share)} of the rows at eps = 0: it ignores "
                "eps, or the model draws random numbers"
            )
    for pair, excess in found.order.items():
        strong, weak = pair.split(" - ")
        if too_many(excess):
            yield (
                f"{strong} leaves {_percent(excess)} more of the rows correct than {weak}, which "
                "should be weaker: gradients are masked, or its steps are too few or too small"
            )
    for name, excess in found.rises.items():
        if too_many(excess, _RISE):
            yield (
                f"the accuracy under {name} rises by {_percent(excess)} with eps: label leaking in "
                "a model trained on such steps, or a wrong step direction; use the model's own "
                "prediction (y=None), or several steps"
            )
    for norm, share in found.one_step.items():
        if too_many(share, _BEHIND):
            yield (
                f"{_percent(share)} of the rows withstand all attacks, but not one {norm} step of "
                "the same size up the logit margin: the attacks are too weak, or their loss "
                'saturates; try apgd with loss="dlr"'
            )
    guessed = np.unique(y, return_counts=True)[1].max() / len(y)
    for norm, share in found.at_grey.items():
        if too_many(share - guessed):
            yield (
                f"{_percent(share)} of the rows withstand all {norm} attacks at an eps that can "
                f"make all inputs equal, where at most {_percent(guessed)} can: the attacks are "
                "too weak, and the accuracies at smaller eps too high"
            )


def _warnings_of_model(found: Audit) -> Iterator[str]:
    """Yields one sentence for each problem of the model, independent of the attacks."""
    if found.zero_gradients >= _MASKED:
        saturated = found.saturated > found.zero_gradients / 2
        yield (
            f"{_percent(found.zero_gradients)} of the gradients are exactly 0 (gradient masking), "
            "and gradient attacks fail; "
            + (
                "the logits saturate the softmax: divide them by a constant, or attack their "
                'margin (apgd with loss="dlr")'
                if saturated
                else "try an attack without gradients, or a transferred one; replace operations "
                "without derivative, such as rounding, by smooth ones in the backward pass (BPDA)"
            )
        )
    if found.random >= _MASKED:
        yield (
            f"the model draws random numbers: two evaluations differ for {_percent(found.random)} "
            "of the rows, and attacks see another draw than the evaluation; disable the "
            "randomness, or attack the mean of many draws (EOT)"
        )
    if found.batch >= _MASKED:
        yield (
            f"the logits of {_percent(found.batch)} of the rows depend on the other rows of the "
            "batch, or on the position in it: batch normalization or dropout is in training mode; "
            "set train=False"
        )
    if found.misleading >= _MISLED:
        yield (
            f"{_percent(found.misleading)} of the gradients are misleading: the logits do not "
            "change along them as predicted; the model has a custom derivative (a reversed sign, a "
            "straight-through estimator); try an attack without gradients"
        )


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
