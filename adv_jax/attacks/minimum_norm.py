"""DDN and FMN: the smallest perturbation, by steps in a ball whose radius adapts to each row."""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from adv_jax import norms
from adv_jax.attacks._ball import feasible
from adv_jax.attacks._bare import compiled
from adv_jax.attacks._best import Shortest
from adv_jax.checks import ball, check_counts, check_range, checked
from adv_jax.loss_gradients import margin, rate_fn, with_gradient
from adv_jax.losses import cross_entropy
from adv_jax.perturbations import inside, limits, perturbed
from adv_jax.types import Array, Bounds, Key, LogitsFn, Mask, Norm, RowTree, working_dtype

# Of a linear margin the radius would end on the boundary, where rounding decides.
OVERSHOOT = 1 + 1e-3

Turn = tuple[Array, Array, Array, Shortest]  # r, x + r, radius f32[B], the shortest so far


def ddn(
    logits_fn: LogitsFn,
    x: Array,
    y: Array | None,
    *,
    num_steps: int = 100,
    step_size: ArrayLike = 1.0,
    gamma: ArrayLike = 0.05,
    initial_eps: ArrayLike = 1.0,
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
      step_size: a_0, in units of x and l2, f32[] or f32[B], > 0; a cosine takes it to a hundredth.
      gamma: relative change of the norm in a step, f32[], in (0, 1).
      initial_eps: e_0, in units of x and l2, f32[] or f32[B], > 0.
      eps: None: the perturbation found; f32[] or f32[B], >= 0: projected onto that l2 ball; or the
        radius of each feature, as in `fgsm`, in units of which the perturbation is shortest.
      logits_fn, x, y, bounds, mask, aux, targeted, key: as in `fgsm`; key is not used.

    Returns:
      f[B, *D] in the dtype of x, constant: it carries no gradient.

    Raises:
      ValueError: num_steps, step_size, gamma or initial_eps out of range; and as `fgsm`.

    Source: [rony2019], Algorithm 1 and sec. 4.

    >>> w = jnp.array([[1., -1.], [2., 0.]])  # Equal logits where x_1 + x_2 = 0.
    >>> jnp.round(ddn(lambda x: x @ w, jnp.array([[.5, .3]]), jnp.array([0])), 1) + 0
    Array([[ 0.1, -0.1]], dtype=float32)
    """
    del key
    check_counts(num_steps=num_steps)
    check_range("gamma", gamma, "(0, 1)")
    check_range("step_size", step_size, "(0, inf)", per_row=True)
    check_range("initial_eps", initial_eps, "(0, inf)", per_row=True)
    x = checked(logits_fn, x, y, bounds, aux)
    size, scale = ball(eps, x, "l2", bounds, mask, optional=True)
    return compiled(
        _ddn,
        logits_fn,
        x,
        y,
        size,
        scale,
        norms.per_row("step_size", step_size, x),
        gamma,
        norms.per_row("initial_eps", initial_eps, x),
        num_steps=num_steps,
        bounds=bounds,
        aux=aux,
        targeted=targeted,
    )


def _ddn(
    logits_fn: LogitsFn,
    x: Array,
    y: Array | None,
    size: Array | None,
    scale: Array | None,
    step_size: Array,
    gamma: ArrayLike,
    initial_eps: Array,
    *,
    num_steps: int,
    bounds: Bounds | None,
    targeted: bool,
) -> Array:
    """`ddn` of checked arguments; size: eps."""
    rate = rate_fn(cross_entropy, logits_fn, x, y, targeted=targeted)
    longest = _longest(x, "l2", bounds, scale)

    def advance(turn: Turn, count: Array) -> tuple[Turn, None]:
        r, point, radius, found = turn
        at, gradient = with_gradient(rate, point)
        found = found.or_shorter(_fooling(r, at.fools, "l2", scale))
        change = jnp.where(at.fools, -1, 1) * jnp.asarray(gamma, r.dtype)
        radius = jnp.minimum((1 + change) * radius, longest)
        step = _annealed(count, num_steps, step_size, step_size / 100)
        ahead = norms.rescaled(r + step * norms.dual(gradient, "l2", scale), "l2", scale)
        r = inside(x, norms.per_row("radius", radius, x) * ahead, bounds)
        return (r, perturbed(x, r, bounds), radius, found), None

    begun = _begun(x, jnp.minimum(initial_eps.reshape(-1), longest))
    (*_, found), _ = jax.lax.scan(advance, begun, jnp.arange(num_steps))
    r = found.r if size is None else norms.project(found.r, size, "l2", scale)
    return perturbed(x, r, bounds)


def fmn(
    logits_fn: LogitsFn,
    x: Array,
    y: Array | None,
    *,
    norm: Norm = "l2",
    num_steps: int = 100,
    step_size: ArrayLike = 1.0,
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
      step_size: a_0, in units of x and l2, f32[] or f32[B], > 0; a cosine takes it to a hundredth.
      gamma: g_0, relative change of the radius in a step, f32[], in [.001, 1); a cosine takes it
        to .001.
      eps: None: the perturbation found; f32[] or f32[B], >= 0: projected onto the ball of this
        radius; or the radius of each feature, as in `fgsm`, in units of which the perturbation is
        shortest.
      logits_fn, x, y, bounds, mask, aux, targeted, key: as in `fgsm`; key is not used.

    Returns:
      f[B, *D] in the dtype of x, constant: it carries no gradient.

    Raises:
      ValueError: num_steps, step_size or gamma out of range; and as `fgsm`.

    Source: [pintor2021], Algorithm 1 and sec. 2.

    >>> w = jnp.array([[1., -1.], [2., 0.]])  # Equal logits where x_1 + x_2 = 0.
    >>> jnp.round(fmn(lambda x: x @ w, jnp.array([[.5, .3]]), jnp.array([0])), 1) + 0
    Array([[ 0.1, -0.1]], dtype=float32)
    """
    del key
    check_counts(num_steps=num_steps)
    check_range("gamma", gamma, "[0.001, 1)")
    check_range("step_size", step_size, "(0, inf)", per_row=True)
    x = checked(logits_fn, x, y, bounds, aux)
    size, scale = ball(eps, x, norm, bounds, mask, sparse=True, optional=True)
    return compiled(
        _fmn,
        logits_fn,
        x,
        y,
        size,
        scale,
        norms.per_row("step_size", step_size, x),
        gamma,
        norm=norms.canonical(norm),
        num_steps=num_steps,
        bounds=bounds,
        aux=aux,
        targeted=targeted,
    )


def _fmn(
    logits_fn: LogitsFn,
    x: Array,
    y: Array | None,
    size: Array | None,
    scale: Array | None,
    step_size: Array,
    gamma: ArrayLike,
    *,
    norm: str,
    num_steps: int,
    bounds: Bounds | None,
    targeted: bool,
) -> Array:
    """`fmn` of checked arguments; size: eps."""
    rate = rate_fn(margin, logits_fn, x, y, targeted=targeted)
    longest = _longest(x, norm, bounds, scale)
    adapted = _counted if norm == "l0" else _scaled

    def advance(turn: Turn, count: Array) -> tuple[Turn, None]:
        r, point, radius, found = turn
        at, gradient = with_gradient(rate, point)
        ahead = _distance(at.loss, gradient, norm, scale)
        boundary = OVERSHOOT * (norms.norm(r, norm, scale) + ahead)
        found = found.or_shorter(_fooling(r, at.fools, norm, scale))
        change = _annealed(count, num_steps, jnp.asarray(gamma, r.dtype), 0.001)
        radius = adapted(radius, change, at.fools, found.length, boundary)
        radius = jnp.minimum(radius, longest)
        step = _annealed(count, num_steps, step_size, step_size / 100)
        ahead = r + step * norms.dual(gradient, "l2", scale)
        r = feasible(x, ahead, norms.per_row("radius", radius, x), norm, bounds, scale)
        return (r, perturbed(x, r, bounds), radius, found), None

    begun = _begun(x, jnp.full_like(longest, 1 if norm == "l0" else 0))
    (*_, found), _ = jax.lax.scan(advance, begun, jnp.arange(num_steps))
    r = found.r if size is None else norms.project(found.r, size, norm, scale)
    return perturbed(x, r, bounds)


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


def _distance(gap: Array, slope: Array, norm: str, scale: Array | None) -> Array:
    """Returns the distance f32[B] of the linearized boundary, |gap| / ||slope||_*; flat: 0."""
    if norm == "l0":  # Its ball does not limit the size of a change.
        return jnp.zeros_like(gap)
    steepness = (slope * norms.dual(slope, norm, scale)).reshape(len(gap), -1).sum(axis=1)
    return jnp.where(steepness > 0, jnp.abs(gap) / jnp.where(steepness > 0, steepness, 1), 0)


def _begun(x: Array, radius: Array) -> Turn:
    nothing = jnp.zeros_like(x, working_dtype(x.dtype))
    return nothing, x, radius, Shortest(nothing, jnp.full_like(radius, jnp.inf))


def _fooling(r: Array, fools: Array, norm: str, scale: Array | None) -> Shortest:
    return Shortest(r, jnp.where(fools, norms.norm(r, norm, scale), jnp.inf))


def _longest(x: Array, norm: str, bounds: Bounds | None, scale: Array | None) -> Array:
    """Returns the length f32[B] of the way to the farthest corner of the bounds, or a huge one."""
    near = x.astype(working_dtype(x.dtype))
    huge = jnp.full_like(near, jnp.finfo(near.dtype).max, shape=x.shape[:1])
    if bounds is None:
        return huge
    lo, hi = limits(near, bounds)
    far = jnp.maximum(near - lo, hi - near)
    far = far if scale is None else jnp.where(scale == 0, 0, far)
    return jnp.minimum(norms.norm(far, norm, scale), huge)


def _annealed(count: Array, num_steps: int, first: Array, last: Array | float) -> Array:
    """Returns the value of step `count`, from first down to last along half a cosine."""
    share = (1 + jnp.cos(count.astype(first.dtype) * (math.pi / num_steps))) / 2
    return last + share * (first - last)
