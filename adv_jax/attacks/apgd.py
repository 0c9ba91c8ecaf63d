"""Auto-PGD: projected gradient ascent with momentum and adaptive step size."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from adv_jax.attacks._attack import attack
from adv_jax.attacks._best import Best, Iterate, best_of_ascent
from adv_jax.attacks._dlr import aimed, dlr, toward
from adv_jax.attacks._linear_model import most_probable_others
from adv_jax.attacks._region import Region
from adv_jax.attacks._sparse_ascent import ascend_sparsely
from adv_jax.attacks._traits import ITERATED
from adv_jax.checks import checked_logits
from adv_jax.loss_gradients import RateFn, labels_at, rate_fn, with_gradient
from adv_jax.losses import classes, cross_entropy
from adv_jax.perturbations import choose, perturbed
from adv_jax.random import row_keys, split_rows
from adv_jax.types import (
    Array,
    Bounds,
    Key,
    LogitsFn,
    Mask,
    Norm,
    RowFn,
    RowTree,
    UserError,
    working_dtype,
)

_LOSSES: dict[str, RowFn] = {"ce": cross_entropy, "dlr": dlr}


class Ascent(NamedTuple):
    """The state of the ascent after `count` evaluations.

    r: f32[B, *D], the next perturbation to evaluate.
    x_adv: x + r, clipped.
    previous: f32[B, *D], the perturbation before r.
    loss: f32[B], the loss at `previous`.
    peak: the `Iterate` of highest loss so far in this restart.
    best: the result so far, see `Best`.
    step: f32[B, 1, ..., 1], the step size.
    rises: f32[B], how many steps have raised the loss since the last checkpoint.
    halved: bool[B], whether the last checkpoint halved the step.
    peak_loss: f32[B], the highest loss at the last checkpoint.
    """

    count: Array
    r: Array
    x_adv: Array
    previous: Array
    loss: Array
    peak: Iterate
    best: Best
    step: Array
    rises: Array
    halved: Array
    peak_loss: Array


def _check(settings: Mapping[str, Any]) -> None:
    if settings["fooled"] is not None and settings["loss"] == "dlr" and settings["targeted"]:
        raise UserError("fooled must be None for the targeted dlr, got a function")


@attack(rank=ITERATED, ranges={"rho": "[0, 1]"}, losses=_LOSSES, check=_check)
def apgd(
    logits_fn: LogitsFn,
    x: Array,
    y: RowTree | None,
    *,
    eps: ArrayLike,
    loss: str | RowFn = "ce",
    fooled: RowFn | None = None,
    norm: Norm = "linf",
    num_steps: int = 100,
    restarts: int = 1,
    num_targets: int | None = None,
    rho: ArrayLike = 0.75,
    start: Array | None = None,
    early_stop: bool = False,
    bounds: Bounds | None = None,
    mask: Mask | None = None,
    aux: RowTree | None = None,
    targeted: bool = False,
    key: Key | None = None,
) -> Array:
    """Projected gradient ascent with momentum; each row adapts its step size.

        z_{t+1} = P(x_t + s dual(grad loss(x_t))),
        x_{t+1} = P(x_t + .75 (z_{t+1} - x_t) + .25 (x_t - x_{t-1})),

    P projects onto the ball around x, then clips to the bounds; s starts at 2 eps. At each
    checkpoint a row halves s and returns to its best point if fewer than a share rho of its steps
    since the last checkpoint raised the loss, or if neither the best loss nor s has changed.

    The loss is the cross-entropy, or the difference of logits ratio (`dlr`, `targeted_dlr`), whose
    gradient does not vanish at high confidence. Per row, the result is the iterate of highest loss
    among those that fool the model, or among all iterates and x if none does.

    Under l1 a step changes the k entries of steepest slope alike, of those that are not at their
    bound; P projects onto the intersection of ball and bounds, and there is no momentum. k starts
    at a fifth of the features and adapts to the sparsity of the best point, as does s. The first
    30 % of the steps are in a ball of 3 eps and the next 30 % in one of 2 eps.

    Args:
      eps: radius of the ball, as in `fgsm`.
      loss: "ce", "dlr" or a function (outputs, y) -> f[B], as in `pgd`. dlr needs 3 classes;
        targeted dlr needs 4 and starts from the class predicted at x.
      fooled: (outputs, y) -> bool[B] or None, as in `pgd`; None for the targeted dlr.
      norm: "linf", "l2", "l1", "rms" or an alias (`norms.canonical`).
      num_steps: iterations per restart, >= 1; each restart takes num_steps + 1 gradients.
      restarts: runs from independent starts, >= 1; more than one needs a key and no `start`.
      num_targets: None, or a number >= 1 (APGD-T): each run is repeated for each of the num_targets
        (at most K - 1) most probable other classes at x, and climbs the dlr targeted at it. loss
        must be "dlr"; with 2 or 3 classes the numerator of the ratio is climbed.
      rho: share of the steps that must raise the loss, f32[], in [0, 1]; not used under l1.
      start: f[B, *D], the perturbation to begin with, projected first (warm start); no random
        numbers are drawn then.
      early_stop: a row keeps its first point that fools, and the attack ends when all rows have
        one.
      key: for uniform random starts: one key, or key[B], one per row; None: start at x.
      logits_fn, x, y, bounds, mask, aux, targeted: as in `fgsm`.

    Returns:
      f[B, *D] in the dtype of x, constant: it carries no gradient.

    Raises:
      UserError: unknown loss; too few classes for dlr; num_steps, restarts, num_targets or rho out
        of range; restarts without a key; num_targets with another loss or targeted; and as `fgsm`.

    Sources: [croce2020], Algorithm 1, sec. 3 and 4, eq. 6 and 7; l1: [croce2021box], Algorithm 1
    and sec. 3.

    >>> import jax.numpy as jnp
    >>> w = jnp.array([[1., -1.], [2., 0.]])
    >>> apgd(lambda x: x @ w, jnp.array([[.5, .5]]), jnp.array([0]), eps=.1, num_steps=5)
    Array([[0.4, 0.4]], dtype=float32)
    """
    aims = 1 if num_targets is None else num_targets
    if num_targets is not None and (loss is not dlr or targeted):
        raise UserError(  # loss is None if fooled is a function
            'num_targets must be None unless loss is "dlr", targeted is False and fooled is None, '
            f"got {num_targets}"
        )
    if restarts > 1 and key is None:
        raise UserError(f"restarts must be 1 without a key, got {restarts}")
    if restarts > 1 and start is not None:
        raise UserError(f"restarts must be 1 with a start, got {restarts}")
    region = Region.of(x, eps, norm, bounds, mask)
    keys = None
    if key is not None and start is None:
        keys = split_rows(row_keys(key, x.shape[0]), restarts * aims)
    climbed, targets = loss, None
    if loss is dlr and targeted:
        climbed = toward(labels_at(logits_fn, x, None))
    if num_targets is not None:
        y = classes(labels_at(logits_fn, x, y))
        others = most_probable_others(checked_logits(logits_fn(x), batch=x.shape[0]), y)
        targets = jnp.repeat(others[:, :num_targets].T, restarts, axis=0)
        keys = None if keys is None else keys[: len(targets)]

    def rate_toward(target: Array | None) -> RateFn:
        aim = climbed if target is None else lambda logits, y: aimed(logits, y, target)
        return rate_fn(aim, logits_fn, x, y, targeted=targeted)

    unmoved = jnp.zeros_like(x, working_dtype(x.dtype))
    at_x = rate_toward(None if targets is None else targets[0])(x)
    first = unmoved if start is None else region.nearest(start)
    best = Best(unmoved, at_x.loss.astype(unmoved.dtype), at_x.fools)

    def run(best: Best, turn: tuple[Key | None, Array | None]) -> tuple[Best, None]:
        keys, target = turn
        begin = first if keys is None else region.drawn(keys)
        rate = rate_toward(target)
        best = ascend(
            rate, region, best, begin, num_steps=num_steps, rho=rho, early_stop=early_stop
        )
        return best, None

    runs = restarts if targets is None else len(targets)
    best, _ = jax.lax.scan(run, best, (keys, targets), length=runs)
    return region.perturbed(best.r)


def ascend(
    rate: RateFn,
    region: Region,
    best: Best,
    start: Array,
    *,
    num_steps: int,
    rho: ArrayLike = 0.75,
    early_stop: bool,
) -> Best:
    """Runs Auto-PGD from x + start; returns the best of `best` and all iterates, per row.

    Args:
      early_stop: a row keeps the first point that fools, and the run ends when all have one.
    """
    if region.norm == "l1":
        return ascend_sparsely(
            rate, region, best, start, num_steps=num_steps, early_stop=early_stop
        )
    x = region.x
    is_checkpoint, window = (jnp.asarray(column) for column in _schedule(num_steps))

    # Carry x + r in the loop state. If it were computed in the same iteration, XLA would fuse it
    # into the model's first layer and recompute it for each use of a pixel.
    def iterate(state: Ascent) -> Ascent:
        at, gradient = with_gradient(rate, state.x_adv)
        now = Iterate(state.r, at.loss, gradient)
        best = state.best.or_better(Best(state.r, at.loss, at.fools))
        best = choose(state.best.fools & early_stop, state.best, best)
        peak = choose(now.loss > state.peak.loss, now, state.peak)
        rises = state.rises + (now.loss > state.loss).astype(jnp.float32)
        stuck = (rises < rho * window[state.count]) | (
            ~state.halved & (peak.loss <= state.peak_loss)
        )
        checks = is_checkpoint[state.count]
        halves = checks & stuck
        step, here = choose(halves, (state.step / 2, peak), (state.step, now))
        ahead = region.nearest(here.r + step * region.steepest(here.gradient)) - here.r
        momentum = jnp.where(state.count == 0, 0, 0.25)
        r = region.nearest(here.r + (1 - momentum) * ahead + momentum * (here.r - state.previous))
        return Ascent(
            state.count + 1,
            r=r,
            x_adv=perturbed(x, r, region.bounds),
            previous=here.r,
            loss=here.loss,
            peak=peak,
            best=best,
            step=step,
            rises=jnp.where(checks, 0, rises),
            halved=jnp.where(checks, halves, state.halved),
            peak_loss=jnp.where(checks, peak.loss, state.peak_loss),
        )

    rows, lowest = x.shape[:1], jnp.full_like(best.loss, -jnp.inf)
    # loss = inf: the evaluation of the start does not count as a rise.
    first = Ascent(
        jnp.int32(0),
        r=start,
        x_adv=perturbed(x, start, region.bounds),
        previous=start,
        loss=-lowest,
        peak=Iterate(start, lowest, start),
        best=best,
        step=jnp.broadcast_to(2 * region.radius, (*rows, *region.radius.shape[1:])),
        rises=jnp.zeros_like(lowest, jnp.float32),
        halved=jnp.ones_like(best.fools),
        peak_loss=lowest,
    )
    return best_of_ascent(iterate, first, num_steps=num_steps, early_stop=early_stop)


def _schedule(num_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns is_checkpoint bool[num_steps + 1] and, at checkpoints, the steps since the last one.

    Checkpoints are at ceil(p_j num_steps), p_1 = .22, p_{j+1} - p_j = max(p_j - p_{j-1} - .03,
    .06), computed in integer percent.
    """
    is_checkpoint, window = np.zeros(num_steps + 1, bool), np.zeros(num_steps + 1, np.float32)
    percent, gap, last = 22, 22, 0
    while (at := -(-percent * num_steps // 100)) <= num_steps:
        if at > last:
            is_checkpoint[at], window[at], last = True, at - last, at
        gap = max(gap - 3, 6)
        percent += gap
    return is_checkpoint, window
