"""Whether a model can be attacked along its gradients: a few looks at it, without an attack."""

import jax
import jax.numpy as jnp

from adv_jax import norms
from adv_jax.attacks.contract import moved
from adv_jax.types import Array, LogitsFn

# Shares of a row's largest |logit|: what counts as another answer, which the rounding of bfloat16
# does not reach, and the least change that tells a slope, which that of TensorFloat-32 does not.
_OTHER, _VISIBLE = 0.05, 1e-3
# Share of the length of a row: small beside what changes its class, large beside the rounding of
# pixels to 8 bits, through which a straight-through gradient is right on average only.
_STEP = 5e-3
_FOLLOWED = 0.1  # of the change that a gradient promises, what has to come at least


def probe(logits_fn: LogitsFn, x: Array, y: Array) -> dict[str, Array]:
    """Signs that gradients do not lead an attack, row by row: bool[B] each.

        zero_gradient  the gradient of the cross-entropy by x is exactly 0
        saturated      so is already the one by the logits: 90 nats are beyond float32
        random         asked twice, the model gives two answers
        batch          it gives another answer for the row behind rows that are all the same
        misleading     a small step along the gradient, there and back, does a tenth of what it
                       promises, or less; not told of rows with one of the two signs above

    It takes a backward pass and forward passes of B and of 4 B rows.

    Args:
      logits_fn, x, y: as in `evaluate`, for a batch f[B, *D] and i32[B].

    Sources: Athalye, Carlini & Wagner 2018, sec. 3 (shattered, stochastic, vanishing gradients);
    Carlini & Wagner 2016, Defensive Distillation is Not Robust (saturation).
    """
    dtype = norms.working_dtype(x.dtype)
    logits, pullback = jax.vjp(logits_fn, x)
    # The slope of the cross-entropy by the logits. It is held fixed and the logits are compared
    # along it: of the loss itself, where the model is sure, float32 would keep nothing.
    slope = jax.nn.softmax(logits.astype(dtype)) - jax.nn.one_hot(y, logits.shape[1], dtype=dtype)
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
    told = promised > visible * norms.norm(slope, "linf")
    misleading = told & (_dot(slope, far - near) < _FOLLOWED * promised)
    return {
        "zero_gradient": norms.norm(gradient, "linf") == 0,
        "saturated": norms.norm(slope, "linf") == 0,
        "random": random,
        "batch": batch & ~random,
        "misleading": misleading & ~batch & ~random,
    }


def _dot(a: Array, b: Array) -> Array:
    """<a, b> of each row: f[B, *D], f[B, *D] -> f[B]."""
    return (a * b).reshape(a.shape[0], -1).sum(axis=1)
