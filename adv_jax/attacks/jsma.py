"""The Jacobian-based saliency map attack: changes few features, in pairs."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from adv_jax import norms
from adv_jax.attacks._attack import attack
from adv_jax.attacks._lengths import row_limits
from adv_jax.attacks._linear_model import class_values
from adv_jax.attacks._traits import ITERATED
from adv_jax.attacks.targets import next_class
from adv_jax.checks import broadcasts, checked_labels, checked_mask
from adv_jax.loss_gradients import labels_at
from adv_jax.losses import classes
from adv_jax.perturbations import inside, moved, of_units, or_one, perturbed, spread
from adv_jax.types import (
    Array,
    Bounds,
    Key,
    LogitsFn,
    Mask,
    RowTree,
    UserError,
    described,
    working_dtype,
)


class PairSearch(NamedTuple):
    """The state of the loop.

    step: i32[], iterations done, each of at most one pair per row.
    r: f32[B, *D], the changes so far.
    active: bool[B], the row is not done.
    """

    step: Array
    r: Array
    active: Array


@attack(size="gamma", rank=ITERATED, row_ranges={"gamma": "[0, 1]", "theta": "(-inf, inf)"})
def jsma(
    logits_fn: LogitsFn,
    x: Array,
    y: Array | None,
    *,
    theta: ArrayLike | None = None,
    gamma: ArrayLike = 0.1,
    of: str = "logits",
    bounds: Bounds | None = None,
    mask: Mask | None = None,
    aux: RowTree | None = None,
    targeted: bool = False,
    key: Key | None = None,
) -> Array:
    """Saliency map attack (JSMA): changes the most salient pair of features, repeatedly.

        a_i = d F_t / d x_i,   b_i = sum_{j != t} d F_j / d x_i,
        (p, q) = argmax_{p < q} -(a_p + a_q) (b_p + b_q)  where  a_p + a_q > 0 > b_p + b_q,

    (the signs of a and b are reversed if theta < 0); then theta is added to x_p and x_q, until the
    prediction is t, gamma is exhausted or no pair is left. Features at their bound are excluded.
    Each row stops independently.

    Args:
      y: i32[B] or f32[B, K], the class t to reach if targeted, as in the paper. Otherwise the
        label (None: the prediction), and t is the next class, (y + 1) mod K.
      theta: change of one feature, f32[], in units of x; may be negative; or an array of the rank
        of x that broadcasts to it, the change of each feature, by which a and b are multiplied.
        None: the width of the feature's bounds or, where they are not finite, of the row's range.
      gamma: largest share of the features to change, f32[] or f32[B], in [0, 1]: at most
        floor(gamma * d / 2) pairs of d features.
      of: F is the "logits", as in the paper (JSMA-Z), or the "probs" of the softmax (JSMA-F),
        where b = -a and the two features of the largest derivatives are chosen.
      bounds: as in `fgsm`. Without them a feature may be changed repeatedly.
      logits_fn, x, mask, aux, key: as in `fgsm`.

    Returns:
      f[B, *D] in the dtype of x, constant: it carries no gradient. A row classified as t at x is
      returned unchanged; one that does not reach t keeps its changes.

    Raises:
      UserError: unknown `of`; theta or gamma out of range; and as `fgsm`.

    Sources: [papernot2016], eq. 8 and Algorithm 3; [carlini2017], sec. 3 (the two
    forms of F).

    >>> w = jnp.array([[-1., 1.], [-2., 0.], [0., 3.], [2., 0.]])
    >>> jsma(lambda x: x @ w, jnp.array([[0., 0., 0., 1.]]), jnp.array([0]), gamma=.5,
    ...      bounds=(0., 1.))
    Array([[0., 1., 1., 1.]], dtype=float32)
    """
    change_of_each, pairs = _changes(theta, x, bounds, mask), _most_pairs(gamma, x)
    y = classes(labels_at(logits_fn, x, y, targeted=targeted))
    batch, dtype = x.shape[0], change_of_each.dtype
    largest = jnp.abs(change_of_each).max(axis=tuple(range(1, x.ndim)), keepdims=True)
    unit = change_of_each / or_one(largest)

    def change(search: PairSearch) -> PairSearch:
        values, pullback = class_values(logits_fn, moved(x, search.r), of)
        label = checked_labels(y, values)
        target = label if targeted else next_class(label, values.shape[1])
        active = search.active & (jnp.argmax(values, axis=1).astype(target.dtype) != target)
        active &= search.step + 1 <= pairs
        is_target = jax.nn.one_hot(target, values.shape[1], dtype=values.dtype)
        helps, hinders = pullback(is_target), pullback(1 - is_target)
        further = inside(x, search.r + change_of_each, bounds)
        helps, hinders = (of_units(slope.astype(dtype), unit) for slope in (helps, hinders))
        pair = _best_pair(helps, hinders, further != search.r)
        found = pair.reshape(batch, -1).any(axis=1)
        pair &= spread(active, x)
        r = jnp.where(pair, further, search.r)
        return PairSearch(search.step + 1, r, active & found)

    everybody = jnp.ones_like(x, bool, shape=x.shape[:1])
    start = PairSearch(jnp.int32(0), jnp.zeros_like(x, dtype), everybody)
    search = jax.lax.while_loop(lambda search: search.active.any(), change, start)
    return perturbed(x, search.r, bounds)


def _changes(theta: ArrayLike | None, x: Array, bounds: Bounds | None, mask: Mask | None) -> Array:
    """Returns the change of each feature, of the rank of x; 0 where it must not move."""
    if theta is None:
        lo, hi = row_limits(x, bounds)
        theta = hi - lo
    if np.ndim(theta) and not (np.ndim(theta) == x.ndim and broadcasts(theta, x.shape)):
        raise UserError(f"theta must be a real number, got {described(theta)}")
    theta = jnp.asarray(theta, working_dtype(x.dtype))
    theta = theta.reshape(*(1,) * (x.ndim - theta.ndim), *theta.shape)
    return theta if mask is None else jnp.where(checked_mask(mask, x), theta, 0)


def _most_pairs(gamma: ArrayLike, x: Array) -> Array:
    """Returns how many pairs of features a row may change, i32[1 or B]."""
    share = norms.per_row("gamma", gamma, x).reshape(-1)
    # float32 rounds shares such as .7 down.
    return jnp.floor(share * x[0].size / 2 * (1 + 1e-6)).astype(jnp.int32)


def _best_pair(helps: Array, hinders: Array, domain: Array) -> Array:
    """Returns a mask of the pair with the highest score -(a_p + a_q) (b_p + b_q): bool[B, *D].

    Args:
      helps: a, f32[B, *D].
      hinders: b, f32[B, *D].
      domain: bool[B, *D], the features to choose from. The mask is empty if no score is positive.
    """
    batch, size = domain.shape[0], domain[0].size
    a, c = (_unit(rows.reshape(batch, size)) for rows in (helps, -hinders))
    a = jnp.where(domain.reshape(batch, size), a, -jnp.inf)
    twice = [jnp.concatenate([rows, rows], axis=1) for rows in (a, c)]

    def score(a_q: Array, c_q: Array) -> Array:
        return jnp.maximum(a + a_q, 0) * jnp.maximum(c + c_q, 0)

    def with_shifted(shift: int, best: Array) -> Array:
        a_q, c_q = (jax.lax.dynamic_slice_in_dim(rows, shift, size, axis=1) for rows in twice)
        return jnp.maximum(best, score(a_q, c_q))

    # The best score of each p over q = p + 1, ..., p + d/2 (mod d) covers all pairs; then q is
    # found for the best p alone. This avoids an array of d x d scores.
    best = jax.lax.fori_loop(1, size // 2 + 1, with_shifted, jnp.zeros_like(a), unroll=8)
    p, index = jnp.argmax(best, axis=1)[:, None], jnp.arange(size)[None]
    of_p = score(*(jnp.take_along_axis(rows, p, axis=1) for rows in (a, c)))
    of_p = jnp.where(index == p, 0, of_p)
    q = jnp.argmax(of_p, axis=1)[:, None]
    found = of_p.max(axis=1, keepdims=True) > 0
    return (((index == p) | (index == q)) & found).reshape(domain.shape)


def _unit(rows: Array) -> Array:
    """Divides each row f32[B, d] by its largest |entry|, so that products do not underflow."""
    largest = norms.norm(rows, "linf")[:, None]
    return rows / or_one(largest)
