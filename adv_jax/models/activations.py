"""Activations by name, so that a config can hold one."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from adv_jax.types import Array, check_choice

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "leaky_relu": partial(jax.nn.leaky_relu, negative_slope=0.1),
    "relu": jax.nn.relu,
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
}


def activation_fn(name: str) -> Callable[[Array], Array]:
    """Returns the element-wise function of that name.

    Raises:
      UserError: the name is not in ACTIVATIONS.
    """
    check_choice("activation", name, sorted(ACTIVATIONS))
    return ACTIVATIONS[name]
