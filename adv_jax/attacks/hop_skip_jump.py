"""HopSkipJump: the smallest perturbation, by decisions of the model alone."""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from adv_jax import norms
from adv_jax.attacks._attack import attack
from adv_jax.attacks._best import Shortest
from adv_jax.attacks._decisions import Space, first_on_boundary, space, to_boundary
from adv_jax.attacks._region import Region
from adv_jax.attacks._traits import ITERATED
from adv_jax.checks import check_box
from adv_jax.perturbations import choose, in_units, of_units, spread
from adv_jax.random import fold_in_rows, row_keys
from adv_jax.types import Array, Bounds, Key, LogitsFn, Mask, Norm, RowTree

Walk = tuple[Array, Shortest, Shortest]  # steps done, the point on the boundary, the shortest
Votes = tuple[Array, Array, Array]  # sums of moves, of votes * moves, of votes

MAX_HALVINGS = 20  # of a jump, until it ends where the model is fooled
POINTS = 256  # of all rows, evaluated at once to estimate a direction


@attack(
    rank=ITERATED,
    gradient=False,
    needs_key=True,
    decisions=True,
    minimal=True,
    legal_norms=("linf", "l2"),
    check=lambda settings: check_box(settings["bounds"]),
)
def hop_skip_jump(
    logits_fn: LogitsFn,
    x: Array,
    y: Array | None,
    *,
    norm: Norm = "l2",
    num_steps: int = 64,
    initial_evals: int = 100,
    max_evals: int = 10_000,
    start: Array | None = None,
    eps: ArrayLike | None = None,
    bounds: Bounds | None = None,
    mask: Mask | None = None,
    aux: RowTree | None = None,
    targeted: bool = False,
    key: Key | None = None,
) -> Array:
    """HopSkipJump: the smallest perturbation that fools, by decisions of the model alone.

        v_t = sum_b (phi(x_t + delta_t u_b) - mean phi) u_b,   u_b uniform on the unit sphere,
        x_{t+1} = B(x_t + xi_t * argmax_{||r||_p <= 1} <v_t, r>),   delta_t = ||x_t - x||_p / d,

    phi = 1 where the model is fooled, else -1; B moves toward x, onto the boundary of the class, by
    bisection; xi_t = ||x_t - x||_p / sqrt(t), halved until the point fools. Nothing but the argmax
    of the logits is used, so the model needs no derivative and may return one-hot labels.

    Step t takes initial_evals * sqrt(t) queries per row, at most max_evals, for the direction, and
    at most 44 for the jump and the bisection; the start takes at most 226. The defaults are about
    35,000 queries. Points around a row are evaluated in blocks of at most initial_evals, and of 256
    for all rows; the last block of a step is full.

    Args:
      norm: "l2" or "linf", or an alias.
      num_steps: directions, >= 1.
      initial_evals, max_evals: queries for the first direction, and at most, >= 1.
      start: f[B, *D], a perturbation to begin with, such as the way to an image of another class; a
        row that it does not fool is returned unchanged. None: to random points, which rarely have
        the class of a target: uniform noise in the bounds; without bounds, normal noise around x,
        from a hundredth of the row's range, max - min, or of the eps of each feature.
      eps: None: the perturbation found; f32[] or f32[B], >= 0: projected onto the ball of this
        radius; or the radius of each feature, as in `fgsm`, in units of which it is short.
      key: for the random numbers: one key, or key[B], one per row.
      logits_fn, x, y, bounds, mask, aux, targeted: as in `fgsm`.

    Returns:
      f[B, *D] in the dtype of x, constant: it carries no gradient. A row that is fooled at x, or
      that finds no start, is returned unchanged.

    Raises:
      UserError: another norm; num_steps, initial_evals or max_evals below 1; no key; infinite
        bounds; and as `fgsm`.

    Source: [chen2020], Algorithms 1 and 2; delta_t from foolbox, which takes the distance after the
    bisection. The shortest of all x_t is returned.

    >>> import jax.numpy as jnp
    >>> w = jnp.array([[1., -1.], [2., 0.]])  # Equal logits where 2 x_0 + 2 x_1 = 0.
    >>> x, y = jnp.array([[.5, .5]]), jnp.array([0])
    >>> x_adv = hop_skip_jump(lambda x: x @ w, x, y, num_steps=20, key=jax.random.key(0))
    >>> jnp.round(x_adv, 1) + 0
    Array([[0., 0.]], dtype=float32)
    """
    region = Region.of(x, eps, norm, bounds, mask)
    norm, scale = region.norm, region.scale
    keys = row_keys(key, x.shape[0])
    at = space(logits_fn, y, region, eps, targeted=targeted)
    first = first_on_boundary(at, fold_in_rows(keys, 0), start)

    def advance(walk: Walk) -> Walk:
        step, here, best = walk
        root = jnp.sqrt(step.astype(here.length.dtype))
        count = jnp.minimum((initial_evals * root).astype(jnp.int32), max_evals)
        toward = _direction(at, here, fold_in_rows(keys, step), count, initial_evals)
        unit = of_units(norms.dual(in_units(toward, scale), norm), scale)
        here = to_boundary(at, _jump(at, here, unit, here.length / root))
        return step + 1, here, best.or_shorter(here)

    def unfinished(walk: Walk) -> Array:
        return (walk[0] <= num_steps) & (first.length > 0).any()

    _, _, best = jax.lax.while_loop(unfinished, advance, (jnp.int32(1), first, first))
    return region.perturbed(best.r)


def _direction(at: Space, here: Shortest, keys: Key, count: Array, fewest: int) -> Array:
    """Returns the direction f32[B, *D] in which most of `count` points around here fool.

    fewest: the smallest count.
    """
    many = max(1, min(POINTS // here.r.shape[0], fewest))
    d = math.prod(here.r.shape[1:])
    delta, scale = spread(here.length / d, here.r), at.region.scale

    def vote(index: Array) -> Votes:
        unit = norms.dual(at.normal(fold_in_rows(keys, index)), "l2")
        probe = at.region.clipped(of_units(in_units(here.r, scale) + delta * unit, scale))
        move = jnp.where(index < count, probe - here.r, 0)
        yes = jnp.where(at.fools(probe), 1, -1).astype(move.dtype)
        return move, spread(yes, move) * move, jnp.where(index < count, yes, 0)

    def look(block: Array, votes: Votes) -> Votes:
        found = jax.vmap(vote)(block * many + jnp.arange(many, dtype=jnp.int32))
        return jax.tree.map(lambda total, part: total + part.sum(axis=0), votes, found)

    zero = jnp.zeros_like(here.r)
    blocks = (count + many - 1) // many
    moves, voted, total = jax.lax.fori_loop(
        0, blocks, look, (zero, zero, jnp.zeros_like(here.length))
    )
    mean = total / count.astype(total.dtype)
    # Where all agree, the direction is the mean of the moves, or away from it.
    mean = jnp.where(jnp.abs(mean) == 1, 0, mean)
    return voted - spread(mean, moves) * moves


def _jump(at: Space, here: Shortest, unit: Array, size: Array) -> Array:
    """Returns r + size * unit, with the size f32[B] halved until it fools, else r."""
    jumping = here.length > 0

    def ahead(size: Array) -> Array:
        return at.region.clipped(here.r + spread(size, unit) * unit)

    def halve(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        count, size, _ = carry
        fools = at.fools(ahead(size))
        return count + 1, jnp.where(fools, size, size / 2), fools

    def unfinished(carry: tuple[Array, Array, Array]) -> Array:
        count, _, fools = carry
        return (count < MAX_HALVINGS) & (jumping & ~fools).any()

    nowhere = jnp.zeros_like(jumping)
    _, size, fools = jax.lax.while_loop(unfinished, halve, (jnp.int32(0), size, nowhere))
    return choose(fools & jumping, ahead(size), here.r)
