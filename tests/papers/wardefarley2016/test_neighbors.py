"""The gradient of smoothed nearest neighbors by their weights, against NumPy in float64."""

import jax.numpy as jnp
import numpy as np
from scipy.special import softmax

from adv_jax.data.dataset import Arrays
from papers.wardefarley2016.neighbors import step_by_weights


def test_the_step_by_the_weights_is_the_derivative_of_p_y():
    rng = np.random.default_rng(0)
    train_x, train_y = rng.normal(size=(40, 5)), rng.integers(0, 3, 40)
    x, y = rng.normal(size=(20, 5)), rng.integers(0, 3, 20)
    weights = softmax(-((x[:, None] - train_x) ** 2).sum(2), axis=1)
    own = np.where(train_y == y[:, None], weights, 0)
    p = own.sum(1, keepdims=True)
    gradient = 2 * (weights @ train_x - own @ train_x / p)
    found, step = step_by_weights(
        jnp.float32(x), jnp.array(y), Arrays(np.float32(train_x), train_y)
    )
    np.testing.assert_allclose(found, p[:, 0], rtol=1e-4)
    clear = np.abs(gradient) > 1e-5
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(np.asarray(step)[clear], np.sign(gradient)[clear])
