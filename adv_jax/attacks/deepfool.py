"""DeepFool: repeated steps to the nearest boundary of the linear model."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from adv_jax.attacks._attack import attack
from adv_jax.attacks._lengths import width_of
from adv_jax.attacks._linear_model import (
    considered,
    nearest_boundary,
    strongest_other,
)
from adv_jax.attacks._region import Region
from adv_jax.attacks._traits import ITERATED
from adv_jax.checks import checked_labels, checked_logits
from adv_jax.loss_gradients import labels_at, linearized, margin
from adv_jax.losses import classes
from adv_jax.perturbations import choose, perturbed, spread
from adv_jax.types import Array, Bounds, Key, LogitsFn, Mask, Norm, RowTree, working_dtype

# In units of the bounds' width, the authors' number in [0, 1]. Steps clipped to the bounds could
# otherwise shrink forever without crossing the boundary.
MIN_STEP = 1e-4


class Walk(NamedTuple):
    """The state of the loop.

    step: i32[], steps done.
    r: f32[B, *D], the sum of the row's steps.
    fools: bool[B], the row has crossed the boundary and is frozen.
    """

    step: Array
    r: Array
    fools: Array


@attack(
    rank=ITERATED,
    minimal=True,
    ranges={"overshoot": "[0, inf)", "candidates": "{2, 3, ...}"},
)
def deepfool(
    logits_fn: LogitsFn,
    x: Array,
    y: Array | None,
    *,
    norm: Norm = "l2",
    num_steps: int = 50,
    overshoot: ArrayLike = 0.02,
    candidates: int | None = 10,
    eps: ArrayLike | None = None,
    bounds: Bounds | None = None,
    mask: Mask | None = None,
    aux: RowTree | None = None,
    targeted: bool = False,
    key: Key | None = None,
) -> Array:
    """DeepFool: changes the class by steps to the nearest boundary of the linear model.

        x_t = x + (1 + overshoot) * (r_1 + ... + r_t),
        r_{t+1} = |f_j - f_y| / ||v||_* * argmax_{||u|| <= 1} <v, u>,   v = grad (f_j - f_y)(x_t),

    with the logits f at x_t and the class j != y of the shortest step, until x_t is no longer
    classified as y. Each row stops independently. For affine logits one step is exact. No step is
    shorter than 1e-4 of the width of the bounds or, without finite bounds, of |r_1 + ... + r_t|.

    Args:
      norm: "l2" or "linf" as in the paper; "l1" (one feature per step), "rms" or an alias.
      num_steps: largest number of steps, >= 1.
      overshoot: relative lengthening of the sum of the steps, to cross the boundary, f32[], >= 0.
      candidates: classes considered, >= 2: y and the most probable others at x, as in the authors'
        program and foolbox, each by one backward pass per step; None: all.
      eps: None: the perturbation found; f32[] or f32[B], >= 0, in units of x and of the norm:
        projected onto the ball of this radius; or the radius of each feature, as in `fgsm`, in
        units of which the perturbation is short.
      targeted: y is the class to reach: each step leads to its boundary with the most probable
        other class at x_t, and `candidates` is not used.
      bounds: as in `fgsm`. Every x_t is clipped.
      logits_fn, x, y, mask, aux, key: as in `fgsm`.

    Returns:
      f[B, *D] in the dtype of x, constant: it carries no gradient. A row that is fooled at x, or by
      no step, is returned unchanged.

    Raises:
      UserError: num_steps, overshoot or candidates out of range; and as `fgsm`.

    Source: [moosavidezfooli2016], Algorithm 2 and sec. 3.3 (other norms).

    >>> w = jnp.array([[1., -1.], [2., 0.]])  # The logits differ by 2 x_1 + 2 x_2.
    >>> deepfool(lambda x: x @ w, jnp.array([[.5, .5]]), jnp.array([0]), overshoot=.1)
    Array([[-0.05, -0.05]], dtype=float32)
    """
    region = Region.of(x, eps, norm, bounds, mask)
    scale, stretch = region.scale, 1 + jnp.asarray(overshoot, working_dtype(x.dtype))
    at_x = checked_logits(logits_fn(x), batch=x.shape[0])
    y = classes(checked_labels(labels_at(logits_fn, x, y, targeted=targeted), at_x))
    rivals = considered(at_x, y, candidates)
    sign = -1 if targeted else 1

    def advance(walk: Walk) -> Walk:
        point = perturbed(x, stretch * walk.r, bounds)
        logits, pullback = linearized(logits_fn, point)
        fools = walk.fools | (sign * margin(logits, y) > 0)

        def longer() -> Array:
            pair = (strongest_other(logits, y), y[:, None]) if targeted else (y, rivals)
            distance, direction = nearest_boundary(logits, pullback, *pair, norm, scale)
            least = _shortest_step(region, walk.r)
            length = jnp.where(jnp.isinf(distance), 0, jnp.maximum(distance, least))
            return (walk.r + length * direction).astype(walk.r.dtype)

        # The final evaluation needs no backward passes.
        moves = (walk.step < num_steps) & ~fools.all()
        r = jax.lax.stop_gradient(jax.lax.cond(moves, longer, lambda: walk.r))
        return Walk(walk.step + 1, choose(fools, walk.r, r), fools)

    def unfinished(walk: Walk) -> Array:
        return (walk.step <= num_steps) & ~walk.fools.all()

    nobody = jnp.zeros_like(x, bool, shape=x.shape[:1])
    start = Walk(jnp.int32(0), jnp.zeros_like(x, stretch.dtype), nobody)
    walk = jax.lax.while_loop(unfinished, advance, start)
    r = stretch * choose(walk.fools, walk.r, jnp.zeros_like(walk.r))
    return region.perturbed(region.clipped(r))


def _shortest_step(region: Region, r: Array) -> Array:
    """Returns the least length of the step after r, f32[1 or B, 1, ..., 1]."""
    length = spread(region.length(r), r)
    if region.bounds is not None:
        width = width_of(region.x, region.bounds, region.scale)
        length = jnp.where(jnp.isfinite(width), width, length)
    return MIN_STEP * length
