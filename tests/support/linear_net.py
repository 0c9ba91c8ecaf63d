"""A linear net without state, as objectives call a model: logits x W."""

from adv_jax.types import Output


def linear(variables, x, *, train=False, key=None):
    return Output(x @ variables["params"], {}, {})
