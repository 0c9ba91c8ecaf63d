"""The papers' initializers of weight matrices: each function returns a Flax initializer."""

import jax
import jax.numpy as jnp
from flax.linen.initializers import Initializer, constant, he_uniform, normal, variance_scaling

from adv_jax.ranges import COUNT, ranged
from adv_jax.types import UserError

__all__ = ["fan_in", "gaussian", "he", "sparse", "uniform", "zero"]


@ranged(connections=COUNT)
def sparse(connections: int = 15) -> Initializer:
    """Draws N(0, 1) for `connections` random inputs of each unit, 0 for the others.

    Source: [martens2010], as `sparse_init` in Pylearn2; 15 in the shallow-net thesis.

    Raises (when called):
      UserError: a unit has fewer inputs than connections.
    """

    def init(key, shape, dtype=jnp.float32):
        inputs = shape[0]
        if connections > inputs:
            raise UserError(
                f"connections must be 1 to {inputs}, the number of inputs, got {connections}"
            )
        key_order, key_value = jax.random.split(key)
        rank = jnp.argsort(jax.random.uniform(key_order, shape, jnp.float32), axis=0)
        return jnp.where(rank < connections, jax.random.normal(key_value, shape, dtype), 0)

    return init


@ranged(std="[0, inf)")
def gaussian(std: float = 0.01) -> Initializer:
    """Draws N(0, std^2); std is .01 in [nokland2015]."""
    return normal(std, jnp.float32)


@ranged(scale="[0, inf)")
def uniform(scale: float) -> Initializer:
    """Draws uniformly from [-scale, scale]; scale is .07 in the program of [huang2015]."""

    def init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -scale, scale)

    return init


def fan_in() -> Initializer:
    """Draws N(0, 1 / number of inputs), as in the ladder's reference code."""
    return variance_scaling(1.0, "fan_in", "normal", dtype=jnp.float32)


def he() -> Initializer:
    """Draws uniformly from +-sqrt(6 / number of inputs), which keeps the scale of ReLU layers.

    Sources: [he2015]; Huang's authors' program for CIFAR-10.
    """
    return he_uniform(dtype=jnp.float32)


def zero() -> Initializer:
    """Returns zeros, as for the softmax layer of the shallow-net thesis."""
    return constant(0.0, jnp.float32)
