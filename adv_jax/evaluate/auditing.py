"""The audit of an evaluation: signs of gradient masking, weak attacks and invalid inputs.

Sources: [carlini2019], sec. 3 and 5; [athalye2018], sec. 3.1 and 4; [kurakin2017scale] (label
leaking). docs/reliability.md lists the broken defenses that it finds.
"""

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from adv_jax.attacks import NOISE, ONE_STEP, traits_of
from adv_jax.checks import width
from adv_jax.evaluate import sentences
from adv_jax.evaluate.balls import found_ball, is_confined, steps_of
from adv_jax.evaluate.probing import Step
from adv_jax.evaluate.traits import (
    assumed_traits,
    ball_of,
    has_unknown_ball,
    kind_of_size,
    sizes_of,
)
from adv_jax.types import Attack, Bounds

_TINY = 2e-4  # of the width of the bounds; 8/255, the usual radius in [0, 1], is less in bytes


class AuditWarning(UserWarning):
    """An unreliable evaluation; the message says why and what to do."""


class Audit(NamedTuple):
    """Shares of the N rows, as fractions in [0, 1].

    nan_gradients: the gradient of the log odds with respect to the input has NaN entries, which
      attacks take for 0.
    zero_gradients: the gradient of the cross-entropy with respect to the input is 0, or subnormal
      in float32, which devices flush to 0; rows of nan_gradients are left out.
    saturated: even the gradient with respect to the logits is 0; a subset of zero_gradients.
    random: two evaluations of the model differ.
    batch: the logits depend on the other rows of the batch, or on the position in it.
    misleading: the logits do not change along the gradient as it predicts. nan_gradients,
      zero_gradients, saturated and misleading are NaN, and one_step is empty, if logits_fn has no
      derivative.
    outside_ball: attack -> the perturbation is longer than eps at some eps, in the attack's norm;
      of a plain function without a norm, in linf.
    outside_bounds: attack -> x_adv leaves the bounds at some eps; empty without bounds.
    changed_at_zero: attack -> the class changes at eps = 0; empty without eps = 0.
    order: "stronger - weaker" -> the largest difference of accuracies over eps, which should not
      be positive; pairs in the same norm of noise, one step, iterated steps and ensembles, by
      the traits of `adv_jax.attack`. An attack of unknown rank is compared with noise and one step,
      a confined one with none.
    rises: attack -> the largest rise of accuracy from the clean one or a smaller eps to a larger
      eps; noise attacks are left out.
    one_step: norm -> all attacks fail at some eps, but a single step of that size on the logit
      margin succeeds. Keys: the norms of all attacks but noise, transferred and confined ones. An
      attack that does not say its norm has that of the ball that its perturbations fill, else linf.
    at_gray: norm -> all attacks in this norm fail at every eps that suffices to turn each input
      into the same mid-gray one, where a model can only guess. Such an eps is at least half the
      width of the bounds; empty without bounds or without such an eps.
    warnings: one sentence for each problem.
    """

    nan_gradients: float
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
    at_gray: dict[str, float]
    warnings: tuple[str, ...]


def issue(messages: Iterable[str], *, stacklevel: int = 4) -> None:
    """Issues messages as `AuditWarning` to the caller of an entry point under `own_keywords`."""
    for message in messages:
        warnings.warn(message, AuditWarning, stacklevel=stacklevel)


def audit(
    attacks: Mapping[str, Attack],
    attacked: Mapping[str, Mapping[str, np.ndarray]],
    clean_labels: np.ndarray,
    y: np.ndarray,
    *,
    stepped: Mapping[Step, np.ndarray] = MappingProxyType({}),
    eps: Sequence[float] | Mapping[str, Sequence[float]],
    probed: Mapping[str, np.ndarray],
    shape: tuple[int, ...],
    bounds: Bounds | None,
) -> Audit:
    """Returns the audit of N rows under attacks at E sizes.

    Args:
      attacked: attack -> {"label": i32[E, N], and the results of `violations` and `lengths`}.
      clean_labels, y: i32[N], predictions at x and labels.
      stepped: step -> predictions after it, i32[E, N].
      eps: as in `evaluate`.
      probed: the results of `probe` or `probe_values`, bool[N] each.
      shape: *D, of a row.
    """
    sizes = {name: np.asarray(eps) for name, eps in sizes_of(attacks, eps).items()}
    correct = {name: rows["label"] == y for name, rows in attacked.items()}
    accuracies = {name: rows.mean(-1) for name, rows in correct.items()}
    clean_accuracy = (clean_labels == y).mean()
    balls = {
        name: found_ball(attacked[name], sizes[name])
        if has_unknown_ball(attack)
        else ball_of(attack)
        for name, attack in attacks.items()
    }
    steps = {
        step: labels == y
        for step, labels in stepped.items()
        if any(
            step.norm == balls[name] and step in steps_of(attack, sizes[name].tolist(), bounds)
            for name, attack in attacks.items()
        )
    }

    def at_some_eps(flag: str) -> dict[str, float]:
        flagged = {name: rows[flag] for name, rows in attacked.items() if flag in rows}
        return {name: float(rows.any(0).mean()) for name, rows in flagged.items()}

    def share(sign: str) -> float:
        return float(probed[sign].mean()) if sign in probed else math.nan

    order = _orders(attacks, accuracies, sizes, balls)
    found = Audit(
        nan_gradients=share("nan_gradient"),
        zero_gradients=share("zero_gradient"),
        saturated=share("saturated"),
        random=share("random"),
        batch=share("batch"),
        misleading=share("misleading"),
        outside_ball=at_some_eps("outside_ball"),
        outside_bounds=at_some_eps("outside_bounds"),
        changed_at_zero={
            name: float((rows["label"][sizes[name] == 0] != clean_labels).any(0).mean())
            for name, rows in attacked.items()
            if (sizes[name] == 0).any()
        },
        order={f"{strong} - {weak}": excess for (strong, weak), excess in order.items()},
        rises=_rises(attacks, accuracies, clean_accuracy, sizes),
        one_step=_one_step(correct, steps),
        at_gray=_at_gray(attacks, correct, sizes, balls, shape=shape, bounds=bounds),
        warnings=(),
    )
    said = (
        *sentences.of_guess(clean_accuracy, y),
        *_warnings(found, attacks, order, y, bounds=bounds),
        *sentences.of_weak(_weak(attacks, accuracies, clean_accuracy, sizes, balls), len(y)),
        *_of_shared_sizes(attacks, eps),
        *_of_tiny_sizes(sizes, balls, bounds),
    )
    return found._replace(warnings=said)


def _warnings(
    found: Audit,
    attacks: Mapping[str, Attack],
    order: Mapping[tuple[str, str], float],
    y: np.ndarray,
    *,
    bounds: Bounds | None,
) -> tuple[str, ...]:
    """Returns the warnings of what was found; order: as of `_orders`."""
    return (
        *sentences.of_gradients(found.nan_gradients, found.zero_gradients, found.saturated),
        *sentences.of_values(found.random, found.batch),
        *sentences.of_misleading(found.misleading),
        *sentences.of_ball(found.outside_ball, attacks),
        *sentences.of_bounds(found.outside_bounds, bounds),
        *sentences.of_zero(found.changed_at_zero),
        *sentences.of_order(order, attacks, len(y)),
        *sentences.of_rises(found.rises, len(y)),
        *sentences.of_one_step(found.one_step, len(y)),
        *sentences.of_gray(found.at_gray, y),
    )


def warnings_of_curves(
    attacks: Mapping[str, Attack],
    accuracies: Mapping[str, np.ndarray],
    clean_accuracies: np.ndarray,
    y: np.ndarray,
    *,
    eps: Sequence[float] | Mapping[str, Sequence[float]],
    changes: Mapping[str, np.ndarray],
) -> tuple[str, ...]:
    """Returns the warnings of the audit that follow from curves, without the model.

    Args:
      accuracies: attack -> f[E], mean over replicas.
      clean_accuracies: f[R], of the replicas.
      y: i32[N], the classes.
      changes: attack -> f[E], the size of its perturbations in any norm. Some attacks leave rows
        that are misclassified already as they are.
    """
    sizes = {name: np.asarray(eps) for name, eps in sizes_of(attacks, eps).items()}
    balls = {name: ball_of(attack) for name, attack in attacks.items()}
    order = _orders(attacks, accuracies, sizes, balls)
    clean_accuracy, num_rows = float(clean_accuracies.mean()), len(y)
    rises = _rises(attacks, accuracies, clean_accuracy, sizes)
    still = [
        name
        for name, attack in attacks.items()
        if _must_move(attack) and (changes[name][sizes[name] > 0] == 0).any()
    ]
    return (
        *sentences.of_guess(clean_accuracies, y),
        *sentences.of_still(still),
        *sentences.of_order(order, attacks, num_rows),
        *sentences.of_rises(rises, num_rows),
        *sentences.of_weak(_weak(attacks, accuracies, clean_accuracy, sizes, balls), num_rows),
        *_of_shared_sizes(attacks, eps),
    )


def _of_shared_sizes(attacks: Mapping[str, Attack], eps: Any) -> Iterator[str]:
    if not isinstance(eps, Mapping):
        kinds = {name: kind_of_size(attack) for name, attack in attacks.items()}
        yield from sentences.of_sizes(kinds)


def _of_tiny_sizes(
    sizes: Mapping[str, np.ndarray], balls: Mapping[str, str | None], bounds: Bounds | None
) -> Iterator[str]:
    if bounds is None or any(map(np.ndim, bounds)):  # Bounds of each feature have no single width.
        return
    least = _TINY * width(bounds, (), "linf")
    if math.isfinite(least):
        radii = {name: own.max() for name, own in sizes.items() if balls[name] not in (None, "l0")}
        tiny = [name for name, radius in radii.items() if 0 < radius < least]
        yield from sentences.of_tiny(tiny, bounds)


def _must_move(attack: Attack) -> bool:
    """Returns whether an attack changes all rows that are correct and whose gradient is not 0."""
    traits = traits_of(attack)
    return traits is not None and traits.aimed and traits.gradient and not traits.minimal


def _orders(
    attacks: Mapping[str, Attack],
    accuracies: Mapping[str, np.ndarray],
    sizes: Mapping[str, np.ndarray],
    balls: Mapping[str, str | None],
) -> dict[tuple[str, str], float]:
    """Returns `Audit.order` by pairs of attacks, (stronger, weaker)."""
    return {
        (strong, weak): float((accuracies[strong] - accuracies[weak]).max())
        for strong, weak in _ordered(attacks, sizes, balls)
    }


def _weak(
    attacks: Mapping[str, Attack],
    accuracies: Mapping[str, np.ndarray],
    clean_accuracy: float,
    sizes: Mapping[str, np.ndarray],
    balls: Mapping[str, str | None],
) -> Iterator[tuple[str, float, str, float]]:
    """Yields an attack of several steps, the share of rows that it fools, another, and its share.

    The other is that of the same ball and sizes that fools most; `_orders` has those of lower rank.
    """
    fooled = {name: float(clean_accuracy - own.min()) for name, own in accuracies.items()}
    stepped = {name: assumed_traits(attack).rank or NOISE for name, attack in attacks.items()}
    for name, attack in attacks.items():
        if stepped[name] <= ONE_STEP or not assumed_traits(attack).aimed or is_confined(attack):
            continue
        others = [
            other
            for other in attacks
            if balls[name] == balls[other] is not None and stepped[other] >= stepped[name]
            if np.array_equal(sizes[name], sizes[other])
        ]
        best = max(others, key=fooled.__getitem__, default=name)
        yield name, fooled[name], best, fooled[best]


def _rises(
    attacks: Mapping[str, Attack],
    accuracies: Mapping[str, np.ndarray],
    clean_accuracy: float,
    sizes: Mapping[str, np.ndarray],
) -> dict[str, float]:
    """Returns `Audit.rises`."""
    return {
        name: _rise([clean_accuracy, *accuracies[name][np.argsort(sizes[name])]])
        for name, attack in attacks.items()
        if assumed_traits(attack).rank != NOISE
    }


def _ordered(
    attacks: Mapping[str, Attack],
    sizes: Mapping[str, np.ndarray],
    balls: Mapping[str, str | None],
) -> Iterator[tuple[str, str]]:
    """Yields (stronger, weaker) pairs of attacks in the same norm and of the same sizes."""
    ranks = {
        name: assumed_traits(attack).rank
        for name, attack in attacks.items()
        if balls[name] is not None
        and (assumed_traits(attack).aimed or assumed_traits(attack).rank == NOISE)
        and not is_confined(attack)
    }
    for strong, rank in ranks.items():
        for weak, lower in ranks.items():
            above = lower is not None and (lower <= ONE_STEP if rank is None else lower < rank)
            same = balls[strong] == balls[weak] and np.array_equal(sizes[strong], sizes[weak])
            if above and same:
                yield strong, weak


def _rise(accuracies: Sequence[float]) -> float:
    """Returns the largest rise from an entry to a later one.

    >>> round(_rise([.9, .4, .6, .3]), 9)
    0.2
    """
    return float((accuracies - np.minimum.accumulate(accuracies)).max())


def _one_step(
    correct: Mapping[str, np.ndarray], correct_after: Mapping[Step, np.ndarray]
) -> dict[str, float]:
    """Returns `Audit.one_step`; correct, correct_after: bool[E, N], the rows still correct."""
    robust = np.all(list(correct.values()), axis=0)
    shares = [
        (step.norm, float((robust & ~after_step).mean(-1).max()))
        for step, after_step in correct_after.items()
    ]
    return {norm: max(share for other, share in shares if other == norm) for norm, _ in shares}


def _at_gray(
    attacks: Mapping[str, Attack],
    correct: Mapping[str, np.ndarray],
    sizes: Mapping[str, np.ndarray],
    balls: Mapping[str, str | None],
    *,
    shape: tuple[int, ...],
    bounds: Bounds | None,
) -> dict[str, float]:
    """Returns `Audit.at_gray`; correct: attack -> bool[E, N], the rows still correct."""
    withstand: dict[str, Any] = {}  # norm -> bool[N]
    for name, attack in attacks.items():
        norm = balls[name]
        if norm is not None and bounds is not None and not is_confined(attack):
            enough = width(bounds, shape, norm) / (1 if norm == "l0" else 2)
            if (large := sizes[name] >= enough).any():
                withstand[norm] = withstand.get(norm, True) & correct[name][large].all(0)
    return {norm: float(rows.mean()) for norm, rows in withstand.items()}
