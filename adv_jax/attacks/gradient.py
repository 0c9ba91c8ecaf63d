"""Attacks by one step along the gradient of the loss by the input."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from adv_jax import norms
from adv_jax.attacks._attack import attack
from adv_jax.attacks._region import Region
from adv_jax.attacks._traits import ONE_STEP
from adv_jax.checks import ball
from adv_jax.loss_gradients import loss_gradient, with_gradient
from adv_jax.losses import LOSSES
from adv_jax.perturbations import inside, of_units, perturbed
from adv_jax.types import Array, Bounds, Key, LogitsFn, Mask, Norm, RowFn, RowTree


@attack(rank=ONE_STEP, losses=LOSSES)
def fgsm(
    logits_fn: LogitsFn,
    x: Array,
    y: RowTree | None,
    *,
    eps: ArrayLike,
    norm: Norm = "linf",
    length: Norm | None = None,
    loss: str | RowFn = "cross_entropy",
    bounds: Bounds | None = None,
    mask: Mask | None = None,
    aux: RowTree | None = None,
    targeted: bool = False,
    constant: bool = True,
    key: Key | None = None,
) -> Array:
    """Fast gradient method: one step of length eps that maximizes the linearized loss.

        x_adv = x + eps * u,   u = argmax_{||r|| <= 1} <grad_x loss(x, y), r>

    linf is the fast gradient sign method, x + eps * sign(grad). l2, linf and l1 are Huang's
    Adv_Loss, and linf with the length l2 is his Adv_Loss_Sign, x + eps * u / ||u||_2. linf, l2 and
    rms are Maronas' SGN, 1N and qN (28N on MNIST) with eps = tau. Where the gradient is exactly 0,
    as at margins above 90 nats in float32, x is returned unchanged. A NaN entry counts as 0 here
    and in all attacks; the audit of `adv_jax.evaluate` reports it.

    Args:
      logits_fn: f32[B, *D] -> f32[B, K], logits, not probabilities; rows must not interact.
      x: f[B, *D], inside `bounds`.
      y: i32[B] or f32[B, K], the label to leave, or to reach if targeted; None: the prediction.
      eps: length of the step, f32[] or f32[B], >= 0, in units of x and of the norm. An array of the
        rank of x that broadcasts to it is the radius of each feature: the ball is ||r / eps|| <= 1,
        and the step eps * argmax_{||u|| <= 1} <eps * grad, u>. A feature of eps 0 does not move.
      norm: of the unit ball: "linf", "l2", "l1", "rms" or an alias (`norms.canonical`).
      length: the norm in which eps is measured; None: `norm`.
      loss: "cross_entropy" of a softmax, or "binary_cross_entropy" or "squared_error" of K logistic
        outputs (`adv_jax.losses`); or a function (outputs, y) -> f[B], where outputs are what
        logits_fn returns, any tree of arrays, floats of 16 bits as float32, and y is None or any
        tree of arrays f[B, ...].
      bounds: (lo, hi) of the input, numbers or arrays that broadcast to x by NumPy's rules; None:
        no clipping, as in the papers.
      mask: bool or 0 and 1, broadcast to x by NumPy's rules: the features that may change, within
        the ball of these features; elsewhere x is returned bit for bit. None: all.
      aux: side inputs of the rows, a tree of arrays f[B, ...], for a model that is called as
        logits_fn(x, aux); None: logits_fn(x).
      targeted: y is the class to reach: descend its loss.
      constant: detach the result. Else it is differentiable by x and by what logits_fn closes
        over, Theano's default; the derivative of sign is 0.
      key: not used; every attack accepts one.

    Returns:
      f[B, *D] in the dtype of x.

    Raises:
      UserError: unknown norm or loss; x, y, eps or the logits of a wrong shape, dtype or range,
        see `adv_jax.checks`; targeted without y; a function for loss that at x is not finite, or
        has a gradient of NaN.

    Sources: [goodfellow2015], sec. 4; [huang2015], sec. 6.1.1;
    [maronas2016], eq. 56, 58, 59 (printed without tau).

    >>> import jax.numpy as jnp
    >>> w = jnp.array([[1., -1.], [2., 0.]])
    >>> fgsm(lambda x: x @ w, jnp.array([[.5, .5]]), jnp.array([0]), eps=.1)
    Array([[0.4, 0.4]], dtype=float32)
    """
    region = Region.of(x, eps, norm if length is None else length, bounds, mask)
    gradient = _gradient(logits_fn, x, y, targeted=targeted, loss=loss)
    unit = norms.dual(gradient, norm, region.scale)
    if length is not None:
        unit = norms.rescaled(unit, length, region.scale)
    return _perturbed(x, region.radius * unit, bounds, constant=constant)


@attack(size="tau", rank=ONE_STEP, losses=LOSSES)
def raw_gradient(
    logits_fn: LogitsFn,
    x: Array,
    y: RowTree | None,
    *,
    tau: ArrayLike,
    loss: str | RowFn = "cross_entropy",
    bounds: Bounds | None = None,
    mask: Mask | None = None,
    aux: RowTree | None = None,
    targeted: bool = False,
    constant: bool = True,
    key: Key | None = None,
) -> Array:
    """Returns x + tau * grad_x loss(x, y), Maronas' UDG ("using directly the gradient").

    The loss is of each row; a paper that differentiates the batch mean has a tau B times as large.
    The size of the perturbation is not bounded.

    Args:
      tau: factor of the gradient, f32[] or f32[B], >= 0, in squared units of x, or of each feature.
      logits_fn, x, y, loss, bounds, mask, aux, targeted, constant, key: as in `fgsm`.

    Returns:
      f[B, *D] in the dtype of x.

    Raises:
      UserError: x, y, tau or the logits of a wrong shape, dtype or range; targeted without y.

    Source: [maronas2016], eq. 57 (printed without tau).

    >>> import jax.numpy as jnp
    >>> w = jnp.array([[1., -1.], [2., 0.]])  # Equal logits: the gradient is w @ [-.5, .5].
    >>> raw_gradient(lambda x: x @ w, jnp.array([[0., 0.]]), jnp.array([0]), tau=.5)
    Array([[-0.5, -0.5]], dtype=float32)
    """
    factor, scale = ball(tau, x, "linf", mask=mask, name="tau")
    r = factor * of_units(_gradient(logits_fn, x, y, targeted=targeted, loss=loss), scale)
    limits = jnp.finfo(r.dtype)
    r = jnp.clip(r, limits.min, limits.max)  # inf - inf in _perturbed would be NaN.
    return _perturbed(x, r, bounds, constant=constant)


def _gradient(
    fn: Callable[..., Any], x: Array, y: Array | None, *, targeted: bool, loss: Any
) -> Array:
    """Returns the gradient to climb, f[B, *D]; without loss, fn rates (`Rated`)."""
    if loss is None:
        return with_gradient(fn, x)[1]
    return loss_gradient(fn, x, y, targeted=targeted, loss=loss)


def _perturbed(x: Array, r: Array, bounds: Bounds | None, *, constant: bool) -> Array:
    x_adv = perturbed(x, r, bounds)
    if constant:
        return x_adv
    # Subtract 0 (which keeps -0) with the derivatives of x and of the clipped r.
    r = inside(x, r, bounds)
    x_adv = x_adv - (jax.lax.stop_gradient(r) - r).astype(x.dtype)
    return x_adv - (jax.lax.stop_gradient(x) - x)
