"""Boltzmann machines and deep belief networks as models: parts, means, samples."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import exhaustive_after
from scipy.special import expit

from adv_jax import generative, models
from adv_jax.generative import boltzmann
from adv_jax.generative.boltzmann import EVEN
from adv_jax.types import UserError

KEY = jax.random.key(0)
X = jnp.asarray(np.random.default_rng(0).uniform(size=(3, 2, 2, 1)), jnp.float32)


def built(model):
    """The apply function, and variables with other biases than 0."""
    variables = models.init(model, jax.random.key(1), X)
    rng = np.random.default_rng(2)
    draw = lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32)
    return models.apply_fn(model), {"params": jax.tree.map(draw, variables["params"])}


def test_an_unknown_kind_of_visible_units_is_refused():
    with pytest.raises(ValueError, match="^visible must be one of binary, gaussian, got 'g'"):
        built(generative.models.boltzmann(shape=(2, 2, 1), visible="g"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "build", exhaustive_after(1, [generative.models.dbn, generative.models.boltzmann])
)
def test_the_encoder_has_the_layers_of_a_multilayer_perceptron(build):
    _, stack = built(build(shape=(2, 2, 1), features=(3, 5)))
    net = models.init(models.mlp(features=(3, 5)), KEY, X)["params"]
    shapes = lambda tree: jax.tree.map(jnp.shape, tree)
    hidden = {name: layer for name, layer in net.items() if name != "logits"}
    assert shapes(stack["params"]["encoder"]) == shapes(hidden)


@pytest.mark.slow
def test_a_sigmoid_perceptron_with_the_encoder_s_weights_has_its_hidden_units():
    model = generative.models.dbn(shape=(2, 2, 1), features=(3, 5))
    apply, variables = built(model)
    net = models.mlp(features=(3, 5), activation="sigmoid")
    params = models.init(net, KEY, X)["params"] | variables["params"]["encoder"]
    _, extras, _ = models.apply_fn(net)({"params": params}, X)
    top, found, _ = apply(variables, X)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, dict(extras))
    np.testing.assert_array_equal(top, found["hidden2"])


def numpy_unrolled(params, x):
    """The means of a stack's units, up and down."""
    layers = [params["encoder"][f"hidden{n}"] for n in (1, 2)]
    h = np.float64(x).reshape(len(x), -1)
    for layer in layers:
        h = expit(h @ np.float64(layer["kernel"]) + np.float64(layer["bias"]))
    for n, layer in zip((2, 1), reversed(layers), strict=True):
        below = h @ np.float64(layer["kernel"]).T + np.float64(params["decoder"][f"hidden{n}"])
        h = expit(below)
    return h, below


def test_the_loss_of_a_stack_is_the_cross_entropy_of_the_unrolled_autoencoder():
    apply, variables = built(generative.models.dbn(shape=(2, 2, 1), features=(3, 5)))
    p, logits = numpy_unrolled(variables["params"], X)
    found = apply(variables, X, method="reconstruct").logits
    np.testing.assert_allclose(found, p.reshape(X.shape), rtol=1e-5)
    x = np.float64(X).reshape(3, -1)
    expected = (np.logaddexp(0, logits) - x * logits).sum(axis=1)
    losses = apply(variables, X, method="row_loss").logits
    np.testing.assert_allclose(losses, expected, rtol=1e-4)


def test_the_loss_of_gaussian_units_is_half_the_squared_error():
    apply, variables = built(
        generative.models.dbn(shape=(2, 2, 1), features=(3, 5), visible="gaussian")
    )
    _, means = numpy_unrolled(variables["params"], X)
    expected = ((means - np.float64(X).reshape(3, -1)) ** 2).sum(axis=1) / 2
    found = apply(variables, X, method="row_loss").logits
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.slow
def test_hidden_units_of_a_deep_machine_are_a_fixed_point_of_mean_field():
    apply, variables = built(
        generative.models.boltzmann(shape=(2, 2, 1), features=(3, 5), mean_field_steps=200)
    )
    _, extras, _ = apply(variables, X)
    encoder = jax.tree.map(np.float64, variables["params"]["encoder"])
    up = np.float64(X).reshape(3, -1) @ encoder["hidden1"]["kernel"] + encoder["hidden1"]["bias"]
    down = np.float64(extras["hidden2"]) @ encoder["hidden2"]["kernel"].T
    np.testing.assert_allclose(extras["hidden1"], expit(up + down), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("visible", ["binary", "gaussian"])
def test_each_machine_of_a_stack_has_data_drawn_from_the_means_below_it(visible):
    apply, variables = built(
        generative.models.dbn(shape=(2, 2, 1), features=(3, 5), visible=visible)
    )
    x = jnp.tile(X[:1], (5000, 1, 1, 1))
    ((v,), (h,)) = apply(variables, x, key=KEY, method="machines").extras["data"]
    means = apply(variables, X[:1]).extras["hidden1"][0]
    assert set(np.unique(h)) == {0, 1}
    np.testing.assert_allclose(h.mean(axis=0), means, atol=0.03)
    if visible == "gaussian":
        np.testing.assert_array_equal(v, x.reshape(5000, 4))
    else:
        assert set(np.unique(v)) == {0, 1}
        np.testing.assert_allclose(v.mean(axis=0), X[0].reshape(4), atol=0.03)


def states(count):
    return np.array(list(itertools.product([0, 1], repeat=count)), np.float32)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "features"),
    [
        (generative.models.boltzmann, (2,)),
        (generative.models.boltzmann, (2, 2)),
        (generative.models.dbn, (2,)),
    ],
)
def test_samples_have_the_mean_of_the_distribution(build, features):
    apply, variables = built(build(shape=(2, 2, 1), features=features))
    like = jnp.zeros((20_000, 2, 2, 1))
    found = apply(variables, like, key=KEY, method="sample", steps=30).logits
    machine = apply(variables, X, key=KEY, method="machines").extras["machines"][0]
    values = states(sum(machine.units(EVEN)))
    even = tuple(map(jnp.asarray, np.split(values, np.cumsum(machine.units(EVEN))[:-1], axis=1)))
    p = np.exp(-np.float64(boltzmann.free_energy(machine, even)))
    expected = (p / p.sum()) @ values[:, :4]
    assert np.all(np.abs(found.reshape(len(like), -1).mean(axis=0) - expected) < 0.02)


@pytest.mark.slow
def test_samples_of_a_belief_network_come_from_its_top_and_pass_down():
    # Strong biases make the lower hidden layer all 1 whatever the top; then v has known means.
    model = generative.models.dbn(shape=(2, 2, 1), features=(3, 2))
    apply, variables = built(model)
    decoder = variables["params"]["decoder"] | {"hidden2": jnp.full(3, 100.0)}
    params = variables["params"] | {"decoder": decoder}
    found = apply({"params": params}, X, key=KEY, method="sample", steps=2).logits
    kernel = np.float64(params["encoder"]["hidden1"]["kernel"])
    expected = expit(kernel.sum(axis=1) + np.float64(decoder["hidden1"]))
    np.testing.assert_allclose(found.reshape(3, -1), np.tile(expected, (3, 1)), rtol=1e-5)


@pytest.mark.slow
def test_the_greedy_start_doubles_weights_towards_inner_layers():
    model = generative.models.dbn(shape=(2, 2, 1), features=(3, 5, 2), doubled=True)
    apply, variables = built(model)
    params = jax.tree.map(np.float64, variables["params"])
    layers = [params["encoder"][f"hidden{n}"] for n in (1, 2, 3)]
    h, expected = np.float64(X).reshape(3, -1), []
    for scale, layer in zip((2, 2, 1), layers, strict=True):
        h = expit(scale * h @ layer["kernel"] + layer["bias"])
        expected.append(h)
    found = apply(variables, X).extras
    for name, mean in zip(("hidden1", "hidden2", "hidden3"), expected, strict=True):
        np.testing.assert_allclose(found[name], mean, rtol=1e-5)
    for scale, n in ((2, 3), (2, 2), (1, 1)):
        below = params["decoder"][f"hidden{n}"]
        h = expit(scale * h @ layers[n - 1]["kernel"].T + below)
    v = apply(variables, X, method="reconstruct").logits
    np.testing.assert_allclose(v.reshape(3, -1), h, rtol=1e-5)


@pytest.mark.slow
def test_samples_of_a_greedy_start_are_images():
    apply, variables = built(generative.models.dbn(shape=(2, 2, 1), features=(3, 5), doubled=True))
    found = apply(variables, X, key=KEY, method="sample", steps=2).logits
    assert found.shape == X.shape and np.all((found > 0) & (found < 1))


def test_the_normalizer_of_a_machine_starts_at_its_log_z_without_weights():
    zero = models.initializers.gaussian(0.0)
    settings = {"shape": (2, 2, 1), "features": (3,), "hidden_init": zero, "visible_mean": 0.2}
    model = generative.models.normalized_rbm(**settings)
    variables = models.init(model, KEY, X)
    every = jnp.asarray(states(4)).reshape(16, 2, 2, 1)
    found = models.apply_fn(model)(variables, every, method="log_density").logits
    ones = states(4).sum(axis=1)
    np.testing.assert_allclose(found, ones * np.log(0.2) + (4 - ones) * np.log(0.8), rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"features": (3, 2)}, r"model.features must have one hidden layer, got \(3, 2\)"),
        ({"visible": "gaussian"}, "model.visible must be binary, got 'gaussian'"),
        ({"visible_mean": 1.0}, r"visible_mean must be a number above 0 and below 1, got 1.0"),
    ],
)
def test_a_machine_without_a_normalizer_of_its_kind_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        models.init(generative.models.normalized_rbm(shape=(2, 2, 1), **settings), KEY, X)


def test_variables_in_place_of_parameters_are_refused():
    model = generative.models.boltzmann(features=(3, 2))
    with pytest.raises(UserError, match="^params must be those of a DBN alone, got params$"):
        model.converted({"params": {"encoder": {}}})


@pytest.mark.slow
@pytest.mark.parametrize("model", ["boltzmann", "dbn"])
def test_samples_after_fewer_than_0_steps_are_refused(model):
    model = getattr(generative.models, model)(shape=(2, 2, 1), features=(3, 2))
    x = jnp.ones((1, 2, 2, 1))
    variables = models.init(model, KEY, x)
    with pytest.raises(UserError, match="^steps must be a whole number of at least 0, got -1"):
        models.apply_fn(model)(variables, x, key=KEY, method="sample", steps=-1)
