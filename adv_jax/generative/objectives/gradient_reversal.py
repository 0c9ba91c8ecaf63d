"""Gradient reversal: a game of two players as one minimization."""

import jax
import jax.numpy as jnp

from adv_jax.ranges import ranged
from adv_jax.types import Array


@ranged(scale="[0, inf)")
def reverse_gradient(x: Array, scale: float | Array = 1.0) -> Array:
    """Returns x, with the derivative -scale.

    In loss(features) + loss(adversary(reverse_gradient(features, scale))) the adversary descends
    its loss, and what makes the features ascends scale times that loss.

    Args:
      x: f[...].
      scale: lambda of the source, >= 0; with 0 no gradient flows to x. Its own derivative is 0.

    Raises:
      UserError: unless traced, a scale below 0 or not finite.

    Source: [ganin2016], the gradient reversal layer.

    >>> jax.grad(lambda x: jnp.sin(reverse_gradient(x, 2.0)))(0.0)
    Array(-2., dtype=float32, weak_type=True)
    """
    return _identity(x, scale)


@jax.custom_jvp
def _identity(x: Array, scale: float | Array) -> Array:
    del scale
    return x


@_identity.defjvp
def _reversed(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    (x, scale), (change, _) = primals, tangents
    return x, -jnp.asarray(scale, change.dtype) * change
