"""The autoencoder's layers and losses, against NumPy, an `mlp` and finite differences."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from marks import exhaustive_after

from adv_jax import generative, models

SHAPE, FEATURES = (2, 3, 1), (5, 4)
X = jnp.asarray(np.random.default_rng(0).uniform(size=(8, *SHAPE)), jnp.float32)
CASES = [*itertools.product((True, False), ("cross_entropy", "squared_error"))]


def net(**settings):
    """An apply function, and variables without zeros."""
    model = generative.models.autoencoder(shape=SHAPE, **{"features": FEATURES, **settings})
    variables = models.init(model, jax.random.key(1), X)
    rng = np.random.default_rng(2)
    noise = lambda leaf: leaf + rng.normal(0, 0.1, leaf.shape).astype(np.float32)
    return models.apply_fn(model), jax.tree.map(noise, variables)


def layers_of(variables):
    """The weights and biases up, W_l and b_l, and down, V_l and c_l, in float64."""
    params = jax.tree.map(np.float64, variables["params"])
    names = [f"hidden{number}" for number in range(1, len(FEATURES) + 1)]
    up = [(params["encoder"][name]["kernel"], params["encoder"][name]["bias"]) for name in names]
    if isinstance(params["decoder"]["hidden1"], dict):
        back = [params["decoder"][name] for name in names]
        return up, [(layer["kernel"], layer["bias"]) for layer in back]
    return up, [(w.T, params["decoder"][name]) for (w, _), name in zip(up, names, strict=True)]


def losses(outputs, x, loss):
    if loss == "squared_error":
        return ((outputs - x) ** 2).sum(axis=1)
    return (np.logaddexp(0, outputs) - x * outputs).sum(axis=1)


@pytest.mark.slow
@pytest.mark.parametrize(("tied", "loss"), exhaustive_after(1, CASES))
def test_code_reconstruction_and_loss_are_the_formulas(tied, loss):
    apply, variables = net(tied=tied, loss=loss, activation="sigmoid", linear_code=True)
    [(w1, b1), (w2, b2)], [(v1, c1), (v2, c2)] = layers_of(variables)
    x = np.float64(X).reshape(8, 6)
    h1 = oracles.sigmoid(x @ w1 + b1)
    code = h1 @ w2 + b2
    outputs = oracles.sigmoid(code @ v2 + c2) @ v1 + c1
    images = oracles.sigmoid(outputs) if loss == "cross_entropy" else outputs
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
    found = apply(variables, X)
    close(found.logits, code)
    close(found.extras["hidden1"], h1)
    close(apply(variables, X, method="reconstruct").logits.reshape(8, 6), images)
    close(apply(variables, found.logits, method="decode").logits.reshape(8, 6), images)
    close(apply(variables, X, method="row_loss").logits, losses(outputs, x, loss))
    noisy = apply(variables, X, X / 2, method="row_loss").logits
    close(noisy, losses(outputs, x / 2, loss))


@pytest.mark.parametrize(("tied", "loss"), exhaustive_after(1, CASES))
def test_the_autoencoder_of_a_layer_is_that_layer_and_back(tied, loss):
    apply, variables = net(tied=tied, loss=loss, activation="sigmoid")
    [_, (w2, b2)], [_, (v2, c2)] = layers_of(variables)
    h = np.random.default_rng(3).uniform(size=(8, 5))
    outputs = oracles.sigmoid(h @ w2 + b2) @ v2 + c2
    if loss == "squared_error":
        outputs = oracles.sigmoid(outputs)
    inputs = jnp.asarray(h, jnp.float32)
    found = apply(variables, inputs, inputs / 2, layer=2, method="layer_loss").logits
    np.testing.assert_allclose(found, losses(outputs, h / 2, loss), rtol=1e-5)


def test_the_image_of_the_first_layer_alone_is_that_of_its_autoencoder():
    apply, variables = net(activation="sigmoid")
    found = apply(variables, X, depth=1, method="reconstruct").logits
    own = generative.models.autoencoder(shape=SHAPE, features=FEATURES[:1], activation="sigmoid")
    first = {part: {"hidden1": layers["hidden1"]} for part, layers in variables["params"].items()}
    expected = models.apply_fn(own)({"params": first}, X, method="reconstruct").logits
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_an_mlp_with_the_encoder_s_parameters_has_its_activations():
    apply, variables = net()
    mlp = models.mlp(features=FEATURES)
    params = models.init(mlp, jax.random.key(0), X)["params"] | variables["params"]["encoder"]
    found = models.apply_fn(mlp)({"params": params}, X).extras
    expected = apply(variables, X).extras
    assert found.keys() == expected.keys()
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), found, expected)


@pytest.mark.slow
def test_the_gradient_of_a_tied_weight_counts_both_of_its_uses():
    apply, variables = net(tied=True, activation="sigmoid")

    params, size = variables["params"], 1e-2

    def loss(kernel):
        hidden2 = params["encoder"]["hidden2"] | {"kernel": kernel}
        moved = params | {"encoder": params["encoder"] | {"hidden2": hidden2}}
        return apply({"params": moved}, X, method="row_loss").logits.sum()

    kernel = params["encoder"]["hidden2"]["kernel"]
    gradient = np.asarray(jax.grad(loss)(kernel))
    for index in ((0, 0), (3, 2)):
        step = np.zeros(kernel.shape, np.float32)
        step[index] = size
        difference = (loss(kernel + step) - loss(kernel - step)) / (2 * size)
        assert gradient[index] == pytest.approx(float(difference), rel=2e-3, abs=2e-3)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"shape": (2, 2, 1)}, "model.shape must be (2, 3, 1), the shape of x, got (2, 2, 1)"),
        ({"features": ()}, "model.features must have one entry or more, got ()"),
        ({"loss": "mse"}, "loss must be one of cross_entropy, squared_error, got 'mse'"),
    ],
)
def test_a_net_that_does_not_fit_is_refused(settings, says):
    with pytest.raises(ValueError) as error:
        models.init(
            generative.models.autoencoder(**{"shape": SHAPE, **settings}), jax.random.key(0), X
        )
    assert str(error.value) == says


def test_log_odds_of_activations_that_are_no_probabilities_are_refused():
    apply, variables = net(activation="relu")
    h = jnp.ones((8, 5))
    says = "^model.loss must be squared_error for layers of relu units, got cross_entropy"
    with pytest.raises(ValueError, match=says):
        apply(variables, h, h, layer=2, method="layer_loss")
