"""Auto-PGD under l1: sparse steps and projections onto the ball within the bounds."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from adv_jax import norms
from adv_jax.attacks._best import Best, Iterate, best_of_ascent
from adv_jax.attacks._region import Region
from adv_jax.loss_gradients import RateFn, with_gradient
from adv_jax.perturbations import choose, of_units, perturbed, spread
from adv_jax.types import Array

FIRST_SHARE = 0.2  # of the features, in the first step
THINNING = 1.5  # a step changes this times fewer features than the best point does
SHRINKS = 0.95  # the step size is reset if the count of changed features falls below this times it
SMALLEST_STEP = 0.1  # in units of the radius


class Schedule(NamedTuple):
    """The phases of a run, for the points 0 to num_steps, as arrays of that length and one more.

    radius: of each point's ball, 3, 2 or 1 times eps. first: whether it is the first of a later
    phase. checks: whether step size and sparsity change after it.
    """

    radius: np.ndarray
    first: np.ndarray
    checks: np.ndarray


class SparseAscent(NamedTuple):
    """The state of the ascent after `count` evaluations.

    r: f32[B, *D], the next perturbation to evaluate.
    x_adv: x + r, clipped.
    peak: the `Iterate` of highest loss so far in this phase.
    best: the result so far, see `Best`.
    step: f32[B], the step size over the radius.
    share: f32[B], the share of the features that a step changes.
    changed: f32[B], how many features the peak changed at the last checkpoint.
    """

    count: Array
    r: Array
    x_adv: Array
    peak: Iterate
    best: Best
    step: Array
    share: Array
    changed: Array


def ascend_sparsely(
    rate: RateFn,
    region: Region,
    best: Best,
    start: Array,
    *,
    num_steps: int,
    early_stop: bool,
) -> Best:
    """Runs Auto-PGD under l1 from x + start; arguments and result as of `apgd.ascend`.

    A step of length s changes the k entries of steepest slope alike, by s / k each. Entries at
    their bound, which cannot follow the slope, are passed over. The public program lets them take
    places among the k; then a linear model stops it far from the best point if many features must
    reach their bounds. It runs in balls of 3, 2 and 1 eps, each from the projected best point of
    the one before; only points of the last count.

    Source: [croce2021box], Algorithm 1 and sec. 3; the checkpoints are those of the public program
    of [croce2020].
    """
    x, eps, _, bounds, scale = region
    radius, first, checks = (jnp.asarray(column) for column in _schedule(num_steps))
    radius = radius.astype(eps.dtype)
    width = jnp.asarray(x[0].size, start.dtype)

    def changed(r: Array) -> Array:
        return (r != 0).reshape(len(r), -1).sum(axis=1).astype(r.dtype)

    # Carry x + r in the loop state. If it were computed in the same iteration, XLA would fuse it
    # into the model's first layer and recompute it for each use of a pixel.
    def iterate(state: SparseAscent) -> SparseAscent:
        at, gradient = with_gradient(rate, state.x_adv)
        now = Iterate(state.r, at.loss, gradient)
        counts = (radius[state.count] == 1) & ~(state.best.fools & early_stop)
        better = state.best.or_better(Best(state.r, at.loss, at.fools))
        best = choose(counts, better, state.best)
        peak = choose(now.loss > state.peak.loss, now, state.peak)

        checked, begins = checks[state.count], first[state.count + 1]
        sparser = changed(peak.r) < SHRINKS * state.changed
        shorter = jnp.where(sparser, 1, jnp.maximum(state.step / THINNING, SMALLEST_STEP))
        step = jnp.where(checked, shorter, state.step)
        share = jnp.where(checked, changed(peak.r) / (THINNING * width), state.share)
        here = choose(checked & sparser, peak, now)
        length = spread(step * radius[state.count], x) * eps
        ends = jnp.where(here.gradient > 0, jnp.inf, -jnp.inf).astype(here.r.dtype)
        farthest = region.clipped(ends)
        slope = jnp.where(here.r == farthest, 0, here.gradient)
        ahead = here.r + length * sparse_direction(slope, share, scale)

        wider = region._replace(radius=radius[state.count + 1] * eps)
        r = wider.nearest(jnp.where(begins, peak.r, ahead))
        before = jnp.where(checked, changed(peak.r), state.changed)
        return SparseAscent(
            state.count + 1,
            r=r,
            x_adv=perturbed(x, r, bounds),
            peak=peak._replace(loss=jnp.where(begins, -jnp.inf, peak.loss)),
            best=best,
            step=jnp.where(begins, 1, step),
            share=jnp.where(begins, changed(r) / (THINNING * width), share),
            changed=jnp.where(begins, changed(r), before),
        )

    ones = jnp.ones_like(best.loss)
    begun = SparseAscent(
        jnp.int32(0),
        r=start,
        x_adv=perturbed(x, start, bounds),
        peak=Iterate(start, -jnp.inf * ones, start),
        best=best,
        step=ones,
        share=FIRST_SHARE * ones,
        changed=width * ones,
    )
    return best_of_ascent(iterate, begun, num_steps=num_steps, early_stop=early_stop)


def sparse_direction(gradient: Array, share: Array, scale: Array | None) -> Array:
    """Returns the direction of l1 norm 1 that changes the steepest entries alike: f32[B, *D].

    The steepest are a `share` f32[B] of the entries, at least one, and those as steep as the last
    of them; entries of slope 0 stay.
    """
    slope = of_units(gradient, scale).reshape(len(gradient), -1)
    size, width = jnp.abs(slope), slope.shape[1]
    rank = jnp.floor((1 - share) * jnp.asarray(width, share.dtype)).astype(jnp.int32)
    order = norms.order_to_kth(size, width - jnp.clip(rank, 0, width - 1)[:, None])
    unit = jnp.where(order >= 0, jnp.sign(slope), 0)
    unit = unit / jnp.maximum(jnp.abs(unit).sum(axis=1, keepdims=True), 1)
    unit = unit.reshape(gradient.shape)
    return of_units(unit, scale)


def _schedule(num_steps: int) -> Schedule:
    """Returns the schedule: 30 %, 30 % and 40 % of the steps, in balls of 3, 2 and 1 eps.

    Below 4 steps the first two phases are empty. The checkpoints of a phase of n points are
    max(floor(.04 n), 1) apart.
    """
    early = 3 * num_steps // 10
    ends = [early, 2 * early, num_steps] if early else [num_steps]
    radius = np.zeros(num_steps + 2, np.float32)
    first, checks = np.zeros(num_steps + 2, bool), np.zeros(num_steps + 2, bool)
    begin = 0
    for factor, end in zip(range(len(ends), 0, -1), ends, strict=True):
        radius[begin : end + 1], first[begin] = factor, begin > 0
        apart = max((end + 1 - begin) // 25, 1)
        checks[begin + apart : end + 1 : apart] = True
        begin = end + 1
    radius[num_steps + 1] = 1
    return Schedule(radius, first, checks)
