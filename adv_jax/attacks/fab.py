"""Fast adaptive boundary attack: small perturbations by projection onto linearized boundaries."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from adv_jax import norms
from adv_jax.attacks._bare import compiled
from adv_jax.attacks._best import Shortest
from adv_jax.checks import (
    check_counts,
    check_range,
    checked,
    checked_logits,
    linf_or_l2,
    radius,
)
from adv_jax.loss_gradients import classes, labels_at, margin
from adv_jax.perturbations import choose, inside, perturbed
from adv_jax.types import Array, Bounds, Key, LogitsFn, Norm, RowTree, working_dtype

Turn = tuple[Array, Array, Array, Shortest]  # steps done, r, x + r, the shortest so far


class Plane(NamedTuple):
    """The linearized boundary of a rival class, gap + <slope, moved> = 0.

    gap: f32[B]; slope: f32[B, *D]; distance: f32[B], to the plane, in the norm of the attack.
    """

    gap: Array
    slope: Array
    distance: Array


def fab(
    logits_fn: LogitsFn,
    x: Array,
    y: Array | None,
    *,
    norm: Norm = "linf",
    num_steps: int = 100,
    restarts: int = 1,
    num_targets: int | None = None,
    alpha_max: ArrayLike = 0.1,
    eta: ArrayLike = 1.05,
    beta: ArrayLike = 0.9,
    eps: ArrayLike | None = None,
    bounds: Bounds | None = None,
    aux: RowTree | None = None,
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
      num_targets: None: each step considers the boundaries of all other classes, by K - 1 backward
        passes. A number >= 1 (FAB-T): each run is repeated for each of the num_targets (at most
        K - 1) most probable other classes at x, with one backward pass per step.
      alpha_max: largest weight of the step from x, f32[], in [0, 1].
      eta: overshoot of a step, f32[], >= 1.
      beta: share of x_t - x that is kept after success, f32[], in (0, 1).
      eps: None: the shortest perturbation found; f32[] or f32[B], >= 0: projected onto the ball of
        this radius.
      key: for restarts: one key, or key[B], one per row.
      logits_fn, x, y, bounds, aux: as in `fgsm`.

    Returns:
      f[B, *D] in the dtype of x, constant: it carries no gradient.

    Raises:
      ValueError: another norm; a count below 1, or alpha_max, eta or beta out of range; restarts
        without a key; and as `fgsm`.

    Sources: [croce2020fab], Algorithm 1; FAB-T:
    [croce2020], appendix.

    >>> import jax.numpy as jnp
    >>> w = jnp.array([[1., -1.], [2., 0.]])  # Equal logits where x_1 + x_2 = 0.
    >>> jnp.round(fab(lambda x: x @ w, jnp.array([[.5, .3]]), jnp.array([0])), 2)
    Array([[ 0.1, -0.1]], dtype=float32)
    """
    targets = 1 if num_targets is None else num_targets
    check_counts(num_steps=num_steps, restarts=restarts, num_targets=targets)
    check_range("alpha_max", alpha_max, "[0, 1]")
    check_range("eta", eta, "[1, inf)")
    check_range("beta", beta, "(0, 1)")
    if restarts > 1 and key is None:
        raise ValueError(f"restarts must be 1 without a key, got {restarts}")
    kind = linf_or_l2(norm)
    x = checked(logits_fn, x, y, bounds, aux)
    ball = None if eps is None else radius(eps, x, kind, bounds)
    keys = norms.row_keys(key, x.shape[0]) if restarts > 1 else None
    return compiled(
        _fab,
        logits_fn,
        x,
        y,
        ball,
        {"alpha_max": alpha_max, "eta": eta, "beta": beta},
        keys,
        norm=kind,
        num_steps=num_steps,
        restarts=restarts,
        num_targets=num_targets,
        bounds=bounds,
        aux=aux,
    )


def _fab(
    logits_fn: LogitsFn,
    x: Array,
    y: Array | None,
    ball: Array | None,
    weights: dict[str, ArrayLike],
    keys: Key | None,
    *,
    norm: str,
    num_steps: int,
    restarts: int,
    num_targets: int | None,
    bounds: Bounds | None,
) -> Array:
    """`fab` of checked arguments; ball: eps; weights: alpha_max, eta and beta."""
    y = classes(labels_at(logits_fn, x, y))
    logits = checked_logits(logits_fn(x), batch=x.shape[0])
    others = rivals(logits, y)
    runs = others[:, None] if num_targets is None else others[:, :num_targets, None]
    steps = {"num_steps": num_steps, **weights}
    walk = partial(approach, logits_fn, x, y, norm=norm, bounds=bounds, **steps)

    def run(found: Shortest, number: Array) -> tuple[Shortest, None]:
        start = jnp.zeros_like(found.r)
        if keys is not None:
            drawn = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
            away = _away(drawn, x, found, ball, norm, bounds)
            start = jnp.where(number % restarts == 0, start, away)
        opponents = jax.lax.dynamic_index_in_dim(runs, number // restarts, axis=1, keepdims=False)
        return walk(opponents, found, start), None

    r = jnp.zeros_like(x, working_dtype(x.dtype))
    found = Shortest(r, jnp.where(margin(logits, y) > 0, 0, jnp.inf).astype(r.dtype))
    found, _ = jax.lax.scan(run, found, jnp.arange(runs.shape[1] * restarts))
    r = _closer(logits_fn, x, y, margin(logits, y), found.r, bounds)
    return perturbed(x, r if ball is None else norms.project(r, ball, norm), bounds)


def approach(
    logits_fn: LogitsFn,
    x: Array,
    y: Array,
    rivals: Array,
    found: Shortest,
    start: Array,
    *,
    norm: str,
    num_steps: int,
    alpha_max: ArrayLike = 0.1,
    eta: ArrayLike = 1.05,
    beta: ArrayLike = 0.9,
    bounds: Bounds | None,
    enough: ArrayLike = 0.0,
) -> Shortest:
    """Runs FAB from x + start; returns the shorter, row by row, of `found` and its candidates.

    Args:
      rivals: i32[B, M], the classes whose boundaries are considered.
      enough: f32[] or f32[B]: a row with a perturbation of this length or less is done, and the
        run ends when all rows are.
    """
    origin = x.astype(start.dtype)

    # Carry the point: computed in the same iteration, XLA would fuse it into the model's first
    # layer and recompute it for each use of a pixel.
    def advance(turn: Turn) -> Turn:
        count, r, point, found = turn
        plane = _nearest_plane(logits_fn, point, y, rivals, norm)
        back = _dot(plane.slope, r) - plane.gap
        here = onto_plane(origin + r, plane.slope, -plane.gap, norm, bounds)
        home = onto_plane(origin, plane.slope, back, norm, bounds)
        to_here, to_home = norms.norm(here, norm), norms.norm(home, norm)
        alpha = jnp.minimum(to_here / _or_one(to_here + to_home), alpha_max)
        alpha = norms.per_row("alpha", alpha, r)
        r = inside(x, (1 - alpha) * (r + eta * here) + alpha * eta * home, bounds)
        logits = checked_logits(logits_fn(perturbed(x, r, bounds)), batch=x.shape[0])
        fools, length = margin(logits, y) > 0, norms.norm(r, norm)
        shorter = fools & (length < found.length) & (found.length > enough)
        found = choose(shorter, Shortest(r, length), found)
        r = choose(fools, jnp.multiply(beta, r), r)
        return count + 1, r, perturbed(x, r, bounds), found

    def unfinished(turn: Turn) -> Array:
        count, _, _, found = turn
        return (count < num_steps) & (found.length > enough).any()

    first = jnp.int32(0), start, perturbed(x, start, bounds), found
    return jax.lax.while_loop(unfinished, advance, first)[-1]


def onto_plane(point: Array, slope: Array, gap: Array, norm: str, bounds: Bounds | None) -> Array:
    """Returns the shortest d with <slope, d> = gap and point + d within the bounds: f32[B, *D].

    Each entry moves toward the plane, by the same length (linf) or in proportion to its slope
    (l2), and stops at its bound; variable fixing finds these entries exactly. If the plane is
    outside the bounds, d leads to their nearest corner; if the slope is 0, d is 0.

    Source of the method: [kiwiel2008], and the references there.
    """
    x, w = (a.reshape(a.shape[0], -1) for a in (point, slope))
    # Only the ratio gap / slope matters; in units of the largest slope squares do not underflow.
    unit = _or_one(jnp.abs(w).max(axis=1, keepdims=True))
    w, gap = w / unit, gap[:, None] / unit
    toward, size = jnp.sign(w) * jnp.sign(gap), jnp.abs(w)
    lo, hi = (-jnp.inf, jnp.inf) if bounds is None else bounds
    room = jnp.where(toward == 0, 0, jnp.where(toward > 0, hi - x, x - lo))
    reach = jnp.sign(size) if norm == "linf" else size

    def level(stopped: Array) -> Array:
        rest = jnp.abs(gap) - jnp.where(stopped, size * room, 0).sum(axis=1, keepdims=True)
        rate = jnp.where(stopped, 0, size * reach).sum(axis=1, keepdims=True)
        return jnp.where(rate > 0, jnp.maximum(rest, 0) / _or_one(rate), jnp.inf)

    def fix(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        stopped, _ = carry
        now = stopped | (room <= jnp.where(stopped, 0, level(stopped) * reach))
        return now, (now & ~stopped).any()

    first = size == 0, jnp.ones_like(size, bool, shape=())
    stopped, _ = jax.lax.while_loop(lambda carry: carry[1], fix, first)
    moved = jnp.where(stopped, room, level(stopped) * reach)
    return (toward * moved).reshape(slope.shape)


def rivals(logits: Array, y: Array) -> Array:
    """Returns the classes other than y, the most probable first: i32[B, K - 1]."""
    is_label = jax.nn.one_hot(y, logits.shape[1], dtype=bool)
    return jnp.argsort(jnp.where(is_label, jnp.inf, -logits), axis=1)[:, :-1]


def _nearest_plane(logits_fn: LogitsFn, point: Array, y: Array, rivals: Array, norm: str) -> Plane:
    """Returns the plane nearest to the point among those of rivals i32[B, M]."""
    dtype = working_dtype(point.dtype)
    logits, pull = jax.vjp(lambda z: checked_logits(logits_fn(z), batch=z.shape[0]), point)
    count, label = logits.shape[1], jax.nn.one_hot(y, logits.shape[1], dtype=logits.dtype)

    def consider(m: Array, nearest: Plane) -> Plane:
        ahead = jax.nn.one_hot(rivals[:, m], count, dtype=logits.dtype) - label
        gap = (logits * ahead).sum(axis=1).astype(dtype)
        slope = pull(ahead)[0].astype(dtype)
        steepness = norms.norm(slope, "l1" if norm == "linf" else "l2")
        distance = jnp.where(steepness > 0, jnp.abs(gap) / _or_one(steepness), jnp.inf)
        return choose(distance < nearest.distance, Plane(gap, slope, distance), nearest)

    none = Plane(
        gap=jnp.zeros_like(y, dtype),
        slope=jnp.zeros_like(point, dtype),
        distance=jnp.full_like(y, jnp.inf, dtype),
    )
    return jax.lax.fori_loop(0, rivals.shape[1], consider, none)


def _away(
    keys: Key, x: Array, found: Shortest, ball: Array | None, norm: str, bounds: Bounds | None
) -> Array:
    """Returns a random start f32[B, *D], half as far as the best candidate and at most eps / 2.

    Without a candidate and eps it is 0.
    """
    limit = jnp.inf if ball is None else ball
    half = jnp.minimum(norms.per_row("length", found.length, x), limit) / 2
    direction = norms.sample(keys, x, 1.0, norm)
    sphere = direction / norms.per_row("length", _or_one(norms.norm(direction, norm)), x)
    return inside(x, jnp.where(jnp.isfinite(half), half, 0) * sphere, bounds)


def _closer(
    logits_fn: LogitsFn, x: Array, y: Array, at_x: Array, r: Array, bounds: Bounds | None
) -> Array:
    """Takes three secant steps for margin = 0 on the segment from x to x + r; r still fools.

    at_x: f32[B], the margin at x.
    """

    def margin_at(r: Array) -> Array:
        logits = checked_logits(logits_fn(perturbed(x, r, bounds)), batch=x.shape[0])
        return margin(logits, y)

    def secant(_: Array, carry: tuple) -> tuple:
        (near, below), (far, above) = carry
        # Overshoot by 1e-3: on a linear margin rounding would decide otherwise.
        share = jnp.clip(below / _or_one(below - above) + 1e-3, 0, 1)
        share = norms.per_row("share", share, x)
        between = near + share * (far - near)
        value = margin_at(between)
        tried, fools = (between, value), value > 0
        return choose(fools, (near, below), tried), choose(fools, tried, (far, above))

    _, (r, _) = jax.lax.fori_loop(0, 3, secant, ((jnp.zeros_like(r), at_x), (r, margin_at(r))))
    return r


def _dot(a: Array, b: Array) -> Array:
    """Returns <a, b> of each row: f32[B]."""
    return (a * b).reshape(a.shape[0], -1).sum(axis=1)


def _or_one(scale: Array) -> Array:
    return jnp.where(scale == 0, 1, scale)
