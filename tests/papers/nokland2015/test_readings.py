"""papers.nokland2015.readings: the directions, against NumPy."""

import jax
import numpy as np
import pytest

from papers.nokland2015.readings import DIRECTIONS

RNG = np.random.default_rng(0)
G = RNG.normal(size=(6, 28, 28, 1)).astype(np.float32)
X = np.maximum(RNG.normal(size=G.shape), 0).astype(np.float32)
SIGNS = np.sign(G)
EXPECTED = {
    "as printed": SIGNS,
    "transposed image of the gradient": SIGNS.transpose(0, 2, 1, 3),
    "one direction for all, of the mean gradient": np.sign(G.mean(0)) * np.ones((6, 1, 1, 1)),
    "gradient of another image": np.concatenate([SIGNS[-1:], SIGNS[:-1]]),
    "only pixels above 0": SIGNS * (X > 0),
    "gradient divided by its largest entry": G / np.abs(G).max((1, 2, 3), keepdims=True),
}


def direction(name, g=G):
    return np.asarray(DIRECTIONS[name](g, X, jax.random.key(0)))


@pytest.mark.parametrize("name", EXPECTED)
def test_a_direction_is_that_of_numpy(name):
    np.testing.assert_allclose(direction(name), EXPECTED[name], rtol=1e-6)


def test_one_order_of_the_pixels_is_that_of_all_images():
    pixels = np.arange(1, 785, dtype=np.float32).reshape(1, 28, 28, 1)
    # Each image has the sign + at one pixel alone: its place tells where the pixel has gone.
    alone = np.where(np.eye(784, dtype=bool), 1, -1).reshape(784, 28, 28, 1) * pixels
    to = direction("pixels of the gradient in one random order", alone).reshape(784, 784)
    assert sorted(to.argmax(1)) == list(range(784))
    assert np.mean(to.argmax(1) == np.arange(784)) < 0.02


def test_45_percent_of_the_signs_are_flipped():
    share = np.mean(direction("45 % of the signs flipped") == -SIGNS)
    assert share == pytest.approx(0.45, abs=4 * np.sqrt(0.45 * 0.55 / SIGNS.size))


@pytest.mark.parametrize("name", DIRECTIONS)
def test_a_gradient_of_zeros_moves_nothing(name):
    assert not direction(name, np.zeros_like(G)).any()
