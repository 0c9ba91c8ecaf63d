"""A second bare call of a measure or a chain compiles nothing, and uses its own arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilations import counted

from adv_jax.generative import boltzmann, measures
from adv_jax.models.nearest_neighbor import smoothed_nearest_neighbor

RNG = np.random.default_rng(0)
V = jnp.asarray(RNG.integers(0, 2, (4, 5)), jnp.float32)
X = jnp.asarray(RNG.normal(size=(6, 5)), jnp.float32)
KEY = jax.random.key(0)
CALLS = {
    "parzen": lambda scale: measures.parzen(scale * X, X, bandwidth=scale),
    "nearest": lambda scale: measures.nearest(scale * X, X)[1],
    "log_partition": lambda scale: measures.log_partition(machine(scale)),
    "annealed": lambda scale: (
        measures.annealed_log_partition(
            machine(scale), jnp.linspace(0, 1, 3), key=KEY, num_chains=4
        ).value
    ),
    "mean_field": lambda scale: boltzmann.mean_field(machine(scale), V, 2)[1],
    "gibbs": lambda scale: boltzmann.gibbs(machine(scale), (V, V[:, :2]), KEY, 2)[1],
    "neighbor": lambda scale: smoothed_nearest_neighbor(
        V, scale * X, jnp.arange(6) % 3, num_classes=3
    ),
}


def machine(scale):
    draw = lambda *shape: scale * jnp.asarray(np.random.default_rng(1).normal(size=shape), "f")
    return boltzmann.Machine(draw(5), (draw(5, 3), draw(3, 2)), (draw(3), draw(2)))


@pytest.mark.parametrize("name", CALLS)
def test_a_second_call_compiles_nothing_and_equals_the_compiled_one(name):
    first = CALLS[name](0.5)
    with counted() as compiled:
        found = CALLS[name](2.0)
    assert compiled == []
    np.testing.assert_allclose(found, jax.jit(lambda: CALLS[name](2.0))(), rtol=1e-5, atol=1e-6)
    assert name == "gibbs" or not np.allclose(first, found)
