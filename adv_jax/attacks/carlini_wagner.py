"""Carlini and Wagner's l2 attack: the smallest perturbation, by Adam on a tanh parametrization."""

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from adv_jax import norms
from adv_jax.attacks._attack import attack
from adv_jax.attacks._best import Shortest
from adv_jax.attacks._lengths import typical_length
from adv_jax.attacks._penalty import first_const, search
from adv_jax.attacks._region import Region
from adv_jax.attacks._traits import ITERATED
from adv_jax.checks import check_box, checked_logits
from adv_jax.loss_gradients import Rated, labels_at, margin, rated, with_gradient
from adv_jax.perturbations import in_units, limits, or_one, perturbed, spread, without_fixed
from adv_jax.types import Array, Bounds, Key, LogitsFn, Mask, RowTree, widened

INITIAL_CONST = 1e-3  # in squares of the width of the bounds
MAX_TANH = 1 - 1e-6  # largest |tanh| to start from: at 1 the gradient is 0


@attack(
    norm="l2",
    rank=ITERATED,
    minimal=True,
    row_ranges={
        "initial_const": "(0, inf)",
        "learning_rate": "(0, inf)",
        "confidence": "[0, inf)",
    },
    check=lambda settings: check_box(settings["bounds"], needed_by="carlini_wagner"),
)
def carlini_wagner(
    logits_fn: LogitsFn,
    x: Array,
    y: Array | None,
    *,
    bounds: Bounds | None = None,
    mask: Mask | None = None,
    confidence: ArrayLike = 0.0,
    search_steps: int = 9,
    num_steps: int = 1000,
    learning_rate: ArrayLike = 1e-2,
    initial_const: ArrayLike | None = None,
    eps: ArrayLike | None = None,
    aux: RowTree | None = None,
    targeted: bool = False,
    key: Key | None = None,
) -> Array:
    """Carlini and Wagner's l2 attack: the smallest perturbation that reaches a logit margin.

        minimize |r|_2^2 + c * max(confidence - margin(x + r, y), 0)   over w,
        x + r = (hi + lo) / 2 + (hi - lo) / 2 * tanh(w),

    margin = largest other logit - logit_y, negated if targeted. c is searched row by row for the
    shortest r with a margin above `confidence`, over all iterates. A row that has this margin at
    x, or never, is returned unchanged. The defaults are the authors'; on an MNIST net trained
    without attacks, num_steps=200 with learning_rate=.05 costs a fifth and finds perturbations
    .4 % longer (24 digits, untargeted).

    Args:
      bounds: (lo, hi), as in `fgsm`, finite; required.
      confidence: the margin to exceed, f32[] or f32[B], >= 0, in units of the logits.
      search_steps: values of c, >= 1.
      num_steps: gradients for each c, >= 1.
      learning_rate: of Adam on w, f32[] or f32[B], > 0.
      initial_const: the first c, f32[] or f32[B], > 0, in squared units of x (of eps, if that is of
        each feature); None: .001 times the squared width of the bounds.
      eps: None: the perturbation found; f32[] or f32[B], >= 0: projected onto that l2 ball; or the
        radius of each feature, as in `fgsm`, in units of which |r|_2 is smallest.
      logits_fn, x, y, mask, aux, targeted, key: as in `fgsm`.

    Returns:
      f[B, *D] in the dtype of x, constant: it carries no gradient.

    Raises:
      UserError: bounds=None or infinite; num_steps, search_steps, confidence, learning_rate or
        initial_const out of range; and as `fgsm`.

    Source: [carlini2017], sec. V-A, V-B and VI-A, loss f_6; the numbers of steps and the
    search from their public program, but without its early stop, which looks at a whole batch.

    >>> import jax.numpy as jnp
    >>> w = jnp.array([[1., -1.], [2., 0.]])  # Equal logits where 2 x_0 + 2 x_1 = 0.
    >>> x = jnp.array([[.5, .5]])
    >>> x_adv = carlini_wagner(lambda x: x @ w, x, jnp.array([0]), bounds=(-1., 1.), num_steps=100)
    >>> jnp.round(x_adv, 1) + 0
    Array([[0., 0.]], dtype=float32)
    """
    region = Region.of(x, eps, "l2", bounds, mask)
    scale, unit = region.scale, region.units(eps)
    confidence = norms.per_row("confidence", confidence, x).ravel()
    y = labels_at(logits_fn, x, y, targeted=targeted)
    sign = -1 if targeted else 1
    origin = widened(x)
    length = typical_length(x, bounds, unit)
    unit = length if unit is None else unit * length
    assert bounds is not None  # `check_box` refuses None.
    lo, hi = limits(origin, bounds)
    middle, half = (hi + lo) / 2, (hi - lo) / 2
    if scale is not None:
        middle, half = jnp.where(scale == 0, origin, middle), without_fixed(half, scale)
    share = (origin - middle) / or_one(half)
    start = jnp.arctanh(jnp.clip(share, -MAX_TANH, MAX_TANH))
    adam = optax.adam(norms.per_row("learning_rate", learning_rate, x))
    nothing = Shortest.none(origin)

    def beyond(logits: Array) -> Array:
        return sign * margin(logits, y) - confidence.astype(logits.dtype)

    def rate(point: Array) -> Rated:
        logits = checked_logits(logits_fn(point), batch=x.shape[0])
        return rated(lambda logits: jnp.minimum(beyond(logits), 0), logits, beyond(logits) > 0)

    def attempt(const: Array) -> Shortest:
        const = spread(const, x)

        def step(carry: tuple, _: None) -> tuple[tuple, None]:
            w, state, best = carry
            r, pull = jax.vjp(lambda w: middle + half * jnp.tanh(w) - origin, w)
            point = perturbed(x, r, bounds)
            at, gradient = with_gradient(rate, point)
            best = best.or_shorter(Shortest.of(r, region.length(r), at.fools))
            gradient = jnp.where(half == 0, 0, gradient)  # else 0 * inf, of a feature that is fixed
            (slope,) = pull(2 * in_units(in_units(r, unit), unit) - const * gradient)
            with jax.numpy_dtype_promotion("standard"):  # optax raises floats to integer powers
                updates, state = adam.update(slope, state)
            return (optax.apply_updates(w, updates), state, best), None

        carry = start, adam.init(start), nothing
        (_, _, best), _ = jax.lax.scan(step, carry, length=num_steps)
        return best

    unmoved = Shortest.of(nothing.r, jnp.zeros_like(nothing.length), rate(x).fools)
    first = first_const(initial_const, INITIAL_CONST, length)
    r = search(attempt, unmoved, initial_const=first, search_steps=search_steps)
    return region.perturbed(r)
