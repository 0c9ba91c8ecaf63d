"""probe on rows whose logits saturate the softmax."""

from functools import partial

import jax
import jax.numpy as jnp
import nets
import numpy as np
import pytest
import zoo
from marks import slow_after

from adv_jax.evaluate.probing import probe

ROWS = 200


@pytest.mark.parametrize("how", slow_after(1, ["jit", "eager", "vmap of one row"]))
@pytest.mark.parametrize("factor", [1e3, 1e6])
def test_probe_detects_saturated_logits_eagerly_compiled_and_vmapped(factor, how):
    x, y = (array[:ROWS] for array in nets.digits())
    logits_fn = zoo.scaled(factor)(zoo.honest("relu"))
    look = partial(probe, logits_fn)
    if how == "vmap of one row":
        found = jax.vmap(lambda x, y: look(x[None], y[None]))(x, y)
    else:
        found = (jax.jit(look) if how == "jit" else look)(x, y)
    # Rows that are right have margins of thousands of nats, and no gradient; wrong ones have.
    right = jnp.argmax(logits_fn(x), axis=1) == y
    np.testing.assert_array_equal(found["saturated"].ravel(), right)
    np.testing.assert_array_equal(found["zero_gradient"].ravel(), right)
