"""probe on rows whose logits saturate the softmax."""

from functools import partial

import jax
import jax.numpy as jnp
import nets
import numpy as np
import pytest
import zoo
from marks import exhaustive_after

from adv_jax import attacks
from adv_jax.evaluate.probing import probe

ROWS = 200


@pytest.mark.slow
@pytest.mark.parametrize("how", exhaustive_after(1, ["jit", "eager", "vmap of one row"]))
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


@pytest.mark.slow
def test_a_smooth_model_of_features_in_different_units_does_not_mislead():
    rng = np.random.default_rng(0)
    flags = np.eye(3)[rng.integers(3, size=100)]
    x = np.float32(np.concatenate([rng.uniform(1800, 3900, (100, 1)), flags], axis=1))
    mean, std = x.mean(0, keepdims=True), x.std(0, keepdims=True)
    below, above = jnp.float32(rng.normal(size=(4, 32))), jnp.float32(rng.normal(size=(32, 3)))
    net = lambda x: jnp.tanh((x - mean) / std @ below) @ above
    x = jnp.asarray(x)
    misleading = probe(net, x, jnp.argmax(net(x), axis=1))["misleading"]
    assert misleading.mean() < 0.1


@pytest.mark.slow
def test_rounding_inside_an_expectation_does_not_mislead_where_it_is_declared():
    w = jax.random.normal(jax.random.key(0), (50, 5))
    x = jax.random.uniform(jax.random.key(1), (100, 50))

    def model(rounded):
        noisy = lambda x, key: rounded(x + 0.1 * jax.random.normal(key, x.shape)) @ w
        return attacks.expectation(noisy, num_samples=10)

    levels = lambda x: jnp.round(7 * x) / 7
    declared = model(attacks.straight_through(levels))
    y = jnp.argmax(declared(x), axis=1)
    assert probe(declared, x, y)["misleading"].mean() < 0.05
    reversed_sign = model(attacks.straight_through(levels, backward=lambda x: -x))
    assert probe(reversed_sign, x, y)["misleading"].mean() > 0.5


@pytest.mark.slow
def test_the_probe_takes_logits_of_bfloat16():
    w = jax.random.normal(jax.random.key(0), (6, 3), jnp.bfloat16)
    x = jax.random.normal(jax.random.key(1), (8, 6))
    found = probe(lambda x: x.astype(jnp.bfloat16) @ w, x, jnp.zeros(8, jnp.int32))
    assert not found["zero_gradient"].any() and not found["random"].any()
