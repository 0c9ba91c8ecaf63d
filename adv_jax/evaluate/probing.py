"""Whether a model can be attacked along its gradients: a few looks at it, without an attack."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from adv_jax import norms
from adv_jax.attacks._contract import inside, log_odds, moved
from adv_jax.types import Array, Bounds, LogitsFn

# Shares of a row's largest |logit|: what counts as another answer, which the rounding of bfloat16
# does not reach, and the least change that tells a slope, which that of TensorFloat-32 does not.
_OTHER, _VISIBLE = 0.05, 1e-3
# Share of the length of a row: small beside what changes its class, large beside the rounding of
# pixels to 8 bits, through which a straight-through gradient is right on average only.
_STEP = 5e-3
_FOLLOWED = 0.1  # of the change that a gradient promises, what has to come at least


class Step(NamedTuple):
    """One step up the log odds, of a size in this norm and cut to these bounds."""

    norm: str
    bounds: Bounds | None


def probe(
    logits_fn: LogitsFn, x: Array, y: Array, eps: Array, *, steps: Sequence[Step] = ()
) -> dict[str, Array]:
    """Signs that gradients do not lead an attack, row by row: bool[B] each.

        zero_gradient  the gradient of the cross-entropy by x is 0, or rounds to 0 on most devices
        saturated      so is already the one by the logits: a margin of 87 nats is beyond float32
        random         asked twice, the model gives two answers
        batch          it gives another answer for the row behind rows that are all the same
        misleading     a small step along the gradient, there and back, does a tenth of what it
                       promises, or less; not told of rows with one of the two signs above

    and, where there are steps,

        one_step       i32[S, E, B], the class after each of them: FGSM that no saturation stops

    It takes a backward pass and forward passes of B, of 4 B and of S E B rows.

    Args:
      logits_fn, x, y: as in `evaluate`, for a batch f[B, *D] and i32[B].
      eps: the sizes of the steps, f[E].
      steps: S of them.

    Sources: Athalye, Carlini & Wagner 2018, sec. 3 (shattered, stochastic, vanishing gradients);
    [carlini2016] (saturation).
    """
    dtype = norms.working_dtype(x.dtype)
    logits, pullback = jax.vjp(logits_fn, x)
    values = logits.astype(dtype)
    odds, odds_pullback = jax.vjp(lambda logits: log_odds(logits, y), values)
    # The gradient by the logits is that of the log odds, of size 1 however sure the model is, times
    # 1 - p_y: as p - onehot, a compiled softmax would leave 1e-8 where 1 - p_y is 0.
    (slope,) = odds_pullback(jnp.ones_like(odds))
    wrong = norms.per_row("1 - p_y", jax.nn.sigmoid(odds), x)
    gradient = pullback(slope.astype(logits.dtype))[0].astype(dtype)
    length = norms.per_row("length", _STEP * norms.norm(x, "l2"), x)
    step = length * norms.dual(gradient, "l2")
    ahead, behind = moved(x, step), moved(x, -step)
    same = jnp.broadcast_to(x[:1], x.shape)
    _, again, far, near = jnp.split(logits_fn(jnp.concatenate([same, x, ahead, behind])), 4)

    size = norms.norm(logits, "linf")
    random = norms.norm(logits_fn(x) - logits, "linf") > _OTHER * size
    batch = norms.norm(again - logits, "linf") > _OTHER * size
    promised = _dot(gradient, ahead.astype(dtype) - behind.astype(dtype))
    visible = jnp.maximum(_VISIBLE, 16 * jnp.finfo(logits.dtype).eps) * size
    told = promised > visible
    misleading = told & (_dot(slope, far - near) < _FOLLOWED * promised)
    saturated = _vanishes((wrong.reshape(-1, 1) * slope).astype(logits.dtype))
    stepped = {"one_step": _one_step(logits_fn, x, gradient, eps, steps)} if steps else {}
    return {
        "zero_gradient": saturated | _vanishes(wrong * gradient),
        "saturated": saturated,
        "random": random,
        "batch": batch & ~random,
        "misleading": misleading & ~batch & ~random,
        **stepped,
    }


def _one_step(
    logits_fn: LogitsFn, x: Array, gradient: Array, eps: Array, steps: Sequence[Step]
) -> Array:
    """Classes after each step, at each size f[E]: i32[S, E, B]."""
    units = jnp.stack([norms.dual(gradient, step.norm) for step in steps])
    boxes = jnp.stack([_box(x, step.bounds) for step in steps])

    def label(unit: Array, box: Array, size: Array) -> Array:
        return jnp.argmax(logits_fn(moved(x, jnp.clip(size * unit, *box))), axis=1)

    def at_sizes(step: tuple[Array, Array]) -> Array:
        return jax.lax.map(partial(label, *step), eps)

    return jax.lax.map(at_sizes, (units, boxes))


def _box(x: Array, bounds: Bounds | None) -> Array:
    """The least and the largest r with x + r inside the bounds: f[2, B, *D]."""
    far = jnp.full(x.shape, jnp.inf, norms.working_dtype(x.dtype))
    return jnp.stack([inside(x, -far, bounds), inside(x, far, bounds)])


def _vanishes(gradient: Array) -> Array:
    """Rows with no normal number, which is what devices keep: f[B, ...] -> bool[B]."""
    tiny = jnp.finfo(norms.working_dtype(gradient.dtype)).tiny
    return norms.norm(gradient, "linf") < tiny


def _dot(a: Array, b: Array) -> Array:
    """<a, b> of each row: f[B, *D], f[B, *D] -> f[B]."""
    return (a * b).reshape(a.shape[0], -1).sum(axis=1)
