"""models.lenet: against SciPy in float64, and its convolutions in loops."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.signal
from random_params import random_params

from adv_jax import models
from adv_jax.models import initializers
from adv_jax.runner.config.binding import MODELS, bind
from adv_jax.runner.config.document import ConfigError

SMALL = {"features": (3, 4, 5), "num_classes": 3}
ACTIVATIONS = {"relu": lambda a: np.maximum(a, 0), "tanh": np.tanh}


def images(*shape, seed=1):
    return np.random.default_rng(seed).uniform(size=shape).astype(np.float32)


def numpy_lenet(params, image, activation):
    """Returns (logits, hidden layers) of one image f[H, W, C] in float64."""
    h, hidden = np.float64(image), []
    for name in ("hidden1", "hidden2"):
        kernel, bias = (np.float64(params[name][part]) for part in ("kernel", "bias"))
        maps = [
            scipy.signal.correlate(h, kernel[..., o], mode="valid")[..., 0] + bias[o]
            for o in range(len(bias))
        ]
        a = activation(np.stack(maps, axis=-1))
        height, width = a.shape[0] // 2, a.shape[1] // 2
        blocks = a[: 2 * height, : 2 * width].reshape(height, 2, width, 2, -1)
        h = blocks.max(axis=(1, 3))
        hidden.append(h)
    layer = params["hidden3"]
    hidden.append(activation(h.ravel() @ np.float64(layer["kernel"]) + layer["bias"]))
    return hidden[-1] @ np.float64(params["logits"]["kernel"]) + params["logits"]["bias"], hidden


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_lenet_equals_the_numpy_version_layer_by_layer(activation):
    # The activation comes before the pooling there, and after it in the model.
    model = models.lenet(**SMALL, activation=activation)
    params, x = random_params(model, (2, 16, 18, 2)), images(2, 16, 18, 2)
    logits, extras, state = jax.jit(models.apply_fn(model))({"params": params}, x)
    assert list(extras) == ["hidden1", "hidden2", "hidden3"] and not state
    for row, image in enumerate(x):
        expected, hidden = numpy_lenet(params, image, ACTIVATIONS[activation])
        np.testing.assert_allclose(logits[row], expected, rtol=1e-4, atol=1e-5)
        for found, layer in zip(extras.values(), hidden, strict=True):
            np.testing.assert_allclose(found[row], layer, rtol=1e-4, atol=1e-5)


def test_the_default_lenet_is_the_standard_net_of_mnist():
    # 20 * 25 + 20, 50 * 20 * 25 + 50, 800 * 500 + 500, 500 * 10 + 10.
    params = random_params(models.lenet(), (2, 28, 28, 1))
    sizes = {name: sum(leaf.size for leaf in layer.values()) for name, layer in params.items()}
    assert sizes == {"hidden1": 520, "hidden2": 25_050, "hidden3": 400_500, "logits": 5_010}
    assert sum(sizes.values()) == 431_080


def test_images_may_come_without_their_one_channel_and_training_is_the_same_pass():
    model = models.lenet(**SMALL)
    x = images(2, 16, 16, 1)
    variables, apply = {"params": random_params(model, x.shape)}, models.apply_fn(model)
    run = jax.jit(lambda x, train: apply(variables, x, train=train).logits, static_argnums=1)
    np.testing.assert_array_equal(run(x[..., 0], False), run(x, False))
    np.testing.assert_array_equal(run(x, True), run(x, False))


@pytest.mark.slow
def test_a_config_names_lenet_and_its_initializers():
    spec = {"name": "lenet", "features": (20, 50, 100), "activation": "tanh"}
    model = bind(spec, MODELS, field="model", hidden_init=initializers.sparse(15))()
    init = jax.jit(lambda key: models.init(model, key, jnp.zeros((2, 28, 28, 1))))
    params = init(jax.random.key(0))["params"]
    for name, maps in (("hidden1", 20), ("hidden2", 50)):
        weights = np.asarray(params[name]["kernel"]).reshape(-1, maps)
        np.testing.assert_array_equal((weights != 0).sum(axis=0), 15)
        np.testing.assert_array_equal(params[name]["bias"], 0)
    assert params["hidden3"]["kernel"].shape == (800, 100)
    with pytest.raises(
        ConfigError, match=r"a setting of model.lenet must be .*, got 'feature'.*'features'"
    ):
        bind({"name": "lenet", "feature": 3}, MODELS, field="model")


@pytest.mark.parametrize(
    ("shape", "features", "words"),
    [
        ((2, 784), (20, 50, 500), r"at least 16 x 16, got the shape \(2, 784\)"),
        ((2, 28, 15, 1), (20, 50, 500), r"at least 16 x 16, got the shape \(2, 28, 15, 1\)"),
        (
            (2, 28, 28, 1),
            (20, 50),
            r"features must be a tuple of 3 entries, each a number, got",
        ),
    ],
)
def test_lenet_refuses_settings_and_inputs_that_do_not_fit(shape, features, words):
    with pytest.raises(ValueError, match=words):
        models.init(models.lenet(features=features), jax.random.key(0), jnp.zeros(shape))


def test_an_unknown_activation_is_refused_with_the_legal_ones():
    with pytest.raises(
        ValueError, match="activation must be one of leaky_relu, relu, sigmoid, tanh"
    ):
        random_params(models.lenet(activation="rleu"), (2, 16, 18, 2))


@pytest.mark.slow
def test_lenet_learns_one_batch():
    model = models.lenet(features=(4, 6, 20))
    x, y = images(20, 16, 16), np.arange(20) % 10
    apply, optimizer = models.apply_fn(model), optax.adam(1e-2)
    params = jax.jit(lambda key: models.init(model, key, x)["params"])(jax.random.key(0))

    def loss(params):
        logits = apply({"params": params}, x).logits
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    def step(carry, _):
        params, state = carry
        value, gradient = jax.value_and_grad(loss)(params)
        with jax.numpy_dtype_promotion("standard"):  # as optax needs
            updates, state = optimizer.update(gradient, state)
        return (optax.apply_updates(params, updates), state), value

    _, losses = jax.lax.scan(step, (params, optimizer.init(params)), length=150)
    # Chance has ln 10 = 2.3.
    assert 1.5 < losses[0] < 4 and losses[-1] < 0.05


@pytest.mark.parametrize(("platform", "convolutions"), [("cpu", False), ("cuda", True)])
def test_gradients_of_lenet_in_a_loop_use_xla_convolutions_off_the_cpu_only(platform, convolutions):
    model = models.lenet(**SMALL)
    x = images(2, 16, 16, 1)
    variables, apply = {"params": random_params(model, x.shape)}, models.apply_fn(model)

    def iterated(variables, x):
        loss = lambda variables, x: apply(variables, x).logits.sum()
        gradients = lambda carry, _: (jax.grad(loss, argnums=(0, 1))(*carry), None)
        return jax.lax.scan(gradients, (variables, x), length=3)

    program = jax.jit(iterated).trace(variables, x).lower(lowering_platforms=(platform,))
    assert ("stablehlo.convolution" in program.as_text()) == convolutions
