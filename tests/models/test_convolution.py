"""Conv, the layer: the function with a bias, and how it draws its weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adv_jax.models import initializers
from adv_jax.models.convolution import Conv, ConvTranspose


def test_conv_is_the_convolution_with_a_bias_and_initializes_a_matrix():
    x = jax.random.normal(jax.random.key(1), (3, 7, 6, 3))
    model = Conv(5, (3, 2), "FULL", kernel_init=initializers.sparse(15))
    params = model.init(jax.random.key(0), x)["params"]
    kernel = params["kernel"]
    assert kernel.shape == (3, 2, 3, 5)
    # 15 of the 3 * 2 * 3 = 18 weights of each map.
    np.testing.assert_array_equal((np.asarray(kernel) != 0).sum(axis=(0, 1, 2)), 15)
    np.testing.assert_array_equal(params["bias"], np.zeros(5))
    bias = jnp.arange(5, dtype=jnp.float32)
    y = model.apply({"params": {"kernel": kernel, "bias": bias}}, x)
    axes = ("NHWC", "HWIO", "NHWC")
    expected = jax.lax.conv_general_dilated(
        x, kernel, (1, 1), [(2, 2), (1, 1)], dimension_numbers=axes
    )
    expected += bias[None, None, None]
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("padding", ["SAME", "VALID", "FULL"])
@pytest.mark.parametrize("size", [1, 3, 4])
def test_a_stride_keeps_some_rows_and_columns_and_their_gradients(padding, size):
    x = jax.random.normal(jax.random.key(1), (3, 7, 6, 2))
    whole = Conv(4, (size, size), padding, use_bias=False)
    params = whole.init(jax.random.key(0), x)
    assert params["params"].keys() == {"kernel"}
    strided = whole.clone(stride=2)
    outputs = lambda model, *cut: lambda params, x: model.apply(params, x)[(slice(None), *cut)]
    every = slice(None, None, 2)
    found, pull_back = jax.vjp(outputs(strided), params, x)
    expected, expected_pull_back = jax.vjp(outputs(whole, every, every), params, x)
    same = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    same(found, expected)
    g = jax.random.normal(jax.random.key(2), found.shape)
    jax.tree.map(same, pull_back(g), expected_pull_back(g))


@pytest.mark.slow
def test_a_transposed_convolution_is_the_transpose_of_one_of_stride_2():
    rng = np.random.default_rng(3)
    x = jnp.asarray(rng.normal(size=(2, 3, 4, 5)), jnp.float32)
    image = jnp.asarray(rng.normal(size=(2, 6, 8, 7)), jnp.float32)
    layer = ConvTranspose(7, use_bias=False)
    variables = layer.init(jax.random.key(0), x)
    kernel = variables["params"]["kernel"].swapaxes(2, 3)  # That of a convolution of 7 maps to 5.
    axes = ("NHWC", "HWIO", "NHWC")
    strided = jax.lax.conv_general_dilated(
        image, kernel, (2, 2), ((2, 2), (2, 2)), dimension_numbers=axes
    )
    found = layer.apply(variables, x)
    assert found.shape == image.shape
    assert float(jnp.vdot(found, image)) == pytest.approx(float(jnp.vdot(x, strided)), rel=1e-4)
