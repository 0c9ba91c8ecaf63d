"""FGSM on hard and on smoothed targets of a linear model, against NumPy in float64."""

import jax.numpy as jnp
import numpy as np
from scipy.special import softmax

from adv_jax.data.dataset import Arrays, Dataset
from adv_jax.runner.run.trained import Trained
from papers.wardefarley2016 import smoothing

RNG = np.random.default_rng(0)
W = RNG.normal(size=(12, 4)).astype(np.float32)
X = RNG.normal(size=(300, 12)).astype(np.float32)
Y = (X @ W + 0.3 * RNG.normal(size=(300, 4))).argmax(1).astype(np.int32)


def error(x):
    return np.mean((np.float64(x) @ W).argmax(1) != Y)


def test_the_attack_raises_the_cost_of_its_targets():
    data = Arrays(X, Y)
    dataset = Dataset("drawn", "drawn", {}, train=data, test=data, num_classes=4, bounds=None)
    model = Trained(lambda x: x @ jnp.asarray(W), lambda *_: None, {}, "labels", dataset, {})
    p = softmax(np.float64(X) @ W, axis=1)
    expected = {"clean": error(X)}
    # As printed, .9 and .1 / K: the sum of the targets is .975 for K = 4.
    for name, targets in (
        ("hard", np.eye(4)[Y]),
        ("smoothed", np.where(np.eye(4, dtype=bool)[Y], 0.9, 0.025)),
    ):
        gradient = (p * targets.sum(1, keepdims=True) - targets) @ W.T
        expected[name] = error(X + 0.25 * np.sign(gradient))
    found = smoothing.errors(model)
    assert found.keys() == expected.keys()
    assert all(abs(found[name] - expected[name]) < 1.5 / 300 for name in expected)
    # Certain rows, p_y > .9, escape the cost of the smoothed targets.
    assert found["clean"] < found["smoothed"] < found["hard"]
