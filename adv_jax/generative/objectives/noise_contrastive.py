"""Noise-contrastive estimation: the loss of a density that is told from noise."""

import jax
import jax.numpy as jnp
import numpy as np

from adv_jax.ranges import ranged
from adv_jax.types import Array, UserError, described


@ranged(ratio="(0, inf)")
def noise_contrastive(data: Array, noise: Array, ratio: float | Array = 1.0) -> Array:
    """Returns the loss of an unnormalized density p that classifies data x against noise u.

        -E log h(x) - ratio E log(1 - h(u)),   h = p / (p + ratio q)

    The density may have a parameter c, log p = f + c, and c of the minimum is -log of the integral
    of exp(f). If the noise is a detached copy of p itself, h = 1/2, and the gradient is half that
    of maximum likelihood: -1/2 E grad log p(x) + 1/2 E grad log p(u), whose second term is 0 for a
    normalized p, and grad log Z / 2 for p = exp(f) / Z with a detached Z.

    Args:
      data: f[N], log p(x) - log q(x) of data x.
      noise: f[M], log p(u) - log q(u) of noise u, drawn from q.
      ratio: draws of noise for each of the data, M / N in the source, > 0.

    Returns:
      f[] in nats.

    Raises:
      UserError: ratio out of range; data or noise is not f[N] with N >= 1.

    Sources: [gutmann2010]; [goodfellow2014criteria] and [wardefarley2016], sec. 1.4.1 (the copy).

    >>> jnp.exp(-noise_contrastive(jnp.zeros(3), jnp.zeros(5)))  # h = 1/2: 2 log 2 nats.
    Array(0.25, dtype=float32)
    """
    for name, log_ratios in (("data", data), ("noise", noise)):
        if np.ndim(log_ratios) != 1 or not np.size(log_ratios):
            raise UserError(f"{name} must be f[N] with N >= 1, got {described(log_ratios)}")
    data, noise, shift = jnp.asarray(data), jnp.asarray(noise), jnp.log(ratio)
    missed = jax.nn.softplus(shift - data).mean()
    return missed + ratio * jax.nn.softplus(noise - shift).mean()
