"""models.convnet: against SciPy in float64, and the nets of the papers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from marks import exhaustive_after
from random_params import random_params

from adv_jax import models
from adv_jax.runner.config.binding import MODELS, bind
from adv_jax.runner.config.document import ConfigError

SRIVASTAVA = {"stages": ((96,), (128,), (256,)), "kernel_size": 5, "units": (2048, 2048)}


def convolved(h, kernel, bias, padding="SAME"):
    """Convolves one image f[H, W, C] map by map; with SAME an even kernel pads at the end."""
    before = (kernel.shape[0] - 1) // 2 if padding == "SAME" else 0
    after = kernel.shape[0] - 1 - before if padding == "SAME" else 0
    padded = np.pad(h, ((before, after), (before, after), (0, 0)))
    maps = [
        scipy.signal.correlate(padded, kernel[..., o], mode="valid")[..., 0] + bias[o]
        for o in range(len(bias))
    ]
    return np.stack(maps, axis=-1)


def pooled(h):
    """3x3 max-pooling, stride 2, SAME padding: H -> ceil(H / 2).

    An even H is padded by one row after the image, an odd one by a row on either side.
    """
    lacking = [(0, 1) if n % 2 == 0 else (1, 1) for n in h.shape[:2]]
    padded = np.pad(h, (*lacking, (0, 0)), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(0, 1))
    return windows[::2, ::2].max(axis=(-2, -1))


def numpy_convnet(params, image, stages, units):
    """Returns (logits, hidden layers) of one image in float64; pooling follows the activation."""
    h, hidden, number = np.float64(image), [], 0
    for stage in stages:
        for i in range(len(stage)):
            number += 1
            layer = params[f"hidden{number}"]
            h = np.maximum(convolved(h, np.float64(layer["kernel"]), layer["bias"]), 0)
            if i == len(stage) - 1:
                h = pooled(h)
            hidden.append(h)
    h = h.ravel()
    for _ in units:
        number += 1
        layer = params[f"hidden{number}"]
        h = np.maximum(h @ np.float64(layer["kernel"]) + layer["bias"], 0)
        hidden.append(h)
    return h @ np.float64(params["logits"]["kernel"]) + params["logits"]["bias"], hidden


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stages", "kernel_size", "shape"),
    [
        (((3,), (4,)), 5, (2, 8, 8, 2)),
        (((3, 2), (4,)), 3, (2, 10, 7, 2)),  # 10 -> 5 -> 3 and 7 -> 4 -> 2
        (((3,),), 2, (2, 5, 6, 1)),
    ],
)
def test_convnet_equals_the_numpy_version_layer_by_layer(stages, kernel_size, shape):
    units = (6, 5)
    model = models.convnet(stages=stages, kernel_size=kernel_size, units=units, num_classes=3)
    params = random_params(model, shape)
    x = np.random.default_rng(1).uniform(-1, 1, size=shape).astype(np.float32)
    logits, extras, state = jax.jit(models.apply_fn(model))({"params": params}, x)
    assert not state
    assert list(extras) == [f"hidden{n + 1}" for n in range(len(extras))]
    for row, image in enumerate(x):
        expected, hidden = numpy_convnet(params, image, stages, units)
        np.testing.assert_allclose(logits[row], expected, rtol=1e-4, atol=1e-5)
        for found, layer in zip(extras.values(), hidden, strict=True):
            np.testing.assert_allclose(found[row], layer, rtol=1e-4, atol=1e-5)


def test_the_net_of_zhang_2019_equals_the_numpy_version():
    model = models.convnet(
        stages=((2, 3), (4,)), units=(5,), padding="VALID", pool=2, num_classes=3
    )
    shape = (2, 13, 14, 1)  # 13 -> 11 -> 9 -> 4 -> 2 -> 1 and 14 -> 12 -> 10 -> 5 -> 3 -> 1
    params = random_params(model, shape)
    x = np.random.default_rng(1).uniform(-1, 1, size=shape).astype(np.float32)
    logits = jax.jit(models.apply_fn(model))({"params": params}, x).logits
    for row, image in enumerate(x):
        h = np.float64(image)
        for name, pooling in (("hidden1", False), ("hidden2", True), ("hidden3", True)):
            h = np.maximum(convolved(h, *layer_of(params, name), padding="VALID"), 0)
            rows, columns = (n // 2 * 2 for n in h.shape[:2])
            if pooling:
                h = h[:rows, :columns].reshape(rows // 2, 2, columns // 2, 2, -1).max(axis=(1, 3))
        for name in ("hidden4", "logits"):
            kernel, bias = layer_of(params, name)
            h = h.ravel() @ kernel + bias
            h = np.maximum(h, 0) if name == "hidden4" else h
        np.testing.assert_allclose(logits[row], h, rtol=1e-4, atol=1e-5)


def layer_of(params, name):
    return tuple(np.asarray(params[name][part], np.float64) for part in ("kernel", "bias"))


def averaged(h, size):
    """Mean of the pixels of the image in each size x size window of stride 2."""
    outside = [(n % 2, 1) if size == 3 else (0, 0) for n in h.shape[:2]]
    padded = np.pad(h, (*outside, (0, 0)), constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(0, 1))
    return np.nanmean(windows[::2, ::2], axis=(-2, -1))


@pytest.mark.parametrize("size", exhaustive_after(1, [3, 2]))
def test_average_pooling_follows_the_activation_and_leaves_out_pixels_beyond_the_border(size):
    model = models.convnet(
        stages=((2, 3),), units=(), pool=size, pooling="average", num_classes=3, activation="tanh"
    )
    params = random_params(model, shape := (2, 7, 6, 2))
    x = np.random.default_rng(1).uniform(-1, 1, size=shape).astype(np.float32)
    output = jax.jit(models.apply_fn(model))({"params": params}, x)
    for row, image in enumerate(x):
        h = np.tanh(convolved(np.float64(image), *layer_of(params, "hidden1")))
        h = averaged(np.tanh(convolved(h, *layer_of(params, "hidden2"))), size)
        np.testing.assert_allclose(output.extras["hidden2"][row], h, rtol=1e-4, atol=1e-5)


def test_an_inception_block_is_its_four_branches_side_by_side():
    model = models.convnet(stages=(((2, 3, 4, 2, 3, 1),),), units=(), num_classes=3)
    params = random_params(model, shape := (2, 6, 5, 2))
    x = np.random.default_rng(1).uniform(-1, 1, size=shape).astype(np.float32)
    output = jax.jit(models.apply_fn(model))({"params": params}, x)
    block = params["hidden1"]
    layer = lambda h, name: np.maximum(convolved(h, *layer_of(block, name)), 0)
    for row, image in enumerate(np.float64(x)):
        padded = np.pad(image, ((1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(0, 1))
        branches = [
            layer(image, "one"),
            layer(layer(image, "reduce3"), "three"),
            layer(layer(image, "reduce5"), "five"),
            layer(windows.max(axis=(-2, -1)), "pooled"),
        ]
        expected = pooled(np.concatenate(branches, axis=-1))
        np.testing.assert_allclose(output.extras["hidden1"][row], expected, rtol=1e-4, atol=1e-5)


def test_the_first_inception_block_of_szegedy_2015_has_its_number_of_weights():
    # Table 1, row 3a: 28 x 28 x 192 -> 28 x 28 x 256 by 159K weights.
    model = models.convnet(stages=(((64, 96, 128, 16, 32, 32),),), units=())
    made = jax.eval_shape(
        lambda: models.init(model, jax.random.key(0), jnp.zeros((2, 28, 28, 192)))
    )
    layers = made["params"]["hidden1"].values()
    kernels = sum(layer["kernel"].size for layer in layers)
    assert kernels == 192 * (64 + 96 + 16 + 32) + 9 * 96 * 128 + 25 * 16 * 32 == 163_328


def test_a_block_without_six_numbers_is_refused_in_one_line():
    with pytest.raises(
        ValueError, match=r"a block in model.stages must have 6 numbers .* got \(1, 2"
    ):
        random_params(models.convnet(stages=(((1, 2),),)), (2, 6, 6, 1))


def test_a_stage_without_a_convolution_is_refused():
    with pytest.raises(
        ValueError, match=r"^each of model.stages must have a convolution, got \(\("
    ):
        random_params(models.convnet(stages=((8,), ())), (2, 6, 6, 1))


def test_an_unknown_pooling_is_refused():
    with pytest.raises(ValueError, match="^pooling must be one of max, average, got 'avg'"):
        random_params(models.convnet(pooling="avg"), (2, 6, 6, 1))


def test_images_of_which_pooling_leaves_nothing_are_refused():
    model = models.convnet(stages=((3,),) * 3, pool=2, kernel_size=1)
    with pytest.raises(
        ValueError, match=r"^x must be images of which .*, got float32\[2, 0, 0, 3\] after"
    ):
        models.init(model, jax.random.key(0), jnp.zeros((2, 4, 4, 1)))


def test_pooling_windows_reach_over_the_border():
    # A kernel of 1 x 1 that copies: what is left is the pooling of 4 x 4 pixels to 2 x 2.
    model = models.convnet(stages=((1,),), kernel_size=1, units=(), num_classes=4)
    x = jnp.array([[1, 5, 2, 0], [3, 4, 9, 8], [0, 1, 7, 6], [2, 0, 1, 3]], jnp.float32)
    params = {
        "hidden1": {"kernel": jnp.ones((1, 1, 1, 1)), "bias": jnp.zeros(1)},
        "logits": {"kernel": jnp.eye(4), "bias": jnp.zeros(4)},
    }
    apply = models.apply_fn(model)
    # Rows and columns 0 to 2, then 2 and 3, whose third is outside.
    np.testing.assert_array_equal(
        apply({"params": params}, x[None, ..., None]).logits, [[9, 9, 7, 7]]
    )


def test_convnet_with_the_settings_of_srivastava_has_its_layer_sizes():
    shape = (2, 32, 32, 3)
    model = models.convnet(**SRIVASTAVA)
    variables = jax.eval_shape(lambda: models.init(model, jax.random.key(0), jnp.zeros(shape)))
    sizes = {
        name: sum(leaf.size for leaf in layer.values())
        for name, layer in variables["params"].items()
    }
    # 25 inputs x maps + maps; 4 x 4 pixels of 256 maps come out.
    assert sizes == {
        "hidden1": 25 * 3 * 96 + 96,
        "hidden2": 25 * 96 * 128 + 128,
        "hidden3": 25 * 128 * 256 + 256,
        "hidden4": 4 * 4 * 256 * 2048 + 2048,
        "hidden5": 2048 * 2048 + 2048,
        "logits": 2048 * 10 + 10,
    }
    output = jax.eval_shape(models.apply_fn(model), variables, jnp.zeros(shape))
    assert [extra.shape[1:] for extra in output.extras.values()] == [
        (16, 16, 96),
        (8, 8, 128),
        (4, 4, 256),
        (2048,),
        (2048,),
    ]


def test_each_layer_of_convnet_has_a_dropout_rate():
    model = models.convnet(
        stages=((2,),), kernel_size=1, units=(50,), num_classes=3, dropout=(0.0, 1 - 1e-6, 0.0)
    )
    x = np.random.default_rng(0).uniform(size=(4, 6, 6, 1)).astype(np.float32)
    params = random_params(model, x.shape)
    apply = jax.jit(models.apply_fn(model), static_argnames="train")
    output = apply({"params": params}, x, train=True, key=jax.random.key(0))
    # The outputs of the convolution are dropped: the logits of all rows are equal.
    assert np.ptp(output.extras["hidden1"], axis=0).max() > 0
    np.testing.assert_array_equal(output.logits, np.repeat(output.logits[:1], 4, axis=0))
    assert np.ptp(apply({"params": params}, x).logits, axis=0).max() > 0
    with pytest.raises(ValueError, match="model.dropout must have 0 or 3 entries, .* got 2"):
        random_params(models.convnet(stages=((2,),), units=(5,), dropout=(0.1, 0.1)), x.shape)


@pytest.mark.parametrize("shape", [(2, 784), (2, 28, 28)])
def test_convnet_refuses_inputs_that_are_not_images(shape):
    with pytest.raises(ValueError, match=r"f\[B, H, W, C\]"):
        models.init(models.convnet(), jax.random.key(0), jnp.zeros(shape))


def test_a_config_names_convnet_and_its_settings():
    assert bind({"name": "convnet", **SRIVASTAVA}, MODELS, field="model")().kernel_size == 5
    with pytest.raises(
        ConfigError, match=r"a setting of model.convnet must be .*, got 'stage'.*'stages'"
    ):
        bind({"name": "convnet", "stage": ()}, MODELS, field="model")
