"""Probes for gradient masking, by a few forward passes and two backward passes."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from adv_jax import norms
from adv_jax.attacks.defenses import declared, fixed_draws
from adv_jax.checks import finite_rows
from adv_jax.loss_gradients import without_nan
from adv_jax.losses import log_odds
from adv_jax.perturbations import dot, inside, moved, spread
from adv_jax.types import Array, Bounds, LogitsFn, working_dtype

# Relative to a row's largest |logit|: a different output (above bfloat16 rounding), and the
# smallest measurable change (above TensorFloat-32 rounding).
_OTHER, _VISIBLE = 0.05, 1e-3
# Length of the probing step, relative to the row: below changes of class, above the rounding of
# pixels to 8 bits, across which a straight-through gradient is only correct on average.
_STEP = 5e-3
_FOLLOWED = 0.1  # smallest share of the predicted change of a gradient that is not misleading


class Step(NamedTuple):
    """One step up the log odds, of each size `eps` in `norm`, clipped to `bounds`."""

    norm: str
    bounds: Bounds | None
    eps: tuple[float, ...]


def probe(
    logits_fn: LogitsFn, x: Array, y: Array, *, steps: Sequence[Step] = ()
) -> dict[str, Array]:
    """Returns signs of gradient masking, row by row: bool[B] each.

        nan_gradient   the gradient of the log odds by x has NaN entries
        zero_gradient  the gradient of the cross-entropy by x is 0, or rounds to 0 on most devices;
                       False for rows with NaN
        saturated      the gradient by the logits is 0 already: a margin above 87 nats
        random         two evaluations of the model differ
        batch          the output differs in a batch with other rows
        misleading     a small step along +-gradient changes the logits by a tenth of the
                       prediction or less; False for rows that are random or depend on the batch.
                       `attacks.straight_through` is replaced by its backward, which must give the
                       same class, and `attacks.expectation` draws the same numbers everywhere

    and, if there are steps,

        one_step       i32[S, E, B], the class after each step: FGSM on the log odds, which do not
                       saturate; -1 where a logit is not finite

    It takes two backward passes and forward passes of B, 2 B, 2 B and S E B rows.

    Args:
      logits_fn, x, y: as in `evaluate`, for a batch f[B, *D] and i32[B].
      steps: S of them, of E sizes each.

    Sources: [athalye2018], sec. 3 (shattered, stochastic, vanishing gradients);
    [carlini2016] (saturation).
    """
    dtype = working_dtype(x.dtype)
    logits, slope, gradient = _climb(logits_fn, x, y)
    unknown = jnp.isnan(gradient).reshape(len(x), -1)
    gradient = without_nan(gradient, logits)
    # The gradient by the logits is that of the log odds times 1 - p_y. As p - onehot, a compiled
    # softmax would leave 1e-8 where 1 - p_y is 0.
    wrong = jax.nn.sigmoid(log_odds(logits.astype(dtype), y))
    values = _changes(logits_fn, x, logits)
    misleading = _misleads(logits_fn, x, y)
    saturated = _vanishes(wrong[:, None] * slope)
    stepped = {"one_step": _one_step(logits_fn, x, gradient, steps)} if steps else {}
    vanishes = _vanishes(spread(wrong, x) * gradient)
    return {
        "nan_gradient": unknown.any(axis=1),
        "zero_gradient": saturated | vanishes & ~unknown.any(axis=1),
        "saturated": saturated,
        **values,
        "misleading": misleading & ~values["batch"] & ~values["random"],
        **stepped,
    }


def probe_values(logits_fn: LogitsFn, x: Array) -> dict[str, Array]:
    """Returns "random" and "batch" of `probe`, by forward passes alone: bool[B] each."""
    return _changes(logits_fn, x, logits_fn(x))


def _changes(logits_fn: LogitsFn, x: Array, logits: Array) -> dict[str, Array]:
    """`probe_values`, given the logits at x."""
    # Not copies of a row of x: x may be one row, or equal rows.
    others = jnp.broadcast_to(x[:1] * 0.5, x.shape)
    _, again = jnp.split(logits_fn(jnp.concatenate([others, x])), 2)
    limit = _OTHER * norms.norm(logits, "linf")
    random = norms.norm(logits_fn(x) - logits, "linf") > limit
    return {"random": random, "batch": (norms.norm(again - logits, "linf") > limit) & ~random}


def _climb(logits_fn: LogitsFn, x: Array, y: Array) -> tuple[Array, Array, Array]:
    """Returns the logits, and the gradients of the log odds by the logits and by x."""
    dtype = working_dtype(x.dtype)
    logits, pullback = jax.vjp(logits_fn, x)
    odds, odds_pullback = jax.vjp(lambda logits: log_odds(logits, y), logits.astype(dtype))
    (slope,) = odds_pullback(jnp.ones_like(odds))
    return logits, slope, pullback(slope.astype(logits.dtype))[0].astype(dtype)


def _misleads(logits_fn: LogitsFn, x: Array, y: Array) -> Array:
    """Returns `probe`'s misleading, bool[B], of the model with its declared derivatives."""
    dtype = working_dtype(x.dtype)
    with fixed_draws(True):
        logits = logits_fn(x)
    with fixed_draws(True), declared(True):
        at_x, slope, gradient = _climb(logits_fn, x, y)
        gradient = without_nan(gradient, at_x)
        length = spread(_STEP * _size(x), x)
        step = length * norms.dual(gradient, "l2")
        ahead, behind = moved(x, step), moved(x, -step)
        far, near = jnp.split(logits_fn(jnp.concatenate([ahead, behind])), 2)
    predicted = dot(gradient, ahead.astype(dtype) - behind.astype(dtype))
    visible = jnp.maximum(_VISIBLE, 16 * float(jnp.finfo(logits.dtype).eps))
    measurable = predicted > visible * norms.norm(at_x, "linf")
    # A declared derivative is that of another function, which must answer as the model does.
    differs = jnp.argmax(at_x, axis=1) != jnp.argmax(logits, axis=1)
    changed = dot(slope, (far - near).astype(slope.dtype))
    return differs | measurable & (changed < _FOLLOWED * predicted)


def _size(x: Array) -> Array:
    """Returns sqrt(n) times the geometric mean of the n entries of each row that are not 0: f32[B].

    It is close to the l2 norm, but not that of the one feature with the largest numbers.
    """
    rows = jnp.abs(x.reshape(len(x), -1)).astype(working_dtype(x.dtype))
    some = rows > 0
    count = jnp.maximum(some.sum(axis=1).astype(rows.dtype), 1)
    logs = jnp.where(some, jnp.log(jnp.where(some, rows, 1)), 0).sum(axis=1) / count
    return jnp.where(some.any(axis=1), jnp.sqrt(count) * jnp.exp(logs), 0)


def _one_step(logits_fn: LogitsFn, x: Array, gradient: Array, steps: Sequence[Step]) -> Array:
    """Returns `probe`'s one_step, at each size of each step: i32[S, E, B]."""
    units = jnp.stack([norms.dual(gradient, step.norm) for step in steps])
    boxes = jnp.stack([_box(x, step.bounds) for step in steps])

    def label(unit: Array, box: Array, size: Array) -> Array:
        logits = logits_fn(moved(x, jnp.clip(size * unit, *box)))
        return jnp.where(finite_rows(logits), jnp.argmax(logits, axis=1), -1)

    def at_sizes(step: tuple[Array, Array, Array]) -> Array:
        unit, box, eps = step
        return jax.lax.map(partial(label, unit, box), eps)

    eps = jnp.asarray([step.eps for step in steps], working_dtype(x.dtype))
    return jax.lax.map(at_sizes, (units, boxes, eps))


def _box(x: Array, bounds: Bounds | None) -> Array:
    """Returns the smallest and largest r with x + r inside the bounds: f[2, B, *D]."""
    far = jnp.full(x.shape, jnp.inf, working_dtype(x.dtype))
    return jnp.stack([inside(x, -far, bounds), inside(x, far, bounds)])


def _vanishes(gradient: Array) -> Array:
    """Returns the rows without a normal number, or with NaN: f[B, ...] -> bool[B].

    Devices flush other numbers to 0.
    """
    tiny = jnp.finfo(working_dtype(gradient.dtype)).tiny
    return ~(norms.norm(gradient, "linf") >= tiny)
