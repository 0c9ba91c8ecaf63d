"""Parameters of a model that do not come from its initializers."""

import jax
import jax.numpy as jnp
import numpy as np

from adv_jax import models


def random_params(model, shape, seed=0, std=0.3):
    """Parameters of the model's shapes, biases included, from NumPy."""
    shapes = jax.eval_shape(
        lambda: models.init(model, jax.random.key(0), jnp.zeros(shape))["params"]
    )
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: rng.normal(0, std, size=leaf.shape).astype("f"), shapes)
