"""Gradient ascent with momentum, for examples that transfer to other models."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from adv_jax import norms
from adv_jax.attacks._attack import attack
from adv_jax.attacks._climbing import row_loss
from adv_jax.attacks._region import Region
from adv_jax.attacks._traits import ITERATED
from adv_jax.checks import radius
from adv_jax.loss_gradients import rate_fn, with_gradient
from adv_jax.losses import LOSSES
from adv_jax.perturbations import moved, of_units
from adv_jax.types import Array, Bounds, Key, LogitsFn, Mask, Norm, RowFn, RowTree, working_dtype

Carry = tuple[Array, Array, Array]  # r, the momentum, x + r


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
      ValueError: num_steps or decay out of range; and as `fgsm`.

    Source: [dong2018], Algorithm 1; sec. 3.3 (l2).

    >>> import jax.numpy as jnp
    >>> w = jnp.array([[1., -1.], [2., 0.]])
    >>> mi_fgsm(lambda x: x @ w, jnp.array([[.5, .5]]), jnp.array([0]), eps=.1)
    Array([[0.4, 0.4]], dtype=float32)
    """
    region = Region.of(x, eps, norm, bounds, mask)
    rate = rate_fn(row_loss(loss, LOSSES), logits_fn, x, y, targeted=targeted)
    if step_size is None:
        step = region.radius / jnp.asarray(num_steps, region.radius.dtype)
    else:
        step = radius(step_size, x, norm, name="step_size")

    def climb(carry: Carry, _: None = None) -> tuple[Carry, None]:
        r, momentum, point = carry
        gradient = with_gradient(rate, point)[1]
        # The gradient by r / scale, divided by its l1 norm, which is the step under l0.
        unit = norms.dual(of_units(gradient, region.scale), "l0")
        momentum = jnp.asarray(decay, unit.dtype) * momentum + unit
        r = region.nearest(r + step * of_units(norms.dual(momentum, norm), region.scale))
        return (r, momentum, moved(x, r)), None

    zero = jnp.zeros_like(x, working_dtype(x.dtype))
    (r, _, _), _ = jax.lax.scan(climb, (zero, zero, x), length=num_steps)
    return region.moved(r)
