"""Packed parameters do not change a step."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from adv_jax.runner.run.packing import Packing
from adv_jax.step import init_state, make_step, over_steps

LAYERS = {"a": (3, 4), "b": (4,), "c": {"d": (40, 50), "e": (2, 1, 3)}}


# The same sums in another order: a few float32 roundings.
same = partial(np.testing.assert_allclose, rtol=2e-5, atol=1e-6)


def layered(variables, batch, *, key):
    """A loss whose gradient differs between all entries of LAYERS and all batches."""
    leaves = jax.tree.leaves(variables["params"])
    loss = sum(jnp.sum(jnp.sin(leaf * (i + 1) + batch)) for i, leaf in enumerate(leaves))
    return loss, ({}, {})


@pytest.mark.parametrize("limit", [0, 100])
@pytest.mark.parametrize(
    "optimizer", [optax.adam(0.01), optax.inject_hyperparams(optax.sgd)(0.01, 0.9)]
)
def test_steps_on_packed_parameters_are_those_on_each_array(optimizer, limit):
    rng = np.random.default_rng(0)
    is_shape = lambda shape: isinstance(shape, tuple)
    random = lambda shape: rng.normal(size=shape).astype(np.float32)
    params = jax.tree.map(random, LAYERS, is_leaf=is_shape)
    before = init_state({"params": params}, optimizer, seed=0)
    packing = Packing(params, limit=limit)
    packed = packing.state(before)
    assert [leaf.shape for leaf in jax.tree.leaves(packed.params)] == (
        [(22,), (40, 50)] if limit else [(3, 4), (4,), (40, 50), (2, 1, 3)]
    )
    jax.tree.map(same, packing.unpacked(packed), before)
    batches = jnp.arange(5.0)
    steps = over_steps(make_step(packing.objective(layered), optimizer))
    found = packing.unpacked(jax.jit(steps)(packed, batches)[0])
    expected, _ = jax.jit(over_steps(make_step(layered, optimizer)))(before, batches)
    jax.tree.map(same, found, expected)
