"""Virtual adversarial perturbations: the direction in which the prediction changes most."""

import jax
from jax.typing import ArrayLike

from adv_jax import norms
from adv_jax.attacks._attack import attack
from adv_jax.attacks._lengths import typical_length
from adv_jax.attacks._region import Region
from adv_jax.attacks._traits import ONE_STEP
from adv_jax.checks import checked_logits
from adv_jax.loss_gradients import rate_fn, with_gradient
from adv_jax.losses import cross_entropy
from adv_jax.perturbations import moved, perturbed
from adv_jax.types import Array, Bounds, Key, LogitsFn, Mask, Norm, RowTree

XI = 1e-2  # in units of the typical length


@attack(rank=ONE_STEP, needs_key=True, row_ranges={"xi": "(0, inf)"})
def virtual_adversarial(
    logits_fn: LogitsFn,
    x: Array,
    y: Array | None,
    *,
    eps: ArrayLike,
    xi: ArrayLike | None = None,
    num_steps: int = 1,
    norm: Norm = "l2",
    bounds: Bounds | None = None,
    mask: Mask | None = None,
    aux: RowTree | None = None,
    key: Key,
) -> Array:
    """Virtual adversarial perturbation: maximizes the change of the prediction, without labels.

        d <- argmax_{||d'|| <= 1} <H d, d'>,   H d = grad_r KL(p(x) || p(x + r)) / xi at r = xi d,
        x_adv = x + eps * d

    from a random d, by power iteration. For small xi, H is the Hessian of the divergence at r = 0,
    and under l2 d tends to its first eigenvector, of either sign. Where the gradient is exactly 0,
    as for a prediction that float32 rounds to certainty, x is returned unchanged.

    Args:
      eps: length of the perturbation, as in `fgsm`.
      xi: finite-difference step, f32[] or f32[B], > 0, in the same units, those of the feature of
        largest eps; None: .01 times the width of the bounds, or without finite bounds .01 eps. The
        paper's 1e-6 is lost to float32 rounding; a bfloat16 x needs a larger xi.
      num_steps: power iterations, each one gradient, >= 1.
      norm: "linf", "l2", "l1", "rms" or an alias (`norms.canonical`).
      key: for the starts: one key, or key[B], one per row.
      y: not used.
      logits_fn, x, bounds, mask, aux: as in `fgsm`.

    Returns:
      f[B, *D] in the dtype of x, constant: it carries no gradient.

    Raises:
      UserError: key=None; num_steps or xi out of range; and as `fgsm`.

    Sources: [miyato2018], sec. 3.3, eq. 12 and alg. 1; other norms by the same step of
    [journee2010], alg. 1 (generalized power method).

    >>> import jax, jax.numpy as jnp
    >>> w = jnp.array([[3., -3.], [4., -4.]])  # The logits depend on x @ [.6, .8] only.
    >>> x, key = jnp.zeros((1, 2)), jax.random.key(0)
    >>> jnp.abs(virtual_adversarial(lambda x: x @ w, x, None, eps=1., key=key))
    Array([[0.6, 0.8]], dtype=float32)
    """
    region = Region.of(x, eps, norm, bounds, mask)
    if xi is None:
        step = XI * typical_length(x, bounds, region.scale, region.radius)
    else:
        step = norms.per_row("xi", xi, x)
    prediction = jax.nn.softmax(checked_logits(logits_fn(x), batch=x.shape[0]))
    # The cross-entropy is the divergence plus a constant.
    rate = rate_fn(cross_entropy, logits_fn, x, prediction)

    def iterate(d: Array, _: None) -> tuple[Array, None]:
        return region.steepest(with_gradient(rate, moved(x, step * d))[1]), None

    start = norms.sample(key, x, 1.0, norm, region.scale)
    d, _ = jax.lax.scan(iterate, start, length=num_steps)
    return perturbed(x, region.radius * d, bounds)
