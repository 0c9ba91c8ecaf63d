"""Activations by name, so that a config can hold one."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from adv_jax.types import Array

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "leaky_relu": partial(jax.nn.leaky_relu, negative_slope=0.1),
    "relu": jax.nn.relu,
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
}


def activation_fn(name: str) -> Callable[[Array], Array]:
    """Returns the element-wise function of that name.

    Raises:
      ValueError: the name is not in ACTIVATIONS.
    """
    if name not in ACTIVATIONS:
        allowed = ", ".join(sorted(ACTIVATIONS))
        raise ValueError(f"activation must be one of {allowed}, got {name!r}")
    return ACTIVATIONS[name]
