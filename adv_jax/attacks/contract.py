"""What every attack promises, written once: its inputs, its gradient, its last operation.

The promises are tested for all attacks from one table in tests/attacks/test_contract.py.
"""

import jax
import jax.numpy as jnp
import optax

from adv_jax import norms
from adv_jax.types import Array, Bounds, LogitsFn


def as_batch(x: Array) -> Array:
    """x as a JAX array f[B, *D], constant, so that nothing is differentiated twice for nothing.

    Raises:
      ValueError: x is not floating point (integer pixels cannot take a small step), or no batch.
    """
    x = jnp.asarray(x)
    if x.ndim == 0 or not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"x must be a batch f32[B, *D] of floats, got {_describe(x)}")
    return jax.lax.stop_gradient(x)


def loss_gradient(logits_fn: LogitsFn, x: Array, y: Array | None, *, targeted: bool) -> Array:
    """Gradient, by x, of what a gradient attack climbs: f32[B, *D], one forward, one backward pass.

    That is each row's own cross-entropy of y, or minus it if targeted. Rows are summed, not
    averaged, so that a row's gradient does not depend on the size of the batch. The loss is
    float32 whatever the model computes in.

    Args:
      y: i32[B], f32[B, K], or None: what the model predicts at x (a virtual label).

    Raises:
      ValueError: logits or labels of a wrong shape; targeted without y.
    """
    if targeted and y is None:
        raise ValueError("targeted=True needs y, the class to reach, got y=None")

    def loss(x):
        logits = _checked_logits(logits_fn(x), batch=x.shape[0])
        labels = jnp.argmax(logits, axis=1) if y is None else jnp.asarray(y)
        sign = -1 if targeted else 1
        return sign * _cross_entropy(logits, labels).sum()

    return jax.grad(loss)(x).astype(norms.working_dtype(x.dtype))


def perturbed(x: Array, r: Array, bounds: Bounds | None) -> Array:
    """The last operation of every attack: x + r, clipped, in the shape and dtype of x, constant.

    If r is in a ball and x inside the bounds, then the result is inside both: rounding is
    towards x and so is clipping, coordinate by coordinate, and no norm grows when entries
    shrink. Where r is 0, x comes back bit for bit, even a -0.

    Args:
      x: f[B, *D], inside the bounds; this is checked where data come in, not in traced code.
      r: f32[B, *D], the perturbation, already in its ball.
      bounds: (lo, hi) as the dtype of x rounds them, or None for no clipping.
    """
    # Stopped at the door: what follows has no derivative, and nextafter would raise.
    x, r = jax.lax.stop_gradient((x, r))
    near = x.astype(r.dtype)
    dtype = jnp.finfo(x.dtype)
    # Explicit, since XLA may drop a cast to bfloat16 and back.
    far = jax.lax.reduce_precision(near + r, dtype.nexp, dtype.nmant)
    overshoots = jnp.abs(far - near) > jnp.abs(r)
    x_adv = far.astype(x.dtype)
    x_adv = jnp.where(overshoots, jnp.nextafter(x_adv, x), x_adv)
    if bounds is not None:
        x_adv = jnp.clip(x_adv, *(jnp.asarray(bound, x.dtype) for bound in bounds))
    return jnp.where(r == 0, x, x_adv)


def _checked_logits(logits: Array, *, batch: int) -> Array:
    """Logits f[B, K] as float32."""
    if not isinstance(logits, jax.Array):
        kind = type(logits).__name__
        raise ValueError(f"logits_fn must return one array of logits f32[B, K], got a {kind}")
    if logits.ndim != 2 or logits.shape[0] != batch:
        raise ValueError(
            f"logits_fn must return logits f32[B, K] with B = {batch}, got {_describe(logits)}"
        )
    return logits.astype(norms.working_dtype(logits.dtype))


def _cross_entropy(logits: Array, labels: Array) -> Array:
    """Cross-entropy of each row: f32[B, K], i32[B] or f32[B, K] -> f32[B]."""
    batch, classes = logits.shape
    if labels.shape == (batch, classes):
        return optax.softmax_cross_entropy(logits, labels)
    if labels.shape == (batch,) and jnp.issubdtype(labels.dtype, jnp.integer):
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    raise ValueError(
        f"y must be integers i32[B] or probabilities f32[B, K] with B = {batch}, K = {classes}, "
        f"got {_describe(labels)}"
    )


def _describe(array: Array) -> str:
    return f"{array.dtype.name}{list(array.shape)}"
