"""Fast adaptive boundary attack: small perturbations by projection onto linearized boundaries."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from adv_jax import norms
from adv_jax.attacks._attack import attack
from adv_jax.attacks._best import Shortest
from adv_jax.attacks._linear_model import most_probable_others, strongest_other
from adv_jax.attacks._region import Region
from adv_jax.attacks._traits import ITERATED
from adv_jax.checks import checked_labels, checked_logits
from adv_jax.loss_gradients import labels_at, linearized, margin
from adv_jax.losses import classes
from adv_jax.perturbations import (
    choose,
    dot,
    in_units,
    limits,
    of_units,
    or_one,
    perturbed,
    spread,
    without_fixed,
)
from adv_jax.random import fold_in_rows, row_keys
from adv_jax.types import (
    Array,
    Bounds,
    Key,
    LogitsFn,
    Mask,
    Norm,
    RowTree,
    UserError,
    working_dtype,
)

Turn = tuple[Array, Array, Array, Shortest]  # steps done, r, x + r, the shortest so far


class Plane(NamedTuple):
    """The linearized boundary of a rival class, gap + <slope, moved> = 0.

    gap: f32[B]; slope: f32[B, *D]; distance: f32[B], to the plane, in the norm of the attack.
    """

    gap: Array
    slope: Array
    distance: Array


@attack(
    rank=ITERATED,
    minimal=True,
    legal_norms=("linf", "l2"),
    ranges={
        "alpha_max": "[0, 1]",
        "eta": "[1, inf)",
        "beta": "(0, 1)",
        "candidates": "{2, 3, ...}",
    },
)
def fab(
    logits_fn: LogitsFn,
    x: Array,
    y: Array | None,
    *,
    norm: Norm = "linf",
    num_steps: int = 100,
    restarts: int = 1,
    num_targets: int | None = None,
    candidates: int | None = 10,
    alpha_max: ArrayLike = 0.1,
    eta: ArrayLike = 1.05,
    beta: ArrayLike = 0.9,
    eps: ArrayLike | None = None,
    bounds: Bounds | None = None,
    mask: Mask | None = None,
    aux: RowTree | None = None,
    targeted: bool = False,
    key: Key | None = None,
) -> Array:
    """FAB: the smallest perturbation, by projections onto linearized decision boundaries.

        x_{t+1} = (1 - a) (x_t + eta d_t) + a (x + eta d),
        a = min(|d_t| / (|d_t| + |d|), alpha_max),

    where d_t and d lead from x_t and x to the nearest point, within the bounds, of the nearest
    boundary linearized at x_t. A point that fools is a candidate, and the next step starts at
    x + beta (x_t - x). Finally three secant steps move the best candidate along its segment to x,
    closer to the boundary.

    A row that is misclassified at x, or never fooled, is returned unchanged.

    Args:
      norm: "linf" or "l2", or an alias.
      num_steps: steps of each run, >= 1.
      restarts: runs, >= 1; the first starts at x, the others (which need a key) at a random point
        half as far as the best candidate, at most eps / 2.
      num_targets: None: each step considers the boundaries of the candidates, each by one backward
        pass. A number >= 1 (FAB-T): each run is repeated for each of the num_targets (at most
        K - 1) most probable other classes at x, with one backward pass per step.
      candidates: classes considered without num_targets, >= 2: y and the most probable others at
        x; None: all.
      alpha_max: largest weight of the step from x, f32[], in [0, 1].
      eta: overshoot of a step, f32[], >= 1.
      beta: share of x_t - x that is kept after success, f32[], in (0, 1).
      eps: None: the shortest perturbation found; f32[] or f32[B], >= 0: projected onto the ball of
        this radius; or the radius of each feature, as in `fgsm`, in units of which the perturbation
        is shortest.
      key: for restarts: one key, or key[B], one per row.
      targeted: y is the class to reach: each step considers its boundary with the most probable
        other class at x_t, shifted by eta - 1 times the margin at x, with a = 0 until the row is
        there; num_targets and candidates are not used.
      logits_fn, x, y, bounds, mask, aux: as in `fgsm`.

    Returns:
      f[B, *D] in the dtype of x, constant: it carries no gradient.

    Raises:
      UserError: another norm; a count below 1, or alpha_max, eta or beta out of range; restarts
        without a key; and as `fgsm`.

    Sources: [croce2020fab], Algorithm 1; FAB-T:
    [croce2020], appendix.

    >>> import jax.numpy as jnp
    >>> w = jnp.array([[1., -1.], [2., 0.]])  # Equal logits where x_1 + x_2 = 0.
    >>> jnp.round(fab(lambda x: x @ w, jnp.array([[.5, .3]]), jnp.array([0])), 2)
    Array([[ 0.1, -0.1]], dtype=float32)
    """
    if restarts > 1 and key is None:
        raise UserError(f"restarts must be 1 without a key, got {restarts}")
    region = Region.of(x, eps, norm, bounds, mask)
    logits = checked_logits(logits_fn(x), batch=x.shape[0])
    y = classes(checked_labels(labels_at(logits_fn, x, y, targeted=targeted), logits))
    others = most_probable_others(logits, y)
    runs = others[:, :num_targets, None]
    if num_targets is None:
        runs = others[:, None, : None if candidates is None else candidates - 1]
    if targeted:
        runs = y[:, None, None]
    sign = -1 if targeted else 1
    keys = row_keys(key, x.shape[0]) if restarts > 1 else None
    r = jnp.zeros_like(x, working_dtype(x.dtype))
    at_x = sign * margin(logits, y)
    lead = (jnp.asarray(eta, r.dtype) - 1) * jnp.abs(at_x) if targeted else None
    walk = partial(
        approach,
        logits_fn,
        region,
        y,
        num_steps=num_steps,
        lead=lead,
        alpha_max=alpha_max,
        eta=eta,
        beta=beta,
    )

    def run(found: Shortest, number: Array) -> tuple[Shortest, None]:
        start = jnp.zeros_like(found.r)
        if keys is not None:
            drawn = fold_in_rows(keys, number)
            start = jnp.where(number % restarts == 0, start, away(drawn, region, found))
        opponents = jax.lax.dynamic_index_in_dim(runs, number // restarts, axis=1, keepdims=False)
        return walk(opponents, found, start), None

    found = Shortest(r, jnp.where(at_x > 0, 0, jnp.inf).astype(r.dtype))
    found, _ = jax.lax.scan(run, found, jnp.arange(runs.shape[1] * restarts))
    return region.perturbed(_closer(logits_fn, x, y, at_x, found.r, bounds, sign))


def approach(
    logits_fn: LogitsFn,
    region: Region,
    y: Array,
    rivals: Array,
    found: Shortest,
    start: Array,
    *,
    num_steps: int,
    alpha_max: ArrayLike = 0.1,
    eta: ArrayLike = 1.05,
    beta: ArrayLike = 0.9,
    lead: Array | None = None,
    enough: ArrayLike = 0.0,
) -> Shortest:
    """Runs FAB from x + start; returns the shorter, row by row, of `found` and its candidates.

    Args:
      rivals: i32[B, M], the classes whose boundaries with y are considered; if targeted, y alone.
      lead: f32[B], how far the logit of y shall lead, if targeted; None: y is the class to leave.
      enough: f32[] or f32[B]: a row with a perturbation of this length or less is done, and the
        run ends when all rows are.
    """
    x, _, norm, bounds, scale = region
    origin, targeted = x.astype(start.dtype), lead is not None
    sign = -1 if targeted else 1

    # Carry the point: computed in the same iteration, XLA would fuse it into the model's first
    # layer and recompute it for each use of a pixel.
    def advance(turn: Turn) -> Turn:
        count, r, point, found = turn
        plane = _nearest_plane(logits_fn, point, y, rivals, norm, scale, targeted)
        gap = plane.gap if lead is None else plane.gap - lead
        back = dot(plane.slope, r) - gap
        here = onto_plane(origin + r, plane.slope, -gap, norm, bounds, scale)
        home = onto_plane(origin, plane.slope, back, norm, bounds, scale)
        to_here, to_home = region.length(here), region.length(home)
        alpha = jnp.minimum(to_here / or_one(to_here + to_home), alpha_max)
        if targeted:  # The way back leads out of where several planes meet: first reach the class.
            alpha = jnp.where(jnp.isinf(found.length), 0, alpha)
        alpha = spread(alpha, r)
        r = region.clipped((1 - alpha) * (r + eta * here) + alpha * eta * home)
        logits = checked_logits(logits_fn(perturbed(x, r, bounds)), batch=x.shape[0])
        fools, length = sign * margin(logits, y) > 0, region.length(r)
        shorter = fools & (length < found.length) & (found.length > enough)
        found = choose(shorter, Shortest(r, length), found)
        r = choose(fools, jnp.multiply(beta, r), r)
        return count + 1, r, perturbed(x, r, bounds), found

    def unfinished(turn: Turn) -> Array:
        count, _, _, found = turn
        return (count < num_steps) & (found.length > enough).any()

    first = jnp.int32(0), start, perturbed(x, start, bounds), found
    return jax.lax.while_loop(unfinished, advance, first)[-1]


def onto_plane(
    point: Array,
    slope: Array,
    gap: Array,
    norm: str,
    bounds: Bounds | None,
    scale: Array | None = None,
) -> Array:
    """Returns the shortest d with <slope, d> = gap and point + d within the bounds: f32[B, *D].

    With a scale, the one of shortest d / scale.

    Each entry moves toward the plane, by the same length (linf) or in proportion to its slope
    (l2), and stops at its bound; variable fixing finds these entries exactly. If the plane is
    outside the bounds, d leads to their nearest corner; if the slope is 0, d is 0.

    Source of the method: [kiwiel2008], and the references there.
    """
    lo, hi = (-jnp.inf, jnp.inf) if bounds is None else limits(point, bounds)
    below, above = point - lo, hi - point
    if scale is not None:  # In coordinates d / scale.
        slope = scale * slope
        below, above = (in_units(a, scale) for a in (below, above))
    below, above, w = (a.reshape(a.shape[0], -1) for a in (below, above, slope))
    # Only the ratio gap / slope matters; in units of the largest slope squares do not underflow.
    unit = or_one(jnp.abs(w).max(axis=1, keepdims=True))
    w, gap = w / unit, gap[:, None] / unit
    toward, size = jnp.sign(w) * jnp.sign(gap), jnp.abs(w)
    room = jnp.where(toward == 0, 0, jnp.where(toward > 0, above, below))
    reach = jnp.sign(size) if norm == "linf" else size

    def level(stopped: Array) -> Array:
        rest = jnp.abs(gap) - jnp.where(stopped, size * room, 0).sum(axis=1, keepdims=True)
        rate = jnp.where(stopped, 0, size * reach).sum(axis=1, keepdims=True)
        return jnp.where(rate > 0, jnp.maximum(rest, 0) / or_one(rate), jnp.inf)

    def fix(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        stopped, _ = carry
        now = stopped | (room <= jnp.where(stopped, 0, level(stopped) * reach))
        return now, (now & ~stopped).any()

    first = size == 0, jnp.ones_like(size, bool, shape=())
    stopped, _ = jax.lax.while_loop(lambda carry: carry[1], fix, first)
    moved = jnp.where(stopped, room, level(stopped) * reach)
    d = (toward * moved).reshape(slope.shape)
    return of_units(d, scale)


def _nearest_plane(
    logits_fn: LogitsFn,
    point: Array,
    y: Array,
    rivals: Array,
    norm: str,
    scale: Array | None,
    targeted: bool,
) -> Plane:
    """Returns the plane nearest to the point among those of rivals i32[B, M].

    They are boundaries with y or, if targeted, with the most probable class other than y.
    """
    dtype = working_dtype(point.dtype)
    logits, pull = linearized(logits_fn, point)
    count, left = logits.shape[1], strongest_other(logits, y) if targeted else y
    label = jax.nn.one_hot(left, count, dtype=logits.dtype)

    def consider(m: Array, nearest: Plane) -> Plane:
        ahead = jax.nn.one_hot(rivals[:, m], count, dtype=logits.dtype) - label
        gap = (logits * ahead).sum(axis=1).astype(dtype)
        slope = without_fixed(pull(ahead).astype(dtype), scale)
        steepness = norms.norm(of_units(slope, scale), "l1" if norm == "linf" else "l2")
        distance = jnp.where(steepness > 0, jnp.abs(gap) / or_one(steepness), jnp.inf)
        return choose(distance < nearest.distance, Plane(gap, slope, distance), nearest)

    none = Plane(
        gap=jnp.zeros_like(y, dtype),
        slope=jnp.zeros_like(point, dtype),
        distance=jnp.full_like(y, jnp.inf, dtype),
    )
    return jax.lax.fori_loop(0, rivals.shape[1], consider, none)


def away(keys: Key, region: Region, found: Shortest) -> Array:
    """Returns a random start f32[B, *D], half as far as the best candidate and at most eps / 2.

    Without a candidate and eps it is 0.
    """
    x, limit = region.x, jnp.inf if region.radius is None else region.radius
    half = jnp.minimum(spread(found.length, x), limit) / 2
    direction = norms.sample(keys, x, 1.0, region.norm, region.scale)
    sphere = direction / spread(or_one(region.length(direction)), x)
    return region.clipped(jnp.where(jnp.isfinite(half), half, 0) * sphere)


def _closer(
    logits_fn: LogitsFn,
    x: Array,
    y: Array,
    at_x: Array,
    r: Array,
    bounds: Bounds | None,
    sign: int,
) -> Array:
    """Takes three secant steps for margin = 0 on the segment from x to x + r; r still fools.

    at_x: f32[B], the margin at x; sign: -1 if targeted, else 1, the factor of the margin.
    """

    def margin_at(r: Array) -> Array:
        logits = checked_logits(logits_fn(perturbed(x, r, bounds)), batch=x.shape[0])
        return sign * margin(logits, y)

    def secant(_: Array, carry: tuple) -> tuple:
        (near, below), (far, above) = carry
        # Overshoot by 1e-3: on a linear margin rounding would decide otherwise.
        share = spread(jnp.clip(below / or_one(below - above) + 1e-3, 0, 1), x)
        between = near + share * (far - near)
        value = margin_at(between)
        tried, fools = (between, value), value > 0
        return choose(fools, (near, below), tried), choose(fools, tried, (far, above))

    _, (r, _) = jax.lax.fori_loop(0, 3, secant, ((jnp.zeros_like(r), at_x), (r, margin_at(r))))
    return r
