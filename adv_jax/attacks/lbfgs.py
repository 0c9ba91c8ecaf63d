"""Attacks by box-constrained L-BFGS: on the class (Szegedy) and on features (Sabour)."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from adv_jax.attacks._attack import attack
from adv_jax.attacks._best import Shortest
from adv_jax.attacks._box_lbfgs import box_lbfgs
from adv_jax.attacks._lengths import search_length, typical_length
from adv_jax.attacks._penalty import first_const, search, squared
from adv_jax.attacks._region import Region
from adv_jax.attacks._traits import ITERATED
from adv_jax.checks import as_batch, ball, checked_logits, finite_rows
from adv_jax.loss_gradients import (
    Rated,
    labels_at,
    margin,
    rate_fn,
    rated,
    with_gradient,
)
from adv_jax.losses import classes, cross_entropy
from adv_jax.perturbations import in_units, inside, moved, of_units, perturbed, spread
from adv_jax.row_flags import note_flags
from adv_jax.types import (
    Array,
    Bounds,
    Key,
    LogitsFn,
    Mask,
    RowTree,
    UserError,
    described,
    described_array,
    working_dtype,
)

INITIAL_CONST = 1e-2  # in squares of the typical length


@attack(norm="l2", rank=ITERATED, minimal=True, row_ranges={"initial_const": "(0, inf)"})
def lbfgs(
    logits_fn: LogitsFn,
    x: Array,
    y: Array | None,
    *,
    bounds: Bounds | None = None,
    mask: Mask | None = None,
    num_steps: int = 50,
    search_steps: int = 5,
    initial_const: ArrayLike | None = None,
    eps: ArrayLike | None = None,
    aux: RowTree | None = None,
    targeted: bool = False,
    key: Key | None = None,
) -> Array:
    """Box-constrained L-BFGS: the smallest perturbation that fools the model.

        minimize |r|_2^2 + c * loss(x + r, y)   subject to   lo <= x + r <= hi,

    loss = -log p_y if targeted, else -log(1 - p_y) (the paper is always targeted; log p_y is
    unbounded below and leads far away). c is searched row by row for the shortest r that fools the
    model. A row that is fooled at x, or by no c, is returned unchanged.

    Args:
      num_steps: gradients per c, besides the one at x, >= 1.
      search_steps: values of c, >= 1.
      initial_const: the first c, f32[] or f32[B], > 0, in squared units of x (of eps, if that is of
        each feature); None: .01 times the squared width of the bounds, or without finite bounds the
        squared distance of the linearized boundary.
      eps: None: the perturbation found; f32[] or f32[B], >= 0: projected onto that l2 ball; or the
        radius of each feature, as in `fgsm`, in units of which |r|_2 is smallest.
      logits_fn, x, y, bounds, mask, aux, targeted, key: as in `fgsm`.

    Returns:
      f[B, *D] in the dtype of x, constant: it carries no gradient.

    Raises:
      UserError: num_steps, search_steps or initial_const out of range; and as `fgsm`.

    Sources: [szegedy2014], sec. 4.1, where c stands at the norm; the square and the
    search from [carlini2017], sec. III-A, and its public programs.

    >>> import jax.numpy as jnp
    >>> w = jnp.array([[1., -1.], [2., 0.]])  # Equal logits where 2 x_0 + 2 x_1 = 0.
    >>> x = jnp.array([[.5, .5]])
    >>> x_adv = lbfgs(lambda x: x @ w, x, jnp.array([0]), bounds=(-1., 1.), search_steps=9)
    >>> jnp.round(x_adv, 2) + 0
    Array([[0., 0.]], dtype=float32)
    """
    region = Region.of(x, eps, "l2", bounds, mask)
    unit = region.units(eps)
    y = labels_at(logits_fn, x, y, targeted=targeted)
    sign, loss = (-1, cross_entropy) if targeted else (1, _escape)
    rate = rate_fn(loss, logits_fn, x, y)
    unmoved = jnp.zeros_like(x, working_dtype(x.dtype))
    length = search_length(logits_fn, x, y, bounds, unit, targeted=targeted)
    unit = length if unit is None else unit * length
    lo, hi = (region.clipped(unmoved + side * jnp.inf) for side in (-1, 1))
    lo, hi = (in_units(a, unit) for a in (lo, hi))

    def tried(r: Array) -> Shortest:
        logits = checked_logits(logits_fn(perturbed(x, r, bounds)), batch=x.shape[0])
        return Shortest.of(r, region.length(r), sign * margin(logits, y) > 0)

    def attempt(const: Array) -> Shortest:
        const = spread(const, x)

        # In coordinates u = r / unit.
        def penalized(u: Array) -> tuple[Array, Array]:
            at, gradient = with_gradient(rate, moved(x, unit * u))
            return squared(u) + const.ravel() * at.loss, 2 * u + const * of_units(gradient, unit)

        return tried(unit * box_lbfgs(penalized, unmoved, lo, hi, num_steps=num_steps))

    first = first_const(initial_const, INITIAL_CONST, length)
    r = search(attempt, tried(unmoved), initial_const=first, search_steps=search_steps)
    return region.perturbed(r)


def _check_guide(given: Mapping[str, Any]) -> None:
    as_batch(given["guide"], given["bounds"], name="guide")


@attack(norm="linf", rank=ITERATED, logits=False, check=_check_guide)
def feature_adversary(
    features_fn: Callable[[Array], Array],
    x: Array,
    guide: Array,
    *,
    eps: ArrayLike,
    bounds: Bounds | None = None,
    mask: Mask | None = None,
    num_steps: int = 100,
    aux: RowTree | None = None,
    key: Key | None = None,
) -> Array:
    """Feature adversary: a point near x whose features match those of another input.

        minimize |features(x + r) - features(guide)|_2^2   subject to   |r|_inf <= eps, bounds,

    by box-constrained L-BFGS from r = 0. The first step has the width of the bounds as its l2 norm,
    or eps without finite bounds; with eps of each feature, in units of it.

    Args:
      features_fn: f32[B, *D] -> f32[B, *F], any layer of a network; rows must not interact.
      x: f[B, *D], inside `bounds`.
      guide: f[B, *D], inside `bounds`, the input whose features to match.
      eps: radius of the linf ball, as in `fgsm`.
      bounds, mask: as in `fgsm`.
      num_steps: gradients besides the one at x, >= 1.
      aux: side inputs of the rows, as in `fgsm`, for x and for guide.
      key: not used; every attack accepts one.

    Returns:
      f[B, *D] in the dtype of x, constant: it carries no gradient.

    Raises:
      UserError: num_steps below 1; x, guide or eps of a wrong shape, dtype or range; features of
        a wrong shape or dtype, or not finite at x or guide.

    Source: [sabour2016], eq. 1 and 2.

    >>> import jax.numpy as jnp
    >>> x, guide = jnp.array([[.5, .5]]), jnp.array([[.6, .9]])
    >>> feature_adversary(lambda x: 3 * x, x, guide, eps=.2)
    Array([[0.6, 0.7]], dtype=float32)
    """
    guide = as_batch(guide, name="guide")
    if guide.shape != x.shape:
        raise UserError(f"guide must have the shape of x, {described(x)}, got {described(guide)}")
    eps, scale = ball(eps, x, "linf", bounds, mask)
    dtype = working_dtype(x.dtype)
    goal = _checked_features(features_fn(guide), batch=x.shape[0]).astype(dtype)
    note_flags(lambda: {"features": finite_rows(features_fn(x)) & finite_rows(goal)})
    unmoved = jnp.zeros_like(x, dtype)
    length = typical_length(x, bounds, scale, eps)
    unit = length if scale is None else scale * length
    each = eps if scale is None else eps * scale
    box = (inside(x, unmoved + side * each, bounds) for side in (-1, 1))
    lo, hi = (in_units(a, unit) for a in box)

    def rate(point: Array) -> Rated:
        features = features_fn(point).astype(dtype)
        nobody = jnp.zeros_like(x, bool, shape=x.shape[:1])
        return rated(lambda features: squared(features - goal), features, nobody)

    # In coordinates u = r / unit.
    def distance(u: Array) -> tuple[Array, Array]:
        at, gradient = with_gradient(rate, moved(x, unit * u))
        return at.loss, of_units(gradient, unit)

    r = unit * box_lbfgs(distance, unmoved, lo, hi, num_steps=num_steps)
    return perturbed(x, jnp.clip(r, -each, each), bounds)


def _checked_features(features: Any, *, batch: int) -> Array:
    """Returns features; raises UserError unless they are floating point with a batch axis."""
    array = isinstance(features, jax.Array)
    floats = array and jnp.issubdtype(features.dtype, jnp.floating)
    if not floats or features.shape[:1] != (batch,):
        raise UserError(
            f"features_fn must return features f32[B, *F] with B = {batch}, "
            f"got {described_array(features)}"
        )
    return features


def _escape(logits: Array, y: Array) -> Array:
    """Returns -log(1 - p_y), the cross-entropy of all other classes together: f32[B]."""
    others = ~jax.nn.one_hot(classes(y), logits.shape[1], dtype=bool)
    return jax.nn.logsumexp(logits, axis=1) - jax.nn.logsumexp(logits, axis=1, where=others)
