"""models.mlp: against NumPy, and the initial net of the shallow-net thesis."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_params import random_params

from adv_jax import models
from adv_jax.models import initializers, layered

ACTIVATIONS = {
    "relu": lambda a: np.maximum(a, 0),
    "sigmoid": lambda a: 1 / (1 + np.exp(-a)),
    "tanh": np.tanh,
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_mlp_equals_the_numpy_version_layer_by_layer(activation):
    model = models.mlp(features=(5, 4), num_classes=3, activation=activation)
    params = random_params(model, (2, 6), std=1)
    x = np.random.default_rng(1).normal(size=(7, 6)).astype(np.float32)
    logits, extras, state = models.apply_fn(model)({"params": params}, x)
    h = np.float64(x)
    for layer in (1, 2):
        weights = params[f"hidden{layer}"]
        h = ACTIVATIONS[activation](h @ weights["kernel"] + weights["bias"])
        np.testing.assert_allclose(extras[f"hidden{layer}"], h, rtol=1e-5, atol=1e-5)
    expected = h @ params["logits"]["kernel"] + params["logits"]["bias"]
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    assert list(extras) == ["hidden1", "hidden2"]
    assert not state


def test_an_mlp_without_hidden_layers_is_softmax_regression():
    model = models.mlp(features=(), num_classes=3)
    params = random_params(model, (2, 4), std=1)
    assert params.keys() == {"logits"}
    x = np.random.default_rng(1).normal(size=(2, 4)).astype(np.float32)
    logits, extras, _ = models.apply_fn(model)({"params": params}, x)
    expected = x @ params["logits"]["kernel"] + params["logits"]["bias"]
    np.testing.assert_allclose(logits, expected, rtol=1e-5)
    assert extras == {}


def test_images_are_flattened_and_training_is_the_same_pass():
    model = models.mlp(features=(5,), num_classes=3)
    variables = {"params": random_params(model, (2, 12), std=1)}
    x = np.random.default_rng(1).normal(size=(2, 3, 4, 1)).astype(np.float32)
    apply = models.apply_fn(model)
    expected = apply(variables, x.reshape(2, 12)).logits
    np.testing.assert_array_equal(apply(variables, x).logits, expected)
    np.testing.assert_array_equal(apply(variables, x, train=True).logits, expected)


def test_the_default_mlp_has_800_units_and_biases_as_the_shallow_net_thesis():
    # (784 + 1) 800 + (800 + 1) 10 = 636,010 parameters.
    params = random_params(models.mlp(), (2, 784), std=1)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 636_010


def test_biases_are_initially_zero_for_any_initializer():
    model = models.mlp(
        features=(20,), hidden_init=initializers.gaussian(1.0), output_init=initializers.zero()
    )
    params = models.init(model, jax.random.key(0), jnp.zeros((2, 6)))["params"]
    for layer in ("hidden1", "logits"):
        np.testing.assert_array_equal(params[layer]["bias"], 0)
    assert np.abs(params["hidden1"]["kernel"]).min() > 0
    np.testing.assert_array_equal(params["logits"]["kernel"], 0)


@pytest.mark.slow
def test_the_net_of_the_shallow_net_thesis_has_initially_no_input_gradient():
    # Its output weights are 0: every class has probability 1/10, the loss is ln 10 = 2.302585,
    # and the first adversarial batch is the clean one.
    model = models.mlp(
        features=(800,), hidden_init=initializers.sparse(15), output_init=initializers.zero()
    )
    x = jax.random.uniform(jax.random.key(1), (4, 784))
    variables = models.init(model, jax.random.key(0), x)
    apply = models.apply_fn(model)

    def loss(x):
        return -jax.nn.log_softmax(apply(variables, x).logits)[:, 3].mean()

    value, gradient = jax.value_and_grad(loss)(x)
    assert float(value) == pytest.approx(2.302585, abs=1e-6)
    np.testing.assert_array_equal(gradient, 0)
    # The hidden layer itself is alive.
    hidden = apply(variables, x).extras["hidden1"]
    assert 0.2 < float((hidden > 0).mean()) < 0.8


@pytest.mark.parametrize("model", [models.mlp(activation="rleu"), models.ladder(activation="rleu")])
def test_an_unknown_activation_is_refused_with_the_legal_ones(model):
    with pytest.raises(
        ValueError, match="activation must be one of leaky_relu, relu, sigmoid, tanh"
    ):
        models.init(model, jax.random.key(0), jnp.zeros((2, 6)))


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.0, 0.2, 0.5, 1.0])
def test_dropout_of_mlp_equals_flax_bit_for_bit(rate):
    x = jax.random.normal(jax.random.key(0), (30, 7), jnp.float32)
    rngs = {"dropout": jax.random.key(1)}
    ours = layered.Dropout(rate).apply({}, x, deterministic=False, rngs=rngs)
    with jax.enable_x64(False):  # With float64 Flax draws other numbers.
        flaxs = nn.Dropout(rate).apply({}, x, deterministic=False, rngs=rngs)
    np.testing.assert_array_equal(ours, flaxs)
    np.testing.assert_array_equal(layered.Dropout(rate).apply({}, x, deterministic=True), x)


@pytest.mark.slow
def test_dropout_drops_the_rate_of_each_layer_in_training_only():
    # Weights of 1 and no negative value: what arrives at a layer is a sum over those kept.
    model = models.mlp(features=(400,), num_classes=1, dropout=(0.2, 0.5))
    params = {
        "hidden1": {"kernel": jnp.eye(400), "bias": jnp.zeros(400)},
        "logits": {"kernel": jnp.eye(400)[:, :1] + 1, "bias": jnp.zeros(1)},
    }
    apply, x = models.apply_fn(model), jnp.ones((50, 400))
    hidden = apply({"params": params}, x, train=True, key=jax.random.key(0)).extras["hidden1"]
    # Inputs that are kept are scaled by 1 / .8, before the dropout of the hidden layer.
    assert set(np.unique(hidden)) == {0.0, 1.25}
    assert np.mean(hidden == 0) == pytest.approx(0.2, abs=4 * np.sqrt(0.16 / 20_000))
    np.testing.assert_array_equal(apply({"params": params}, x).logits, 401)
    sums = apply({"params": params}, x, train=True, key=jax.random.key(0)).logits
    # A kept pair is worth 2.5, with probability .4.
    assert float(sums.mean()) == pytest.approx(400, rel=0.02)
    assert float(sums.std()) == pytest.approx(np.sqrt(400 * 0.4 * 0.6) * 2.5, rel=0.5)
