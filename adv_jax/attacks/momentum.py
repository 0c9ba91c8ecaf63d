"""Gradient ascent with momentum, for examples that transfer to other models."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from adv_jax import norms
from adv_jax.attacks._attack import attack
from adv_jax.attacks._region import Region
from adv_jax.attacks._traits import ITERATED
from adv_jax.loss_gradients import RateFn, rate_fn, with_gradient
from adv_jax.losses import LOSSES
from adv_jax.perturbations import moved, of_units
from adv_jax.random import row_keys, split_rows
from adv_jax.types import Array, Bounds, Key, LogitsFn, Mask, Norm, RowFn, RowTree, working_dtype

Carry = tuple[Array, Array, Array | None, Array]  # r, the momentum, the variance, x + r
VarianceFn = Callable[[Array, Array, Any], Array]  # x + r, its gradient, key[B] -> f[B, *D]


@attack(
    rank=ITERATED, ranges={"decay": "[0, inf)"}, row_ranges={"step_size": "[0, inf)"}, losses=LOSSES
)
def mi_fgsm(
    logits_fn: LogitsFn,
    x: Array,
    y: RowTree | None,
    *,
    eps: ArrayLike,
    step_size: ArrayLike | None = None,
    num_steps: int = 10,
    decay: ArrayLike = 1.0,
    norm: Norm = "linf",
    loss: str | RowFn = "cross_entropy",
    bounds: Bounds | None = None,
    mask: Mask | None = None,
    aux: RowTree | None = None,
    targeted: bool = False,
    key: Key | None = None,
) -> Array:
    """Momentum iterative method (MI-FGSM): steps along a decaying sum of normalized gradients.

        g_{t+1} = decay * g_t + grad loss(x_t, y) / ||grad loss(x_t, y)||_1,
        x_{t+1} = P(x_t + step_size * argmax_{||r|| <= 1} <g_{t+1}, r>),

    P projects onto the ball around x, then clips to the bounds. The result is the last point: the
    attack is for examples that transfer, and the point of highest loss on the source transfers
    less. With a decay of 0 it is `bim` with steps of eps / num_steps.

    M-DI-FGSM is this attack on `input_diversity(logits_fn)`, TI-MI-FGSM on
    `translation_invariance(logits_fn)`; both wrappers compose.

    Args:
      eps: radius of the ball, as in `fgsm`.
      step_size: length of one step, f32[] or f32[B], in the same units, those of the feature of
        largest eps; None: eps / num_steps.
      num_steps: gradients, >= 1.
      decay: factor of the momentum, f32[], >= 0.
      norm: "linf", "l2", "l1", "rms" or an alias (`norms.canonical`).
      loss: as in `pgd`.
      logits_fn, x, y, bounds, mask, aux, targeted: as in `fgsm`.
      key: not used; every attack accepts one.

    Returns:
      f[B, *D] in the dtype of x, constant: it carries no gradient.

    Raises:
      UserError: num_steps or decay out of range; and as `fgsm`.

    Source: [dong2018], Algorithm 1; sec. 3.3 (l2).

    >>> import jax.numpy as jnp
    >>> w = jnp.array([[1., -1.], [2., 0.]])
    >>> mi_fgsm(lambda x: x @ w, jnp.array([[.5, .5]]), jnp.array([0]), eps=.1)
    Array([[0.4, 0.4]], dtype=float32)
    """
    region = Region.of(x, eps, norm, bounds, mask)
    rate = rate_fn(loss, logits_fn, x, y, targeted=targeted)
    step = _step(step_size, num_steps, region)
    return _ascent(rate, region, step, decay, num_steps)


@attack(
    rank=ITERATED,
    needs_key=True,
    ranges={"decay": "[0, inf)", "beta": "[0, inf)"},
    row_ranges={"step_size": "[0, inf)"},
    losses=LOSSES,
)
def vmi_fgsm(
    logits_fn: LogitsFn,
    x: Array,
    y: RowTree | None,
    *,
    eps: ArrayLike,
    step_size: ArrayLike | None = None,
    num_steps: int = 10,
    decay: ArrayLike = 1.0,
    num_neighbors: int = 20,
    beta: ArrayLike = 1.5,
    norm: Norm = "linf",
    loss: str | RowFn = "cross_entropy",
    bounds: Bounds | None = None,
    mask: Mask | None = None,
    aux: RowTree | None = None,
    targeted: bool = False,
    key: Key | None = None,
) -> Array:
    """Variance tuning (VMI-FGSM): `mi_fgsm` on gradients corrected by those of random neighbors.

        g_{t+1} = decay * g_t + (grad loss(x_t, y) + v_t) / ||grad loss(x_t, y) + v_t||_1,
        v_{t+1} = mean_i grad loss(x_t + n_i, y) - grad loss(x_t, y),   v_0 = 0,

    n_i are drawn uniformly from the ball of radius beta * eps. As in the paper, the neighbors are
    not clipped to the bounds. With a beta of 0 it is `mi_fgsm`.

    Args:
      eps, step_size, num_steps, decay, norm, loss: as in `mi_fgsm`.
      num_neighbors: gradients beside each point, >= 1: num_steps * (1 + num_neighbors) in all.
      beta: radius of the neighbors' ball / eps, f32[], >= 0.
      logits_fn, x, y, bounds, mask, aux, targeted: as in `fgsm`.
      key: for the neighbors: one key, or key[B], one per row.

    Returns:
      f[B, *D] in the dtype of x, constant: it carries no gradient.

    Raises:
      UserError: num_neighbors or beta out of range; no key; and as `mi_fgsm`.

    Source: [wang2021], Algorithm 1.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> w = jnp.array([[1., -1.], [2., 0.]])
    >>> x, y = jnp.array([[.5, .5]]), jnp.array([0])
    >>> vmi_fgsm(lambda x: x @ w, x, y, eps=.1, key=jax.random.key(0))
    Array([[0.4, 0.4]], dtype=float32)
    """
    keys = split_rows(row_keys(key, x.shape[0]), num_steps)
    region = Region.of(x, eps, norm, bounds, mask)
    rate = rate_fn(loss, logits_fn, x, y, targeted=targeted)
    step = _step(step_size, num_steps, region)
    reach = jnp.asarray(beta, region.radius.dtype) * region.radius
    largest = float(jnp.finfo(x.dtype).max)

    def variance(point: Array, gradient: Array, keys: Key) -> Array:
        around = region._replace(x=point, radius=reach, bounds=(-largest, largest))

        def add(mean: Array, keys: Key) -> tuple[Array, None]:
            near = with_gradient(rate, moved(point, around.drawn(keys)))[1]
            # At a neighbor far away the model may overflow: it counts as the point itself.
            near = jnp.where(jnp.isfinite(near), near, gradient)
            return mean + (near - gradient) / num_neighbors, None

        keys = split_rows(keys, num_neighbors)
        return jax.lax.scan(add, jnp.zeros_like(gradient), keys)[0]

    return _ascent(rate, region, step, decay, num_steps, variance, keys)


def _step(step_size: ArrayLike | None, num_steps: int, region: Region) -> Array:
    """Returns the length of a step, f32[1 or B, 1, ..., 1]."""
    if step_size is None:
        return region.radius / jnp.asarray(num_steps, region.radius.dtype)
    return norms.per_row("step_size", step_size, region.x)


def _ascent(
    rate: RateFn,
    region: Region,
    step: Array,
    decay: ArrayLike,
    num_steps: int,
    variance_at: VarianceFn | None = None,
    keys: Key | None = None,
) -> Array:
    """Returns the last point of `mi_fgsm`, or of `vmi_fgsm` if it gets the variance.

    keys: key[num_steps, B].
    """

    def climb(carry: Carry, keys: Key | None) -> tuple[Carry, None]:
        r, momentum, variance, point = carry
        gradient = with_gradient(rate, point)[1]
        along = gradient if variance is None else gradient + variance
        # The gradient by r / scale, divided by its l1 norm, which is the step under l0.
        unit = norms.dual(of_units(along, region.scale), "l0")
        momentum = jnp.asarray(decay, unit.dtype) * momentum + unit
        if variance_at is not None:
            variance = variance_at(point, gradient, keys)
        r = region.nearest(r + step * of_units(norms.dual(momentum, region.norm), region.scale))
        return (r, momentum, variance, moved(region.x, r)), None

    zero = jnp.zeros_like(region.x, working_dtype(region.x.dtype))
    first = zero, zero, None if variance_at is None else zero, region.x
    (r, *_), _ = jax.lax.scan(climb, first, keys, length=num_steps)
    return region.perturbed(r)
