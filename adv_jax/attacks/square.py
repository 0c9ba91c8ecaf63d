"""Square attack: random search over square windows, by forward passes only."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from adv_jax import norms
from adv_jax.attacks._attack import attack
from adv_jax.attacks._best import Best
from adv_jax.attacks._blocks import AttackRows, on_survivors, rows_at_a_time
from adv_jax.attacks._region import Region
from adv_jax.attacks._traits import ITERATED
from adv_jax.loss_gradients import RateFn, labels_at, margin, rate_fn
from adv_jax.perturbations import choose, in_units, of_units, or_one, perturbed
from adv_jax.random import fold_in_rows, row_keys
from adv_jax.types import Array, Bounds, Key, LogitsFn, Mask, Norm, RowFn, RowTree, working_dtype

Turn = tuple[Array, Best, tuple[Array, Array]]  # number of the query, the best, (r, x + r) to try
Window = tuple[Array | int, Array | int]  # height, width

# The share p of the pixels in a window is halved after these of 10,000 queries.
_HALVINGS = np.array([10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000]) / 10_000


_TURN = 10  # queries before the rows that are not fooled are gathered again

_LOSSES: dict[str, RowFn] = {"margin": margin}


@attack(
    rank=ITERATED,
    gradient=False,
    needs_key=True,
    ranges={"p_init": "(0, 1]"},
    losses=_LOSSES,
    legal_norms=("linf", "l2"),
)
def square(
    logits_fn: LogitsFn,
    x: Array,
    y: RowTree | None,
    *,
    eps: ArrayLike,
    loss: str | RowFn = "margin",
    fooled: RowFn | None = None,
    norm: Norm = "linf",
    num_queries: int = 5000,
    p_init: ArrayLike = 0.8,
    block_size: int | None = None,
    bounds: Bounds | None = None,
    mask: Mask | None = None,
    aux: RowTree | None = None,
    targeted: bool = False,
    key: Key | None = None,
) -> Array:
    """Square attack: random search that keeps a change of one window if it raises the loss.

        linf  start: +-eps for each column and channel; then +-2 eps for each channel of a window
              of p h w pixels, projected onto the ball
        l2    start: 5 x 5 tiles; then a pattern with two peaks of opposite sign in a window, with
              the norm taken from another window, so that the norm stays eps

    Both are clipped to the bounds. The window is a square with a share p of the pixels, from
    p_init down to p_init / 512. A row stops when it fools the model; a row that is fooled at x is
    returned unchanged. The result is the point of largest loss, including x; if targeted, of
    the most negative one.

    Args:
      x: images f[B, h, w] or f[B, h, w, c]; a row of another rank is treated as an image of
        height 1, whose windows are intervals.
      eps: radius of the ball, as in `fgsm`.
      loss: "margin", the largest other logit minus that of y, or a function (outputs, y) -> f[B] of
        any outputs, as in `pgd`.
      fooled: (outputs, y) -> bool[B] or None, as in `pgd`. With a function for loss, None: no row
        stops early.
      norm: "linf" or "l2", or an alias.
      num_queries: forward passes after the start's, >= 1.
      p_init: share of the pixels in the first windows, f32[], in (0, 1].
      block_size: rows to attack at a time, >= 1, as in `auto_attack`. If it is below B, rows that
        fool the model leave after at most 10 queries; some of them may fill up the last block.
      key: one key, or key[B], one per row.
      logits_fn, y, bounds, mask, aux, targeted: as in `fgsm`.

    Returns:
      f[B, *D] in the dtype of x, constant: it carries no gradient.

    Raises:
      UserError: another norm; num_queries or p_init out of range; no key; and as `fgsm`.

    Source: [andriushchenko2020], Algorithms 1 to 3, sec. 3; the schedule for 10,000 queries
    is scaled to num_queries.

    >>> import jax.numpy as jnp
    >>> w = jnp.array([[1., -1.], [2., 0.]])
    >>> x, y = jnp.array([[.5, .5]]), jnp.array([0])
    >>> square(lambda x: x @ w, x, y, eps=.1, num_queries=20, key=jax.random.key(0))
    Array([[0.4, 0.4]], dtype=float32)
    """
    region = Region.of(x, eps, norm, bounds, mask)
    if loss is not None:
        y = labels_at(logits_fn, x, y, targeted=targeted)
    at_x = rate_fn(loss, logits_fn, x, y, targeted=targeted)(x)
    r = jnp.zeros_like(x, working_dtype(x.dtype))
    unmoved = Best(r, at_x.loss.astype(r.dtype), at_x.fools)
    rows = AttackRows.of(logits_fn, y, row_keys(key, x.shape[0]), region)
    size = rows_at_a_time(block_size, x.shape[0])
    turn = _TURN if size < x.shape[0] else 1 + num_queries

    def searched(i: Array, best: Best) -> Best:
        span = i * turn, jnp.minimum((i + 1) * turn, 1 + num_queries)

        def search(rows: AttackRows, best: Best) -> Best:
            rate = rate_fn(loss, rows.logits_fn, rows.x, rows.y, targeted=targeted)
            return random_search(
                rate,
                rows.region(region.norm),
                best,
                rows.keys,
                num_queries=num_queries,
                p_init=p_init,
                span=span,
            )

        return on_survivors(search, rows, best, size)

    nothing = Best.none(r, at_x.fools)
    best = jax.lax.fori_loop(0, math.ceil((1 + num_queries) / turn), searched, nothing)
    return region.perturbed(unmoved.or_better(best).r)


def random_search(
    rate: RateFn,
    region: Region,
    best: Best,
    keys: Key,
    *,
    num_queries: int,
    p_init: ArrayLike = 0.8,
    span: tuple[Array, Array] | None = None,
) -> Best:
    """Runs the queries of the Square attack; returns the best point of each row.

    Args:
      best: the best point so far, or `Best.none`. Rows that fool are skipped.
      keys: key[B].
      span: the first query and one past the last, i32[] each; query 0 is the start. None: all.
    """
    first, end = (0, 1 + num_queries) if span is None else span
    x, eps, norm, bounds, scale = region
    shape = _image_shape(x.shape[1:])
    start, change, least = (_stripes, _recolor, 1) if norm == "linf" else (_tiles, _regroup, 3)
    radii = jnp.broadcast_to(eps, (x.shape[0], *eps.shape[1:])).reshape(-1)

    # Windows have the same size in each feature in coordinates r / scale.
    def shown(images: Array) -> tuple[Array, Array]:
        r = region.nearest(of_units(images.reshape(x.shape), scale))
        return r, perturbed(x, r, bounds)

    def drawn(r: Array) -> Array:
        return in_units(r, scale).reshape(-1, *shape)

    def changed(number: Array | int, best: Best) -> tuple[Array, Array]:
        passed = jnp.float32(number) - 1 > jnp.float32(_HALVINGS * num_queries)
        share = jnp.asarray(p_init) * jnp.where(passed, 0.5, 1.0).prod()
        window = _window(share, shape, least)
        images = jax.vmap(change, (0, 0, 0, None))
        return shown(images(fold_in_rows(keys, number), drawn(best.r), radii, window))

    # Carry the point: computed in the same iteration, XLA would fuse it into the model's first
    # layer and recompute it for each use of a pixel.
    def query(carry: Turn) -> Turn:
        number, best, (r, point) = carry
        at = rate(point)
        here = Best(r, at.loss.astype(r.dtype), at.fools)
        best = choose(best.fools, best, best.or_better(here))
        return number + 1, best, changed(number + 1, best)

    def unfinished(carry: Turn) -> Array:
        number, best, _ = carry
        return (number < end) & ~best.fools.all()

    begun = lambda: shown(jax.vmap(start, (0, 0, None))(fold_in_rows(keys, 0), radii, shape))
    point = jax.lax.cond(first == 0, begun, lambda: changed(first, best))
    return jax.lax.while_loop(unfinished, query, (jnp.int32(first), best, point))[1]


def _image_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Returns height, width and channels of a row of that shape."""
    if len(shape) in (2, 3):
        height, width, channels = (*shape, 1)[:3]
        return height, width, channels
    return 1, math.prod(shape), 1


def _window(p: Array, shape: tuple[int, int, int], least: int) -> Window:
    """Returns height and width, i32[], of a window with a share p of the pixels.

    It is a square, or spans the short side if the square does not fit. Sides are >= `least`, and
    odd if least > 1, as the pattern has a central pixel.
    """
    height, width, _ = shape
    side = jnp.sqrt(p * height * width)
    sides = jnp.where(side > width, p * height, side), jnp.where(side > height, p * width, side)
    a, b = (jnp.maximum(jnp.round(length).astype(jnp.int32), least) for length in sides)
    if least > 1:
        a, b = a + 1 - a % 2, b + 1 - b % 2
    return jnp.minimum(a, height), jnp.minimum(b, width)


def _place(draw: Array, window: Window, shape: tuple[int, ...]) -> list[Array]:
    """Places a window by two uniform draws; returns each row's and column's index i32 within it."""
    indices = []
    for u, length, size in zip(draw, window, shape[:2], strict=True):
        places = size - length + 1
        offset = jnp.minimum((u * jnp.asarray(places, u.dtype)).astype(jnp.int32), places - 1)
        indices.append(jnp.arange(size, dtype=jnp.int32) - offset)
    return indices


def _covered(indices: list[Array], window: Window) -> Array:
    """Returns the mask of a window, bool[h, w, 1]."""
    i, j = ((at >= 0) & (at < length) for at, length in zip(indices, window, strict=True))
    return (i[:, None] & j[None])[:, :, None]


def _stripes(key: Key, eps: Array, shape: tuple[int, int, int]) -> Array:
    """Draws +-eps for each column and channel: f32[h, w, c]."""
    signs = jax.random.rademacher(key, (1, *shape[1:]), eps.dtype)
    return jnp.broadcast_to(eps * signs, shape)


def _recolor(key: Key, r: Array, eps: Array, window: Window) -> Array:
    """Adds +-2 eps to each channel of a window of r, before the projection onto the ball."""
    draw = jax.random.uniform(key, (2 + r.shape[2],), r.dtype)
    covered = _covered(_place(draw[:2], window, r.shape), window)
    return r + jnp.where(covered, 2 * eps * _signs(draw[None, None, 2:]), 0)


def _tiles(key: Key, eps: Array, shape: tuple[int, int, int]) -> Array:
    """Draws a perturbation of l2 norm eps from tiles, a fifth of the image in height and width."""
    height, width, channels = shape
    a, b = max(height // 5, 1), max(width // 5, 1)
    grid = height // a, width // b
    draw = jax.random.uniform(key, (*grid, 1 + channels), eps.dtype)
    bump = _bump([jnp.arange(a), jnp.arange(b)], (a, b), draw[:, :, 0, None, None])
    tiles = bump[..., None] * _signs(draw[:, :, None, None, 1:])
    image = jnp.moveaxis(tiles, 1, 2).reshape(grid[0] * a, grid[1] * b, channels)
    pairs = zip(shape, image.shape, strict=True)
    margins = [((size - n) // 2, size - n - (size - n) // 2) for size, n in pairs]
    return _onto_sphere(jnp.pad(image, margins), eps)


def _regroup(key: Key, r: Array, eps: Array, window: Window) -> Array:
    """Moves the energy of one window of r to a pattern in another; the l2 norm stays eps."""
    channels = r.shape[2]
    draw = jax.random.uniform(key, (5 + channels,), r.dtype)
    here = _place(draw[:2], window, r.shape)
    gains = _covered(here, window)
    gives = _covered(_place(draw[2:4], window, r.shape), window)
    unused = jnp.maximum(eps**2 - (r**2).sum(), 0) / channels
    energy = jnp.where(gains | gives, r**2, 0).sum((0, 1), keepdims=True) + unused
    pattern = _bump(here, window, draw[4])[:, :, None] * _signs(draw[None, None, 5:])
    mixed = _unit(pattern + _unit(jnp.where(gains, r, 0)))
    return _onto_sphere(jnp.where(gains, jnp.sqrt(energy) * mixed, jnp.where(gives, 0, r)), eps)


def _bump(indices: list[Array], window: Window, draw: Array) -> Array:
    """Returns two peaks of opposite sign, stacked or (draw < .5) side by side; l2 norm 1.

    indices: from `_place`, for an image f[h, w].
    draw: f32[] or f32[..., 1, 1], for a result f32[h, w] or f32[..., h, w].
    """
    (i, j), (a, b) = indices, window
    above = _unit(_peak([i, j], (a // 2, b)) - _peak([i - a // 2, j], (a - a // 2, b)))
    beside = _unit(_peak([j, i], (b // 2, a)) - _peak([j - b // 2, i], (b - b // 2, a)))
    beside, above = (jnp.broadcast_to(r, draw.shape[:-2] + r.shape) for r in (beside.T, above))
    return jnp.where(draw < 0.5, beside, above)


def _peak(indices: list[Array], window: Window) -> Array:
    """Returns for each pixel the sum of 1 / n^2 over the n-th centered squares that contain it.

    The squares grow by a pixel on each side until one fills the window: f32[h, w], l2 norm 1.
    """
    count = max(at.size for at in indices) + 1
    sums = jnp.asarray([0.0, *np.cumsum(1 / np.arange(1, count + 1) ** 2)], jnp.float32)
    down, right = (
        sums[jnp.minimum(jnp.abs(at - length // 2), count)]
        for at, length in zip(indices, window, strict=True)
    )
    value = sums[jnp.maximum(*window) // 2 + 1] - jnp.maximum(down[:, None], right[None])
    return _unit(jnp.where(_covered(indices, window)[:, :, 0], value, 0))


def _unit(r: Array) -> Array:
    """Divides f32[h, w], or each channel of f32[h, w, c], by its l2 norm; 0 stays 0."""
    length = jnp.sqrt((r**2).sum((0, 1), keepdims=True))
    return r / or_one(length)


def _onto_sphere(r: Array, eps: Array) -> Array:
    """Scales f32[h, w, c] to l2 norm eps; 0 stays 0."""
    return eps * norms.dual(r[None], "l2")[0]


def _signs(draw: Array) -> Array:
    """Returns +-1 by uniform draws."""
    return jnp.where(draw < 0.5, -1, 1)
