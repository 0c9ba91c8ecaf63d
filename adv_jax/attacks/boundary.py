"""Boundary attack: a random walk along the boundary of a class, by decisions alone."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from adv_jax import norms
from adv_jax.attacks._attack import attack
from adv_jax.attacks._decisions import Space, first_on_boundary, space
from adv_jax.attacks._region import Region
from adv_jax.attacks._traits import ITERATED
from adv_jax.checks import check_box
from adv_jax.perturbations import choose, in_units, of_units, spread
from adv_jax.random import fold_in_rows, row_keys
from adv_jax.types import Array, Bounds, Key, LogitsFn, Mask, RowTree

FIRST_STEP = 0.01  # of both kinds, as a share of the distance, as in foolbox
CONVERGED = 1e-6  # a row with shorter steps toward x stops
LOOK_EVERY = 10  # steps between looks at the point on the sphere
# Shares of success at which the steps keep their size, and their growth in LOOK_EVERY steps.
ON_SPHERE, TOWARD_X, GROWTH = 0.5, 0.25, 1.5


class Walk(NamedTuple):
    """The state of the loop.

    step: i32[], steps done.
    u: f32[B, *D], the perturbation in units of its features.
    around, toward: f32[B], sizes of the steps on the sphere and toward x, shares of the distance.
    """

    step: Array
    u: Array
    around: Array
    toward: Array


@attack(
    norm="l2",
    rank=ITERATED,
    gradient=False,
    needs_key=True,
    decisions=True,
    minimal=True,
    check=lambda settings: check_box(settings["bounds"]),
)
def boundary(
    logits_fn: LogitsFn,
    x: Array,
    y: Array | None,
    *,
    num_steps: int = 25_000,
    start: Array | None = None,
    eps: ArrayLike | None = None,
    bounds: Bounds | None = None,
    mask: Mask | None = None,
    aux: RowTree | None = None,
    targeted: bool = False,
    key: Key | None = None,
) -> Array:
    """Boundary attack: the smallest l2 perturbation that fools, by decisions of the model alone.

        s = |r_t| (e + delta n) / |e + delta n|,   e = r_t / |r_t|,   <n, e> = 0,   |n| = 1,
        r_{t+1} = (1 - epsilon) s  if it fools, else r_t

    for a random n. The step on the sphere, delta, grows if more than half of the points s fool,
    else it shrinks; the step toward x, epsilon, grows if more than a quarter of the points
    (1 - epsilon) s fool. A row stops when epsilon is below 1e-6. Nothing but the argmax of the
    logits is used, so the model needs no derivative and may return one-hot labels. `hop_skip_jump`
    needs fewer queries.

    Args:
      num_steps: steps, >= 1, each 1.1 queries per row; the start takes at most 226.
      start, eps, key: as in `hop_skip_jump`.
      logits_fn, x, y, bounds, mask, aux, targeted: as in `fgsm`.

    Returns:
      f[B, *D] in the dtype of x, constant: it carries no gradient. A row that is fooled at x, or
      that finds no start, is returned unchanged.

    Raises:
      UserError: num_steps below 1; no key; infinite bounds; and as `fgsm`.

    Source: [brendel2018], sec. 2. Steps change by a factor after each success and failure, where
    the authors count them over a window; the start is on the boundary.

    >>> import jax.numpy as jnp
    >>> w = jnp.array([[1., -1.], [2., 0.]])  # Equal logits where 2 x_0 + 2 x_1 = 0.
    >>> x, y = jnp.array([[.5, .5]]), jnp.array([0])
    >>> x_adv = boundary(lambda x: x @ w, x, y, num_steps=300, key=jax.random.key(0))
    >>> jnp.round(x_adv, 1) + 0
    Array([[0., 0.]], dtype=float32)
    """
    region = Region.of(x, eps, "l2", bounds, mask)
    scale, keys = region.scale, row_keys(key, x.shape[0])
    at = space(logits_fn, y, region, eps, targeted=targeted)
    first = first_on_boundary(at, fold_in_rows(keys, 0), start)

    def walking(walk: Walk) -> Array:
        return (first.length > 0) & (walk.toward > CONVERGED)

    def advance(walk: Walk) -> Walk:
        distance = norms.norm(walk.u, "l2")
        sphere = _on_sphere(at, walk, fold_in_rows(keys, walk.step + 1))
        ahead = norms.project(sphere, (1 - walk.toward) * distance, "l2")
        closer = at.fools(of_units(ahead, scale))
        looks = walk.step % LOOK_EVERY == 0
        nobody = jnp.zeros_like(closer)
        along = jax.lax.cond(looks, lambda: at.fools(of_units(sphere, scale)), lambda: nobody)
        around = walk.around * GROWTH ** (along.astype(distance.dtype) - ON_SPHERE)
        power = (closer.astype(distance.dtype) - TOWARD_X) / LOOK_EVERY
        moved = Walk(
            walk.step + 1,
            choose(closer, ahead, walk.u),
            jnp.where(looks, jnp.minimum(around, 1), walk.around),
            jnp.minimum(walk.toward * GROWTH**power, 0.5),
        )
        kept = choose(walking(walk), moved[1:], walk[1:])
        return Walk(moved.step, *kept)

    def unfinished(walk: Walk) -> Array:
        return (walk.step < num_steps) & walking(walk).any()

    steps = jnp.full_like(first.length, FIRST_STEP)
    walk = Walk(jnp.int32(0), in_units(first.r, scale), steps, steps)
    return region.perturbed(of_units(jax.lax.while_loop(unfinished, advance, walk).u, scale))


def _on_sphere(at: Space, walk: Walk, keys: Key) -> Array:
    """Draws a step orthogonal to u; returns the point on the sphere of u, clipped: f32[B, *D]."""
    axes = tuple(range(1, walk.u.ndim))
    toward = norms.dual(walk.u, "l2")
    drawn = at.normal(keys)
    drawn = drawn - jnp.sum(drawn * toward, axis=axes, keepdims=True) * toward
    around = spread(walk.around, walk.u)
    ahead = norms.dual(toward + around * norms.dual(drawn, "l2"), "l2")
    distance = norms.norm(walk.u, "l2").reshape(around.shape)
    scale = at.region.scale
    return in_units(at.region.clipped(of_units(distance * ahead, scale)), scale)
