"""Auto-PGD: projected gradient ascent with momentum and adaptive step size."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from adv_jax import norms
from adv_jax.attacks._ball import feasible, random_start
from adv_jax.attacks._bare import compiled
from adv_jax.attacks._best import Best
from adv_jax.attacks._climbing import (
    RateFn,
    checked_climb,
    checked_start,
    rate_fn,
    with_gradient,
)
from adv_jax.checks import ball, check_counts, check_range
from adv_jax.loss_gradients import classes, labels_at, margin
from adv_jax.losses import cross_entropy
from adv_jax.perturbations import choose, perturbed
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


class Iterate(NamedTuple):
    """A perturbation r f32[B, *D], its loss f32[B] and gradient f32[B, *D]."""

    r: Array
    loss: Array
    gradient: Array


class Climb(NamedTuple):
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

    Args:
      eps: radius of the ball, as in `fgsm`.
      loss: "ce", "dlr" or a function (outputs, y) -> f[B], as in `pgd`. dlr needs 3 classes;
        targeted dlr needs 4 and starts from the class predicted at x.
      fooled: (outputs, y) -> bool[B] or None, as in `pgd`; None for the targeted dlr.
      norm: "linf", "l2", "l1", "rms" or an alias (`norms.canonical`). l1 steps change one entry;
        they are not the sparse steps of later papers on l1.
      num_steps: iterations per restart, >= 1; each restart takes num_steps + 1 gradients.
      restarts: runs from independent starts, >= 1; more than one needs a key and no `start`.
      rho: share of the steps that must raise the loss, f32[], in [0, 1].
      start: f[B, *D], the perturbation to begin with, projected first (warm start); no random
        numbers are drawn then.
      early_stop: a row keeps its first point that fools, and the attack ends when all rows have
        one.
      key: for uniform random starts: one key, or key[B], one per row; None: start at x.
      logits_fn, x, y, bounds, mask, aux, targeted: as in `fgsm`.

    Returns:
      f[B, *D] in the dtype of x, constant: it carries no gradient.

    Raises:
      ValueError: unknown loss; too few classes for dlr; num_steps, restarts or rho out of
        range; restarts without a key; and as `fgsm`.

    Source: [croce2020], Algorithm 1, sec. 3 and 4, eq. 6 and 7.

    >>> import jax.numpy as jnp
    >>> w = jnp.array([[1., -1.], [2., 0.]])
    >>> apgd(lambda x: x @ w, jnp.array([[.5, .5]]), jnp.array([0]), eps=.1, num_steps=5)
    Array([[0.4, 0.4]], dtype=float32)
    """
    check_counts(num_steps=num_steps, restarts=restarts)
    check_range("rho", rho, "[0, 1]")
    if restarts > 1 and key is None:
        raise ValueError(f"restarts must be 1 without a key, got {restarts}")
    if restarts > 1 and start is not None:
        raise UserError(f"restarts must be 1 with a start, got {restarts}")
    if fooled is not None and loss == "dlr" and targeted:
        raise UserError("fooled must be None for the targeted dlr, got a function")
    climb = checked_climb(
        logits_fn, x, y, bounds, aux, loss=loss, fooled=fooled, named=_LOSSES, targeted=targeted
    )
    x = climb.x
    eps, scale = ball(eps, x, norm, bounds, mask)
    keys = None
    if key is not None and start is None:
        keys = jax.vmap(jax.random.split, (0, None), 1)(norms.row_keys(key, x.shape[0]), restarts)
    return compiled(
        _apgd,
        climb.fn,
        x,
        climb.y,
        eps,
        rho,
        scale,
        keys,
        checked_start(start, x),
        loss=climb.loss,
        norm=norm,
        num_steps=num_steps,
        restarts=restarts,
        early_stop=early_stop,
        bounds=bounds,
        aux=climb.aux,
        logits=climb.loss is not None,
        targeted=targeted,
    )


def _apgd(
    logits_fn: LogitsFn,
    x: Array,
    y: Array | None,
    eps: Array,
    rho: ArrayLike,
    scale: Array | None,
    keys: Key | None,
    start: Array | None,
    *,
    loss: str | None,
    norm: Norm,
    num_steps: int,
    restarts: int,
    early_stop: bool,
    bounds: Bounds | None,
    targeted: bool,
) -> Array:
    """`apgd` of checked arguments; keys: key[restarts, B]."""
    row_loss = None if loss is None else _LOSSES[loss]
    if loss == "dlr" and targeted:
        row_loss = _dlr_from(labels_at(logits_fn, x, None))
    rate = rate_fn(row_loss, logits_fn, x, y, targeted=targeted)
    unmoved = jnp.zeros_like(x, working_dtype(x.dtype))
    at_x = rate(x)
    first = unmoved if start is None else feasible(x, start, eps, norm, bounds, scale)
    best = Best(unmoved, at_x.loss.astype(unmoved.dtype), at_x.fools)

    def restart(best: Best, keys: Key | None) -> tuple[Best, None]:
        climbed = ascend(
            rate,
            x,
            best,
            first if keys is None else random_start(keys, x, eps, norm, bounds, scale),
            eps=eps,
            norm=norm,
            num_steps=num_steps,
            rho=rho,
            bounds=bounds,
            scale=scale,
            until_fooled=early_stop,
        )
        return climbed, None

    best, _ = jax.lax.scan(restart, best, keys, length=restarts)
    return perturbed(x, norms.project(best.r, eps, norm, scale), bounds)


def ascend(
    rate: RateFn,
    x: Array,
    best: Best,
    start: Array,
    *,
    eps: Array,
    norm: Norm,
    num_steps: int,
    rho: ArrayLike = 0.75,
    bounds: Bounds | None,
    scale: Array | None,
    until_fooled: bool = False,
) -> Best:
    """Runs Auto-PGD from x + start; returns the best of `best` and all iterates, per row.

    Args:
      eps, scale: from `checks.ball`.
      until_fooled: a row keeps the first point that fools, and the run ends when all have one.
    """
    is_checkpoint, window = (jnp.asarray(column) for column in _schedule(num_steps))

    def within(r: Array) -> Array:
        return feasible(x, r, eps, norm, bounds, scale)

    # Carry x + r in the loop state. If it were computed in the same iteration, XLA would fuse it
    # into the model's first layer and recompute it for each use of a pixel.
    def iterate(climb: Climb) -> Climb:
        at, gradient = with_gradient(rate, climb.x_adv)
        now = Iterate(climb.r, at.loss, gradient)
        best = climb.best.or_better(Best(climb.r, at.loss, at.fools))
        best = choose(climb.best.fools & until_fooled, climb.best, best)
        peak = choose(now.loss > climb.peak.loss, now, climb.peak)
        rises = climb.rises + (now.loss > climb.loss).astype(jnp.float32)
        stuck = (rises < rho * window[climb.count]) | (
            ~climb.halved & (peak.loss <= climb.peak_loss)
        )
        checks = is_checkpoint[climb.count]
        halves = checks & stuck
        step, here = choose(halves, (climb.step / 2, peak), (climb.step, now))
        ahead = within(here.r + step * norms.dual(here.gradient, norm, scale)) - here.r
        momentum = jnp.where(climb.count == 0, 0, 0.25)
        r = within(here.r + (1 - momentum) * ahead + momentum * (here.r - climb.previous))
        return Climb(
            climb.count + 1,
            r=r,
            x_adv=perturbed(x, r, bounds),
            previous=here.r,
            loss=here.loss,
            peak=peak,
            best=best,
            step=step,
            rises=jnp.where(checks, 0, rises),
            halved=jnp.where(checks, halves, climb.halved),
            peak_loss=jnp.where(checks, peak.loss, climb.peak_loss),
        )

    def unfinished(climb: Climb) -> Array:
        left = climb.count <= num_steps
        return left & ~climb.best.fools.all() if until_fooled else left

    rows, lowest = x.shape[:1], jnp.full_like(best.loss, -jnp.inf)
    # loss = inf: the evaluation of the start does not count as a rise.
    first = Climb(
        jnp.int32(0),
        r=start,
        x_adv=perturbed(x, start, bounds),
        previous=start,
        loss=-lowest,
        peak=Iterate(start, lowest, start),
        best=best,
        step=jnp.broadcast_to(2 * eps, (*rows, *eps.shape[1:])),
        rises=jnp.zeros_like(lowest, jnp.float32),
        halved=jnp.ones_like(best.fools),
        peak_loss=lowest,
    )
    return jax.lax.while_loop(unfinished, iterate, first).best


def dlr(logits: Array, y: Array) -> Array:
    """Returns the difference of logits ratio, f32[B].

        (max_{i != y} z_i - z_y) / (z_(1) - z_(3)),  z_(1) >= z_(2) >= ... the sorted logits

    It is invariant to shifts and positive scaling of the logits.

    Raises:
      ValueError: fewer than 3 classes.

    Source: [croce2020], eq. 6.

    >>> dlr(jnp.array([[4., 3., 2., 0.]]), jnp.array([0]))
    Array([-0.5], dtype=float32)
    """
    top = _largest(logits, 3)
    return margin(logits, y) / _or_one(top[:, 0] - top[:, 2])


def targeted_dlr(logits: Array, y: Array, target: Array) -> Array:
    """Returns the targeted difference of logits ratio, f32[B].

        (z_target - z_y) / (z_(1) - (z_(3) + z_(4)) / 2)

    Raises:
      ValueError: fewer than 4 classes.

    Source: [croce2020], eq. 7.

    >>> targeted_dlr(jnp.array([[4., 3., 2., 0.]]), jnp.array([0]), jnp.array([2]))
    Array([-0.6666667], dtype=float32)
    """
    top = _largest(logits, 4)
    return difference(logits, y, target) / _or_one(top[:, 0] - (top[:, 2] + top[:, 3]) / 2)


def difference(logits: Array, y: Array, target: Array) -> Array:
    """Returns z_target - z_y, f32[B]."""
    columns = jnp.stack([target.astype(y.dtype), y], axis=1)
    pair = jnp.take_along_axis(logits, columns, axis=1)
    return pair[:, 0] - pair[:, 1]


_LOSSES: dict[str, RowFn] = {"ce": cross_entropy, "dlr": dlr}


def _dlr_from(predicted: Array) -> RowFn:
    """Returns the targeted dlr as a loss of the target, to descend."""
    return lambda logits, target: -targeted_dlr(logits, predicted, classes(target))


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


def _largest(logits: Array, count: int) -> Array:
    """Returns the largest logits in descending order, f32[B, count]."""
    if logits.shape[1] < count:
        raise ValueError(
            f'logits must have at least {count} classes for loss="dlr", got {logits.shape[1]}'
        )
    return jax.lax.top_k(logits, count)[0]


def _or_one(scale: Array) -> Array:
    return jnp.where(scale == 0, 1, scale)
