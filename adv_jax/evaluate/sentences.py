"""The warnings of an audit, a sentence for each problem."""

import math
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from adv_jax.evaluate.traits import assumed_traits, norm_of
from adv_jax.types import Attack, Bounds, described

_MASKED = 0.01  # report a sign of gradient masking at this share of the rows
_MISLED = 0.25  # the same for misleading gradients; a defense by random masks reaches about 0.4
_SLACK, _SLACK_ROWS = 0.01, 3  # share (and number) of rows by which a stronger attack may lag
_RISE = 0.05  # share of rows by which accuracy may rise with eps: one long step overshoots
_BEHIND = 0.05  # share of rows by which a single step may beat all attacks, or one of unknown rank
_WEAK = 0.1  # of the rows that another attack fools, an attack of several steps fools more


def of_gradients(nan: float, zero: float, saturated: float) -> Iterator[str]:
    """Yields a sentence for each fault of the gradients; shares of the rows, NaN if not known."""
    if math.isnan(zero):
        yield (
            "logits_fn has no derivative, so gradient masking was not examined, and only attacks "
            "by forward passes were possible: robustness is overestimated; also attack a "
            "differentiable substitute (transferred)"
        )
    if nan > 0:
        yield (
            f"the gradient of logits_fn is NaN for {_percent(nan)} of the rows, although the "
            "logits are finite, and gradient attacks take it for 0: robustness is overestimated; "
            "mend operations such as jnp.sqrt at 0 or a jnp.where around them, or try an attack "
            "without gradients"
        )
    if zero >= _MASKED:
        yield (
            f"{_percent(zero)} of the gradients are exactly 0 (gradient masking), where gradient "
            "attacks fail; "
            + (
                "the logits saturate the softmax: check that x has the units of the training, and "
                'divide the logits by a constant, or attack their margin (apgd with loss="dlr")'
                if saturated > zero / 2
                else "try an attack without gradients, or a transferred one; replace operations "
                "without derivative, such as rounding, by smooth ones in the backward pass (BPDA, "
                "attacks.straight_through)"
            )
        )


def of_still(attacks: Iterable[str]) -> Iterator[str]:
    """Yields a sentence for each attack that changes no input at an eps above 0."""
    for name in attacks:
        yield (
            f"{name} changes no input: the gradients are exactly 0 (gradient masking), or eps is "
            "below the precision of the inputs; try an attack without gradients"
        )


def of_values(random: float, batch: float) -> Iterator[str]:
    """Yields one sentence for each problem that forward passes show; shares of the rows."""
    if random >= _MASKED:
        yield (
            f"the model draws random numbers: two evaluations differ for {_percent(random)} "
            "of the rows, so attack and evaluation use different random draws; disable the "
            "randomness, or attack the mean over many draws (expectation over transformation, "
            "attacks.expectation)"
        )
    if batch >= _MASKED:
        yield (
            f"the logits of {_percent(batch)} of the rows depend on the other rows of the "
            "batch, or on the position in it: batch normalization or dropout is in training mode "
            "(set train=False), or random numbers are drawn by the batch (draw them by the row, as "
            "attacks.expectation does)"
        )


def of_misleading(share: float) -> Iterator[str]:
    """Yields a sentence if gradients do not predict the logits."""
    if share >= _MISLED:
        yield (
            f"{_percent(share)} of the gradients are misleading: the logits do not "
            "change along them as predicted; the model has a custom derivative (a reversed sign, a "
            "straight-through estimator without attacks.straight_through) or random numbers drawn "
            "from its input (attacks.expectation); try an attack without gradients"
        )


def of_ball(shares: Mapping[str, float], attacks: Mapping[str, Attack]) -> Iterator[str]:
    """Yields a sentence for each attack that leaves its ball; shares: `Audit.outside_ball`."""
    for name, share in shares.items():
        if share:
            norm = norm_of(attacks[name])
            ball = f"its {norm} ball" if norm else "the linf ball, which holds those of l2 and l1,"
            yield (
                f"{name} leaves {ball} in {_percent(share)} of the rows: its accuracy is lower "
                "than eps allows; project the perturbation"
                + ("" if norm else ", or decorate it by adv_jax.attack, with the norm of its eps")
            )


def of_bounds(shares: Mapping[str, float], bounds: Bounds | None) -> Iterator[str]:
    """Yields a sentence for each attack that leaves the bounds; shares: `Audit.outside_bounds`."""
    for name, share in shares.items():
        if share:
            yield (
                f"{name} leaves the bounds {described(bounds)} in {_percent(share)} of the "
                f"rows: they are not valid inputs; pass bounds={described(bounds)}"
            )


def of_zero(shares: Mapping[str, float]) -> Iterator[str]:
    """Yields a sentence for each attack that moves at eps = 0; shares: `Audit.changed_at_zero`."""
    for name, share in shares.items():
        if share:
            yield (
                f"{name} changes the class of {_percent(share)} of the rows at eps = 0: it ignores "
                "eps, or the model draws random numbers"
            )


def of_order(
    excess: Mapping[tuple[str, str], float], attacks: Mapping[str, Attack], num_rows: int
) -> Iterator[str]:
    """Yields a sentence for each attack that does less harm than a weaker one.

    excess: (stronger, weaker) -> share of the rows by which the stronger attack lags.
    """
    for (strong, weak), share in excess.items():
        unknown = assumed_traits(attacks[strong]).rank is None
        if _too_many(share, num_rows, _BEHIND if unknown else _SLACK):
            yield (
                f"{strong} leaves {_percent(share)} more of the rows correct than {weak}, which "
                "should be weaker: gradients are masked, or its steps are too few or too small"
                + ("; adv_jax.attack(aimed=False) marks a control" if unknown else "")
            )


def of_weak(pairs: Iterable[tuple[str, float, str, float]], num_rows: int) -> Iterator[str]:
    """Yields a sentence for each attack that fools hardly a row, where another one fools many.

    pairs: an attack, the share of the rows that it fools, another attack, and its share.
    """
    for name, share, other, of_other in pairs:
        if share <= _WEAK * of_other and _too_many(of_other - share, num_rows, _BEHIND):
            yield (
                f"{name} fools {_percent(max(share, 0.0))} of the rows, {other} "
                f"{_percent(of_other)}: gradients are masked, or the steps of {name} are too few "
                "or too small"
            )


def of_rises(rises: Mapping[str, float], num_rows: int) -> Iterator[str]:
    """Yields a sentence for each attack whose harm falls with eps; rises: `Audit.rises`."""
    for name, rise in rises.items():
        if _too_many(rise, num_rows, _RISE):
            yield (
                f"the accuracy under {name} rises by {100 * rise:.3g} points as eps grows: the "
                "model was trained on such steps (label leaking), or the step direction is wrong; "
                "attack the model's own prediction (y=None), or take several steps"
            )


def of_one_step(shares: Mapping[str, float], num_rows: int) -> Iterator[str]:
    """Yields a sentence for each norm of which one step is stronger; shares: `Audit.one_step`."""
    for norm, share in shares.items():
        if _too_many(share, num_rows, _BEHIND):
            yield (
                f"{_percent(share)} of the rows are correct under all attacks but misclassified "
                f"after a single {norm} step of the same size on the logit margin: the attacks are "
                'too weak, or their loss saturates; try apgd with loss="dlr"'
            )


def of_gray(shares: Mapping[str, float], y: np.ndarray) -> Iterator[str]:
    """Yields a sentence for each norm whose ball has the mid-gray input; shares: `Audit.at_gray`.

    y: i32[N].
    """
    guessed = np.unique(y, return_counts=True)[1].max() / len(y)
    for norm, share in shares.items():
        if _too_many(share - guessed, len(y), _SLACK):
            yield (
                f"{_percent(share)} of the rows are correct under all {norm} attacks, although eps "
                "suffices to make all inputs equal; a constant guess gets "
                f"{_percent(guessed)}: the attacks are too weak, and accuracies at smaller eps are "
                "overestimated"
            )


def of_guess(accuracies: np.ndarray, y: np.ndarray) -> Iterator[str]:
    """Yields a sentence if a model, or one of several, is no better than one class for all rows.

    accuracies: without an attack, f[] or f[R] of R models; y: i32[N].
    """
    accuracies, counts = np.atleast_1d(accuracies), np.unique(y, return_counts=True)[1]
    guessed, worst = float(counts.max() / len(y)), float(accuracies.min())
    limit = guessed + math.sqrt(guessed * (1 - guessed) / len(y))  # a standard error above
    if worst <= limit and _too_many(1 - guessed, len(y), _SLACK):
        number = f" ({(accuracies <= limit).sum()} of {accuracies.size} replicas)"
        yield (
            f"the model{number if accuracies.size > 1 else ''} is right for {_percent(worst)} of "
            f"the rows without an attack, where the most frequent class is {_percent(guessed)}: "
            "check its training, and that x has the units of the training"
        )


def of_sizes(kinds: Mapping[str, str | None]) -> Iterator[str]:
    """Yields a sentence if attacks share sizes of different kinds; kinds: `kind_of_size`."""
    first: dict[str, str] = {}
    for name, kind in kinds.items():
        if kind is not None:
            first.setdefault(kind, name)
    if len(first) > 1:
        named = " and ".join(f"{name} ({kind})" for kind, name in first.items())
        yield (
            f"{named} share their sizes, which are not radii of one norm: the worst case mixes "
            "them; evaluate them apart, or give them one norm, or in Python pass eps as a dict of "
            "the sizes of each attack"
        )


def of_tiny(names: Iterable[str], bounds: Bounds) -> Iterator[str]:
    """Yields a sentence for each attack whose radii are all tiny beside the bounds."""
    for name in names:
        yield (
            f"all sizes of {name} are below 1/5,000 of the width of the bounds "
            f"{described(bounds)}: check that eps has the units of x"
        )


def _too_many(share: float, num_rows: int, slack: float) -> bool:
    return round(share * num_rows) > max(slack * num_rows, _SLACK_ROWS)


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
