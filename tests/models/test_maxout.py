"""models.maxout: against loops over units and pieces in float64."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from random_params import random_params

from adv_jax import models


def test_maxout_units_are_the_maximum_of_their_pieces():
    model = models.maxout(features=(3, 2), pieces=4, num_classes=3)
    params = random_params(model, (5, 2, 3))
    x = np.random.default_rng(1).normal(size=(5, 2, 3)).astype(np.float32)
    logits, extras, state = models.apply_fn(model)({"params": params}, x)
    for row in range(5):
        h = np.float64(x[row]).ravel()
        for name, units in (("hidden1", 3), ("hidden2", 2)):
            kernel, bias = np.float64(params[name]["kernel"]), np.float64(params[name]["bias"])
            assert kernel.shape[1] == 4 * units
            h = np.array(
                [
                    max(h @ kernel[:, 4 * unit + j] + bias[4 * unit + j] for j in range(4))
                    for unit in range(units)
                ]
            )
            np.testing.assert_allclose(extras[name][row], h, rtol=1e-5, atol=1e-6)
        expected = h @ np.float64(params["logits"]["kernel"]) + params["logits"]["bias"]
        np.testing.assert_allclose(logits[row], expected, rtol=1e-5, atol=1e-6)
    assert list(extras) == ["hidden1", "hidden2"] and not state


def test_the_default_maxout_has_the_parameters_of_the_paper():
    # (784 + 1) 1200 + (240 + 1) 1200 + (240 + 1) 10 = 1,233,610 parameters.
    shapes = jax.eval_shape(
        lambda: models.init(models.maxout(), jax.random.key(0), jnp.zeros((1, 784)))
    )
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 1_233_610


def pooled(image, size):
    """Max-pooling of f64[H, W, C] with stride 2, as in Pylearn2's pool.py.

    ceil((n - size) / 2) + 1 windows cover n pixels.
    """
    starts = [range(0, 2 * (math.ceil((n - size) / 2) + 1), 2) for n in image.shape[:2]]
    return np.array(
        [[image[i : i + size, j : j + size].max(axis=(0, 1)) for j in starts[1]] for i in starts[0]]
    )


def test_maxout_conv_equals_the_numpy_version():
    settings = {"maps": (3, 2), "kernel_sizes": (4, 3), "pieces": (2, 3), "pools": (4, 2)}
    settings |= {"pads": (0, 2), "units": (3,), "unit_pieces": 2}
    model = models.maxout_conv(**settings, num_classes=3)
    params = random_params(model, (2, 9, 10, 2))
    x = np.random.default_rng(1).uniform(size=(2, 9, 10, 2)).astype(np.float32)
    logits, extras, _ = jax.jit(models.apply_fn(model))({"params": params}, x)
    for row in range(2):
        h = np.float64(x[row])
        for name, pieces, pool in (("hidden1", 2, 4), ("hidden2", 3, 2)):
            kernel, bias = np.float64(params[name]["kernel"]), np.float64(params[name]["bias"])
            if name == "hidden2":
                h = np.pad(h, ((2, 2), (2, 2), (0, 0)))
            linear = [
                scipy.signal.correlate(h, kernel[..., o], mode="valid")[..., 0] + bias[o]
                for o in range(kernel.shape[-1])
            ]
            units = [
                np.max(linear[first : first + pieces], axis=0)
                for first in range(0, len(linear), pieces)
            ]
            h = pooled(np.stack(units, axis=-1), pool)
            np.testing.assert_allclose(extras[name][row], h, rtol=1e-4, atol=1e-5)
        full = params["hidden3"]
        linear = h.ravel() @ np.float64(full["kernel"]) + full["bias"]
        h = np.array([max(linear[2 * unit : 2 * unit + 2]) for unit in range(3)])
        np.testing.assert_allclose(extras["hidden3"][row], h, rtol=1e-4, atol=1e-5)
        expected = h @ np.float64(params["logits"]["kernel"]) + params["logits"]["bias"]
        np.testing.assert_allclose(logits[row], expected, rtol=1e-4, atol=1e-5)


def sizes_of(model, shape):
    """Returns the shapes of the hidden layers' activations."""
    x = jnp.zeros((1, *shape))
    variables = jax.eval_shape(lambda: models.init(model, jax.random.key(0), x))
    _, extras, _ = jax.eval_shape(models.apply_fn(model), variables, x)
    return [extra.shape[1:] for extra in extras.values()]


def test_maxout_conv_on_mnist_has_the_layer_sizes_of_pylearn2():
    # 28 - 8 + 1 = 21 -> ceil(17 / 2) + 1 = 10; 10 + 6 - 8 + 1 = 9 -> ceil(5 / 2) + 1 = 4;
    # 4 + 6 - 5 + 1 = 6 -> 4 / 2 + 1 = 3.
    sizes = sizes_of(models.maxout_conv(), (28, 28, 1))
    assert sizes == [(10, 10, 48), (4, 4, 48), (3, 3, 24)]


def test_maxout_conv_on_cifar10_has_the_layer_sizes_of_pylearn2():
    # 32 + 8 - 8 + 1 = 33 -> ceil(29 / 2) + 1 = 16; 16 + 6 - 8 + 1 = 15 -> ceil(11 / 2) + 1 = 7;
    # 7 + 6 - 5 + 1 = 9 -> ceil(7 / 2) + 1 = 5.
    net = models.maxout_conv(maps=(6, 7, 8), pads=(4, 3, 3), pieces=(2, 2, 2), units=(9,))
    assert sizes_of(net, (32, 32, 3)) == [(16, 16, 6), (7, 7, 7), (5, 5, 8), (9,)]


def test_lists_of_different_lengths_are_refused():
    model = models.maxout_conv(maps=(3, 4))
    message = "model.maps, kernel_sizes, pads, pieces and pools must have .* got 2, 3, 3, 3, 3"
    with pytest.raises(ValueError, match=message):
        models.init(model, jax.random.key(0), jnp.zeros((1, 28, 28, 1)))


def test_rows_that_are_no_images_are_refused_with_any_padding():
    for pads in ((0, 3, 3), (1, 3, 3)):
        model = models.maxout_conv(pads=pads)
        with pytest.raises(ValueError, match=r"^x must be f\[B, H, W, C\], got float32\[4, 5\]"):
            models.init(model, jax.random.key(0), jnp.zeros((4, 5)))


@pytest.mark.parametrize("name", ["maxout", "maxout_conv"])
def test_maxout_has_no_activation_argument(name):
    with pytest.raises(TypeError, match="activation"):
        getattr(models, name)(activation="relu")
