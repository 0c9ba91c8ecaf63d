"""One perturbation for all inputs."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from adv_jax import norms
from adv_jax.attacks._attack import attack
from adv_jax.attacks._region import Region
from adv_jax.attacks._traits import ITERATED
from adv_jax.loss_gradients import Rated, labels_at, rate_fn, with_gradient
from adv_jax.losses import LOSSES
from adv_jax.perturbations import inside, limits, moved
from adv_jax.random import one_key
from adv_jax.types import (
    Array,
    Bounds,
    Key,
    LogitsFn,
    Mask,
    Norm,
    RowFn,
    RowTree,
    UserError,
    working_dtype,
)


@attack(
    rank=ITERATED,
    ranges={"cap": "(0, inf]"},
    row_ranges={"step_size": "[0, inf)"},
    losses=LOSSES,
)
def universal_perturbation(
    logits_fn: LogitsFn,
    x: Array,
    y: RowTree | None,
    *,
    eps: ArrayLike,
    step_size: ArrayLike | None = None,
    num_steps: int = 200,
    batch_size: int | None = None,
    cap: ArrayLike = 9.0,
    norm: Norm = "linf",
    loss: str | RowFn = "cross_entropy",
    bounds: Bounds | None = None,
    mask: Mask | None = None,
    aux: RowTree | None = None,
    targeted: bool = False,
    key: Key | None = None,
) -> Array:
    """Universal perturbation: one r for all rows, by stochastic gradient ascent.

        maximize mean_i min(loss(x_i + r, y_i), cap)   subject to   ||r|| <= eps,
        r_{t+1} = P(r_t + step_size * argmax_{||u|| <= 1} <g_t, u>),

    with the mean gradient g_t of batch_size rows. The cap keeps rows that are fooled for certain
    from outweighing the others. P projects onto the ball; x_i + r is clipped to the bounds.

    Rows are not independent: it is no attack of one batch, and has a result of its own. Find r on
    some inputs, and add it to others: `jnp.clip(x + r, *bounds)`.

    Args:
      x: f[B, *D], the inputs to learn from, inside `bounds`.
      eps: radius of the ball, f32[], or of each feature, an array of the rank of x with one row.
      step_size: length of one step, f32[]; None: 10 eps / num_steps.
      num_steps: gradients, >= 1.
      batch_size: rows of each gradient, drawn without replacement, from 1 to B; None: all.
      cap: the largest loss of a row that counts, f32[], > 0, in nats; inf: no cap.
      mask: as in `fgsm`, with one row.
      key: one key, for the batches; needed if there is a batch_size.
      logits_fn, y, norm, loss, bounds, aux, targeted: as in `pgd`.

    Returns:
      f32[1, *D], r, constant: it carries no gradient.

    Raises:
      UserError: num_steps, batch_size or cap out of range; a batch_size without a key; and as
        `pgd`.

    Sources: [shafahi2020], Algorithm 1 and the clipped loss; the step is normalized as in `pgd`.
    [moosavidezfooli2017], which sums DeepFool's steps over single rows, poses the problem.

    >>> import jax.numpy as jnp
    >>> w = jnp.array([[1., -1.], [2., 0.]])
    >>> x = jnp.array([[.5, .5], [.2, .3]])
    >>> universal_perturbation(lambda x: x @ w, x, jnp.array([0, 0]), eps=.1)
    Array([[-0.1, -0.1]], dtype=float32)
    """
    batch = x.shape[0]
    if batch_size is not None and batch_size > batch:
        raise UserError(f"batch_size must be at most the {batch} rows, got {batch_size}")
    of_batches = None if batch_size is None else one_key(key)
    region = Region.of(x[:1], eps, norm, bounds, mask)
    step = 10 * region.radius / jnp.asarray(num_steps, region.radius.dtype)
    if step_size is not None:
        step = norms.per_row("step_size", step_size, x[:1])
    if loss is not None:
        y = labels_at(logits_fn, x, y, targeted=targeted)
    box = None if bounds is None else limits(x, bounds)
    everything = logits_fn, x, y, box

    def drawn(count: Array) -> Any:
        if of_batches is None:
            return everything
        order = jax.random.permutation(jax.random.fold_in(of_batches, count), batch)[:batch_size]
        return jax.tree.map(lambda a: a[order] if len(a) == batch else a, everything)

    def climb(r: Array, count: Array) -> tuple[Array, None]:
        fn, x, y, box = drawn(count)
        rate = rate_fn(loss, fn, x, y, targeted=targeted)

        def capped(point: Array) -> Rated:
            at = rate(point)
            return at._replace(loss=jnp.minimum(at.loss, jnp.asarray(cap, at.loss.dtype)))

        gradient = with_gradient(capped, moved(x, inside(x, r, box)))[1]
        ahead = r + step * region.steepest(gradient.mean(axis=0, keepdims=True))
        return norms.project(ahead, region.radius, region.norm, region.scale), None

    zero = jnp.zeros_like(x[:1], working_dtype(x.dtype))
    r, _ = jax.lax.scan(climb, zero, jnp.arange(num_steps))
    return jax.lax.stop_gradient(r)
