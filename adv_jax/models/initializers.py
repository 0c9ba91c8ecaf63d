"""Initialisers of weight matrices, as the papers name them: each returns a Flax initialiser."""

import jax
import jax.numpy as jnp
from flax.linen.initializers import Initializer, constant, he_uniform, normal, variance_scaling

__all__ = ["fan_in", "gaussian", "he", "sparse", "uniform", "zero"]


def sparse(connections: int = 15) -> Initializer:
    """N(0, 1) on `connections` random inputs of each unit, 0 on the others (`sparse_init`).

    Source: [martens2010], as in Pylearn2; the thesis has 15.

    Raises (when it draws):
      ValueError: a unit has fewer inputs than connections.
    """

    def init(key, shape, dtype=jnp.float32):
        inputs = shape[0]
        if not 1 <= connections <= inputs:
            raise ValueError(
                f"connections is {connections}; allowed are 1 to {inputs}, the number of inputs"
            )
        key_order, key_value = jax.random.split(key)
        rank = jnp.argsort(jax.random.uniform(key_order, shape, jnp.float32), axis=0)
        return jnp.where(rank < connections, jax.random.normal(key_value, shape, dtype), 0)

    return init


def gaussian(std: float = 0.01) -> Initializer:
    """N(0, std^2); Nokland has std .01."""
    return normal(std, jnp.float32)


def uniform(scale: float) -> Initializer:
    """Uniform in [-scale, scale]; Huang's authors have .07."""

    def init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -scale, scale)

    return init


def fan_in() -> Initializer:
    """N(0, 1 / number of inputs), as the ladder's reference code has it."""
    return variance_scaling(1.0, "fan_in", "normal", dtype=jnp.float32)


def he() -> Initializer:
    """Uniform in +-sqrt(6 / number of inputs), which keeps the scale of ReLU layers.

    Sources: [he2015]; Huang's authors' program for CIFAR-10.
    """
    return he_uniform(dtype=jnp.float32)


def zero() -> Initializer:
    """All 0, as the thesis' softmax layer."""
    return constant(0.0, jnp.float32)
