"""The self-audit of an evaluation: signs that it says less about the model than it seems to.

Sources: [carlini2019], sec. 3 and 5; [athalye2018], sec. 3.1 and 4; [kurakin2017scale] (label
leaking). docs/reliability.md: which broken defenses it finds.
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

# What an attack of the same norm and size should do at least as well as one of a lower rank.
_RANKS = {"sign_noise": 0, "uniform_noise": 0, "fgsm": 1, "pgd": 2, "apgd": 2, "auto_attack": 3}
_MASKED = 0.01  # share of the rows from which on a sign of the model is worth a warning, and ...
_MISLED = 0.25  # ... of gradients that mislead, which random masks make two fifths of them
_NOISE = {"gaussian_noise", "rubbish", "sign_noise", "uniform_noise"}
_NOT_AIMED = {*_NOISE, "transferred"}
_SLACK = 0.01  # share of the rows by which a stronger attack may fall behind, and at least ...
_SLACK_ROWS = 3
_RISE = 0.05  # share of the rows by which accuracy may rise with eps: one long step overshoots
_BEHIND = 0.05  # share of the rows that one step may turn and the attacks of its norm do not


class AuditWarning(UserWarning):
    """An evaluation that may not be trusted; the message says why and what to do."""


class Audit(NamedTuple):
    """Shares are fractions of the N rows, in [0, 1].

    zero_gradients: whose gradient of the cross-entropy by the input is exactly 0, or below the
      normal numbers of float32, which devices round to 0.
    saturated: of these, whose cross-entropy has that slope by the logits already.
    random: for which the model, asked twice, gives two answers.
    batch: whose answer depends on the other rows of the batch, or on the place among them.
    misleading: along whose gradient the logits do not change as it says.
    outside_ball: attack -> those that are longer than eps, in the attack's norm, at some eps;
      attacks that have a norm.
    outside_bounds: attack -> those that leave the bounds at some eps; empty without bounds.
    changed_at_zero: attack -> those that are classified otherwise at eps = 0; empty without 0.
    order: "stronger - weaker" -> the largest difference of accuracies over eps, which should not
      be positive: random noise, one step and iterated steps of the same norm.
    rises: attack -> by how much its accuracy rises with eps, from the clean one on; not of noise.
    one_step: norm -> those that withstand all attacks at some eps, and not one step of that size up
      the margin of the logits; the norms of the attacks that aim at this model.
    at_grey: norm -> those that withstand its attacks although eps, half the width of the bounds or
      more, lets every input become the same grey one, of which a model can only guess the class;
      empty without bounds and so large an eps.
    warnings: what is wrong, in words.
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
    """{"outside_ball", "outside_bounds": bool[B]}, the ones that apply.

    Adding a perturbation to x in its dtype rounds every entry, which is not counted.
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
    """The step that an attack should do at least as well as; None: it aims at no model, or another.

    It keeps to the bounds that are bound to the attack, or else to these.
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
    """The audit of N rows under attacks at E sizes.

    Args:
      attacked: attack -> {"label": i32[E, N], and what `violations` gives, bool[E, N]}.
      clean_labels, y: i32[N], what the model says of x, and the truth.
      stepped: one step -> the classes after it, i32[E, N].
      probed: what `probe` gives, bool[N] each.
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
    """(stronger, weaker): attacks of the same norm, of which one should beat the other."""
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
    """The largest rise from one of a sequence to a later one.

    >>> round(_rise([.9, .4, .6, .3]), 9)
    0.2
    """
    return float((accuracies - np.minimum.accumulate(accuracies)).max())


def _one_step(
    right: Mapping[str, np.ndarray], stepped: Mapping[Step, np.ndarray]
) -> dict[str, float]:
    """`Audit.one_step`; right, stepped: bool[E, N], the rows that are left correct."""
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
    """`Audit.at_grey`; right: attack -> bool[E, N], the rows that it leaves correct."""
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
    """One sentence for each thing that is wrong."""

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
        if too_many(excess):
            yield (
                f"{strong} leaves {_percent(excess)} more of the rows correct than {weak}, which "
                "should be weaker: gradients are masked, or its steps are too few or too small"
            )
    for name, excess in found.rises.items():
        if too_many(excess, _RISE):
            yield (
                f"the accuracy under {name} rises by {_percent(excess)} with eps: its steps tell "
                "the label to a model that was trained on them (label leaking), or lead the wrong "
                "way; craft it for the model's own prediction (y=None), or in several steps"
            )
    for norm, share in found.one_step.items():
        if too_many(share, _BEHIND):
            yield (
                f"{_percent(share)} of the rows withstand all attacks and not one {norm} step of "
                "the same size up the margin of the logits: the attacks are too weak, or their "
                'loss is flat where the logits are large; try apgd with loss="dlr"'
            )
    guessed = np.unique(y, return_counts=True)[1].max() / len(y)
    for norm, share in found.at_grey.items():
        if too_many(share - guessed):
            yield (
                f"{_percent(share)} of the rows withstand all {norm} attacks of an eps by which "
                f"all inputs may become the same, where at most {_percent(guessed)} can: the "
                "attacks are too weak, and their accuracies at smaller eps too high"
            )


def _warnings_of_model(found: Audit) -> Iterator[str]:
    """What is wrong whatever the attack."""
    if found.zero_gradients >= _MASKED:
        saturated = found.saturated > found.zero_gradients / 2
        yield (
            f"{_percent(found.zero_gradients)} of the gradients are exactly 0: they are masked, "
            "and attacks that follow them find little; "
            + (
                "the logits saturate the softmax: divide them by a constant, or attack their "
                'margin (apgd with loss="dlr")'
                if saturated
                else "try one without gradients, or on another model and transferred; where a "
                "step such as rounding has no derivative, put a smooth one in its place on the "
                "way back (BPDA)"
            )
        )
    if found.random >= _MASKED:
        yield (
            f"the model draws random numbers: asked twice, it answers otherwise for "
            f"{_percent(found.random)} of the rows, and attacks follow one draw and are judged by "
            "another; switch them off, or attack the mean of many draws (EOT)"
        )
    if found.batch >= _MASKED:
        yield (
            f"the answer for {_percent(found.batch)} of the rows depends on the others of the "
            "batch, or on the place among them: batch normalisation or dropout is left in training "
            "mode; set train=False"
        )
    if found.misleading >= _MISLED:
        yield (
            f"{_percent(found.misleading)} of the gradients mislead: along them the logits do not "
            "change as they say; the model's derivative is not its own (a sign that is turned "
            "round, a substitute for a step without derivative); try an attack without gradients"
        )


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
