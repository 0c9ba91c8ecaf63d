"""models.layered: nets cut at any layer, dropout, and models.convnet against SciPy in float64."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from adv_jax import models

NETS = {
    "mlp": (models.mlp(features=(5, 4), num_classes=3), (6,)),
    "lenet": (models.lenet(features=(2, 3, 4), num_classes=3, activation="tanh"), (16, 16, 1)),
    "convnet": (
        models.convnet(stages=((2, 3), (4,)), kernel_size=3, units=(5, 4), num_classes=3),
        (9, 8, 2),
    ),
}


def batch_of(shape, size=4):
    return np.random.default_rng(0).normal(size=(size, *shape)).astype(np.float32)


@pytest.fixture(scope="module", params=NETS)
def net(request):
    """(apply, variables, x, number of hidden layers) of a net with random biases too."""
    model, shape = NETS[request.param]
    x = batch_of(shape)
    shapes = jax.eval_shape(lambda: models.init(model, jax.random.key(0), x))
    rng = np.random.default_rng(1)
    variables = jax.tree.map(lambda s: rng.normal(0, 0.5, s.shape).astype(np.float32), shapes)
    return models.apply_fn(model), variables, x, len(variables["params"]) - 1


def test_both_halves_make_the_whole_at_every_layer(net):
    apply, variables, x, layers = net
    whole = apply(variables, x)
    for layer in range(1, layers + 1):
        h, below, _ = apply(variables, x, method="represent", layer=layer)
        np.testing.assert_array_equal(h, whole.extras[f"hidden{layer}"])
        logits, above, _ = apply(variables, h, method="classify", layer=layer)
        np.testing.assert_array_equal(logits, whole.logits)
        assert {*below, *above} == whole.extras.keys() and not {*below} & {*above}


def test_the_upper_half_is_not_changed_by_parameters_of_the_lower(net):
    apply, variables, x, layers = net
    for layer in range(1, layers + 1):
        h = apply(variables, x, method="represent", layer=layer).logits
        slope = jax.grad(
            lambda v, h=h, layer=layer: apply(v, h, method="classify", layer=layer).logits.sum()
        )(variables)["params"]
        for number in range(1, layers + 1):
            moved = any(
                np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(slope[f"hidden{number}"])
            )
            assert moved == (number > layer)


@pytest.mark.parametrize("train", [True, False])
def test_dropout_leaves_the_mean_and_drops_the_stated_share_in_training_only(train):
    # One layer of identity weights: the logits are the sum of what is left of the 4000 inputs.
    rates, size = (0.2, 0.5), 4000
    model = models.mlp(features=(size,), num_classes=1, dropout=rates)
    params = {
        "hidden1": {"kernel": np.eye(size, dtype=np.float32), "bias": np.zeros(size, np.float32)},
        "logits": {"kernel": np.ones((size, 1), np.float32), "bias": np.zeros(1, np.float32)},
    }
    x = np.ones((3, size), np.float32)
    apply = models.apply_fn(model)
    logits, extras, _ = apply({"params": params}, x, train=train, key=jax.random.key(3))
    h = np.asarray(extras["hidden1"])
    if not train:
        np.testing.assert_array_equal(h, 1)
        np.testing.assert_allclose(logits, size)
        return
    assert {*np.unique(h)} == {np.float32(0), np.float32(1 / 0.8)}
    sd = np.sqrt(size * 0.2 * 0.8)
    assert np.all(np.abs((h == 0).sum(axis=1) - 0.2 * size) < 5 * sd)
    assert not np.array_equal(h[0], h[1])
    # A value is 2.5 with probability .4, else 0: variance 1.5.
    assert np.all(np.abs(logits - size) < 5 * np.sqrt(1.5 * size))


def test_a_number_of_rates_that_does_not_fit_the_layers_is_refused():
    with pytest.raises(ValueError, match="dropout has 2 entries; allowed are 0 or 3: one for the"):
        models.init(
            models.mlp(features=(3, 3), dropout=(0.1, 0.1)), jax.random.key(0), batch_of((4,))
        )


def numpy_pool(h):
    """Largest of 3 x 3 from every second pixel on; beyond the border there is nothing."""
    height, width, _ = h.shape
    rows, columns = -(-height // 2), -(-width // 2)
    # Where pixels are odd in number, the first pool begins one before the image.
    top, left = ((2 * (n - 1) + 3 - size) // 2 for n, size in ((rows, height), (columns, width)))
    pooled = np.empty((rows, columns, h.shape[2]))
    for i, j in itertools.product(range(rows), range(columns)):
        window = h[max(2 * i - top, 0) : 2 * i - top + 3, max(2 * j - left, 0) : 2 * j - left + 3]
        pooled[i, j] = window.max(axis=(0, 1))
    return pooled


def test_the_convolutional_net_equals_the_numpy_version():
    model, shape = NETS["convnet"]
    x = batch_of(shape, 2)
    shapes = jax.eval_shape(lambda: models.init(model, jax.random.key(0), x)["params"])
    rng = np.random.default_rng(4)
    params = jax.tree.map(lambda s: rng.normal(0, 0.3, s.shape).astype(np.float32), shapes)
    logits, extras, _ = jax.jit(models.apply_fn(model))({"params": params}, x)
    for row, image in enumerate(np.float64(x)):
        h = image
        for layer, pooled in enumerate((False, True, True), start=1):
            weights = params[f"hidden{layer}"]
            kernel = np.float64(weights["kernel"])
            a = np.stack(
                [
                    scipy.signal.correlate(
                        np.pad(h, ((1, 1), (1, 1), (0, 0))), kernel[..., o], "valid"
                    )[..., 0]
                    for o in range(kernel.shape[-1])
                ],
                axis=-1,
            )
            h = np.maximum(a + weights["bias"], 0)
            h = numpy_pool(h) if pooled else h
            np.testing.assert_allclose(extras[f"hidden{layer}"][row], h, rtol=1e-4, atol=1e-5)
        h = h.ravel()
        for layer in (4, 5):
            weights = params[f"hidden{layer}"]
            h = np.maximum(h @ np.float64(weights["kernel"]) + weights["bias"], 0)
        expected = h @ np.float64(params["logits"]["kernel"]) + params["logits"]["bias"]
        np.testing.assert_allclose(logits[row], expected, rtol=1e-4, atol=1e-5)


def test_the_papers_nets_have_the_printed_sizes():
    def sizes(model, shape):
        made = jax.eval_shape(lambda: models.init(model, jax.random.key(0), jnp.zeros((2, *shape))))
        return {name: layer["kernel"].shape for name, layer in made["params"].items()}

    huang = sizes(models.convnet(), (28, 28, 3))
    assert huang["hidden7"] == (7 * 7 * 256, 2048) and huang["logits"] == (2048, 10)
    srivastava = sizes(models.convnet(stages=((96,), (128,), (256,)), kernel_size=5), (32, 32, 3))
    assert srivastava["hidden1"] == (5, 5, 3, 96) and srivastava["hidden4"] == (4 * 4 * 256, 2048)
