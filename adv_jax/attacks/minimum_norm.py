"""DDN and FMN: the smallest perturbation, by steps in a ball whose radius adapts to each row."""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from adv_jax import norms
from adv_jax.attacks._attack import attack
from adv_jax.attacks._best import Shortest
from adv_jax.attacks._lengths import linear_distance, search_length
from adv_jax.attacks._region import Region
from adv_jax.attacks._traits import ITERATED
from adv_jax.loss_gradients import margin, rate_fn, with_gradient
from adv_jax.losses import cross_entropy
from adv_jax.perturbations import limits, perturbed, spread, without_fixed
from adv_jax.types import Array, Bounds, Key, LogitsFn, Mask, Norm, RowTree, widened

# Without it the radius ends on the boundary of a linear model, where rounding decides.
OVERSHOOT = 1 + 1e-3

Turn = tuple[Array, Array, Array, Shortest]  # r, x + r, radius f32[B], the shortest so far


@attack(
    norm="l2",
    rank=ITERATED,
    minimal=True,
    ranges={"gamma": "(0, 1)"},
    row_ranges={"step_size": "(0, inf)", "initial_eps": "(0, inf)"},
)
def ddn(
    logits_fn: LogitsFn,
    x: Array,
    y: Array | None,
    *,
    num_steps: int = 100,
    step_size: ArrayLike | None = None,
    gamma: ArrayLike = 0.05,
    initial_eps: ArrayLike | None = None,
    eps: ArrayLike | None = None,
    bounds: Bounds | None = None,
    mask: Mask | None = None,
    aux: RowTree | None = None,
    targeted: bool = False,
    key: Key | None = None,
) -> Array:
    """DDN: the smallest l2 perturbation, whose direction and norm change separately.

        u = r_t + a_t grad L / |grad L|_2,   r_{t+1} = clip(e_{t+1} u / |u|_2),
        e_{t+1} = (1 - gamma) e_t if x + r_t fools the model, else (1 + gamma) e_t,

    with the cross-entropy L at x + r_t, and r_0 = 0. Per row, the result is the shortest r_t that
    fools; a row that is misclassified at x, or never fooled, is returned unchanged. Pixels are not
    rounded to 256 levels, as the paper does; `bits` of `evaluate` does it.

    Args:
      num_steps: gradients, >= 1; the first is at x.
      step_size: a_0, in units of x and l2, f32[] or f32[B], > 0; None: the width of the bounds, or
        without finite bounds the distance of the linearized boundary. A cosine takes it to a
        hundredth.
      gamma: relative change of the norm in a step, f32[], in (0, 1).
      initial_eps: e_0, in units of x and l2, f32[] or f32[B], > 0; None: as for step_size.
      eps: None: the perturbation found; f32[] or f32[B], >= 0: projected onto that l2 ball; or the
        radius of each feature, as in `fgsm`, in units of which the perturbation is shortest.
      logits_fn, x, y, bounds, mask, aux, targeted, key: as in `fgsm`.

    Returns:
      f[B, *D] in the dtype of x, constant: it carries no gradient.

    Raises:
      UserError: num_steps, step_size, gamma or initial_eps out of range; and as `fgsm`.

    Source: [rony2019], Algorithm 1 and sec. 4.

    >>> w = jnp.array([[1., -1.], [2., 0.]])  # Equal logits where x_1 + x_2 = 0.
    >>> jnp.round(ddn(lambda x: x @ w, jnp.array([[.5, .3]]), jnp.array([0])), 1) + 0
    Array([[ 0.1, -0.1]], dtype=float32)
    """
    region = Region.of(x, eps, "l2", bounds, mask)
    scale = region.scale
    rate = rate_fn(cross_entropy, logits_fn, x, y, targeted=targeted)
    length = search_length(logits_fn, x, y, bounds, scale, targeted=targeted)
    first_step = length if step_size is None else norms.per_row("step_size", step_size, x)
    radius = length if initial_eps is None else norms.per_row("initial_eps", initial_eps, x)
    longest = _longest(region)

    def advance(turn: Turn, count: Array) -> tuple[Turn, None]:
        r, point, radius, found = turn
        at, gradient = with_gradient(rate, point)
        found = found.or_shorter(Shortest.of(r, region.length(r), at.fools))
        change = jnp.where(at.fools, -1, 1) * jnp.asarray(gamma, r.dtype)
        radius = jnp.minimum((1 + change) * radius, longest)
        step = _annealed(count, num_steps, first_step, first_step / 100)
        ahead = norms.rescaled(r + step * region.steepest(gradient), "l2", scale)
        r = region.clipped(spread(radius, x) * ahead)
        return (r, perturbed(x, r, bounds), radius, found), None

    begun = _begun(x, jnp.minimum(radius.reshape(-1), longest))
    (*_, found), _ = jax.lax.scan(advance, begun, jnp.arange(num_steps))
    return region.perturbed(found.r)


@attack(
    rank=ITERATED,
    minimal=True,
    ranges={"gamma": "[0.001, 1)"},
    row_ranges={"step_size": "(0, inf)"},
    legal_norms=norms.ALL,
)
def fmn(
    logits_fn: LogitsFn,
    x: Array,
    y: Array | None,
    *,
    norm: Norm = "l2",
    num_steps: int = 100,
    step_size: ArrayLike | None = None,
    gamma: ArrayLike = 0.05,
    eps: ArrayLike | None = None,
    bounds: Bounds | None = None,
    mask: Mask | None = None,
    aux: RowTree | None = None,
    targeted: bool = False,
    key: Key | None = None,
) -> Array:
    """FMN: the smallest perturbation, by steps in a ball that shrinks to the boundary.

        r_{t+1} = P(r_t + a_t grad m / |grad m|_2; e_{t+1}),
        e_{t+1} = min((1 - g_t) e_t, |best|)   if x + r_t fools the model,
                  (1 + g_t) e_t                else, if any point before did,
                  |r_t| + |m| / ||grad m||_*   else: the linearized boundary,

    with the margin m, the largest other logit minus that of y, at x + r_t, and r_0 = 0. P projects
    onto the ball of radius e and the bounds. e_0 = 0; under l0 it is 1, and e changes by at least
    one feature. Per row, the result is the shortest r_t that fools; a row that is misclassified at
    x, or never fooled, is returned unchanged.

    Until a point fools, e passes the linearized boundary by .1 % and grows by a share g_t or more.
    Without that, as in the paper, a row can stop short of the boundary: at the bounds, on curved
    ways, or by rounding.

    Args:
      norm: "linf", "l2", "l1", "l0", "rms" or an alias.
      num_steps: gradients, >= 1; the first is at x.
      step_size: a_0, in units of x and l2, f32[] or f32[B], > 0; None: as in `ddn`. A cosine takes
        it to a hundredth.
      gamma: g_0, relative change of the radius in a step, f32[], in [.001, 1); a cosine takes it
        to .001.
      eps: None: the perturbation found; f32[] or f32[B], >= 0: projected onto the ball of this
        radius; or the radius of each feature, as in `fgsm`, in units of which the perturbation is
        shortest.
      logits_fn, x, y, bounds, mask, aux, targeted, key: as in `fgsm`.

    Returns:
      f[B, *D] in the dtype of x, constant: it carries no gradient.

    Raises:
      UserError: num_steps, step_size or gamma out of range; and as `fgsm`.

    Source: [pintor2021], Algorithm 1 and sec. 2.

    >>> w = jnp.array([[1., -1.], [2., 0.]])  # Equal logits where x_1 + x_2 = 0.
    >>> jnp.round(fmn(lambda x: x @ w, jnp.array([[.5, .3]]), jnp.array([0])), 1) + 0
    Array([[ 0.1, -0.1]], dtype=float32)
    """
    region = Region.of(x, eps, norm, bounds, mask)
    norm, scale = region.norm, region.scale
    rate = rate_fn(margin, logits_fn, x, y, targeted=targeted)
    length = search_length(logits_fn, x, y, bounds, scale, targeted=targeted)
    first_step = length if step_size is None else norms.per_row("step_size", step_size, x)
    longest = _longest(region)
    adapted = _counted if norm == "l0" else _scaled

    def advance(turn: Turn, count: Array) -> tuple[Turn, None]:
        r, point, radius, found = turn
        at, gradient = with_gradient(rate, point)
        # The ball of l0 does not limit the size of a change.
        ahead = 0 if norm == "l0" else linear_distance(at.loss, gradient, norm, scale)
        boundary = OVERSHOOT * (region.length(r) + ahead)
        found = found.or_shorter(Shortest.of(r, region.length(r), at.fools))
        change = _annealed(count, num_steps, jnp.asarray(gamma, r.dtype), 0.001)
        radius = adapted(radius, change, at.fools, found.length, boundary)
        radius = jnp.minimum(radius, longest)
        step = _annealed(count, num_steps, first_step, first_step / 100)
        ahead = r + step * norms.dual(gradient, "l2", scale)
        r = region._replace(radius=spread(radius, x)).nearest(ahead)
        return (r, perturbed(x, r, bounds), radius, found), None

    begun = _begun(x, jnp.full_like(longest, 1 if norm == "l0" else 0))
    (*_, found), _ = jax.lax.scan(advance, begun, jnp.arange(num_steps))
    return region.perturbed(found.r)


def _scaled(radius: Array, change: Array, fools: Array, shortest: Array, boundary: Array) -> Array:
    """Returns the next radius f32[B]: smaller, larger, or as far as the linearized boundary."""
    larger = (1 + change) * radius
    larger = jnp.where(jnp.isinf(shortest), jnp.maximum(larger, boundary), larger)
    return jnp.where(fools, jnp.minimum((1 - change) * radius, shortest), larger)


def _counted(radius: Array, change: Array, fools: Array, shortest: Array, boundary: Array) -> Array:
    """Returns the next number of features f32[B], at least one fewer or more, and at least 1."""
    del boundary
    fewer = jnp.minimum(radius - 1, jnp.floor((1 - change) * radius))
    more = jnp.maximum(radius + 1, jnp.floor((1 + change) * radius))
    return jnp.maximum(jnp.where(fools, jnp.minimum(fewer, shortest), more), 1)


def _begun(x: Array, radius: Array) -> Turn:
    nothing = Shortest.none(widened(x))
    return nothing.r, x, radius, nothing


def _longest(region: Region) -> Array:
    """Returns the length f32[B] of the way to the farthest corner of the bounds, or a huge one."""
    near = widened(region.x)
    huge = jnp.full_like(near, jnp.finfo(near.dtype).max, shape=near.shape[:1])
    if region.bounds is None:
        return huge
    lo, hi = limits(near, region.bounds)
    far = jnp.maximum(near - lo, hi - near)
    return jnp.minimum(region.length(without_fixed(far, region.scale)), huge)


def _annealed(count: Array, num_steps: int, first: Array, last: Array | float) -> Array:
    """Returns the value of step `count`, from first down to last along half a cosine."""
    share = (1 + jnp.cos(count.astype(first.dtype) * (math.pi / num_steps))) / 2
    return last + share * (first - last)
