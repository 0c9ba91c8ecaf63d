"""papers.maronas2016.readings: the errors of each reading, against NumPy."""

import json
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from adv_jax import attacks
from adv_jax.data import Arrays
from papers.maronas2016.readings import CELLS, READINGS, errors_of

RNG = np.random.default_rng(0)
W, NOISE = RNG.normal(size=(9, 4)), RNG.normal(size=(50, 9))
X = RNG.normal(size=(50, 9)).astype(np.float32)
# A tenth of the labels is wrong without noise.
Y = np.where(np.arange(50) % 10, (X @ W).argmax(1), ((X @ W).argmax(1) + 1) % 4).astype(np.int32)


def logits_of(x):
    return x @ jnp.asarray(W, jnp.float32)


def apply(variables, x, *, train, key, method, noisy, half, frozen):
    """A linear net that centers its inputs over the batch, as a batch norm does."""
    assert train and method == "on_batch" and half == 0
    x = x + NOISE.astype(np.float32) if noisy else x
    mean = x.mean(0, keepdims=True)
    return SimpleNamespace(logits=logits_of(x - (jax.lax.stop_gradient(mean) if frozen else mean)))


def numpy_gradient(climbed):
    x = X.astype(float) + (NOISE if climbed == "the corrupted pass" else 0)
    centered = x if climbed == "running statistics" else x - x.mean(0)
    gradient = (oracles.softmax(centered @ W) - np.eye(4)[Y]) @ W.T
    through = climbed in ("batch statistics", "the corrupted pass")
    return gradient - gradient.mean(0) if through else gradient


def numpy_error(x, tested):
    centered = x if tested == "running statistics" else x - x.mean(0)
    return np.mean((centered @ W).argmax(1) != Y)


@pytest.fixture(scope="module")
def found():
    dataset = SimpleNamespace(test=Arrays(X, Y))
    model = SimpleNamespace(logits_fn=logits_of, apply=apply, variables={}, dataset=dataset)
    return errors_of(model)


@pytest.mark.slow
@pytest.mark.parametrize(("climbed", "tested"), READINGS)
def test_a_reading_attacks_one_pass_and_tests_another(found, climbed, tested):
    errors = found[f"{climbed} in the attack, {tested} in the test"]
    noisy = attacks.sign_noise(None, jnp.array(X), None, eps=0.25, key=jax.random.key(0))
    assert errors == {
        "fgsm": pytest.approx(numpy_error(X + 0.25 * np.sign(numpy_gradient(climbed)), tested)),
        "sign_noise": pytest.approx(numpy_error(np.asarray(noisy), tested)),
        "clean": pytest.approx(numpy_error(X, tested)),
    }


def test_tolerances_are_the_repeatability_limit_of_our_seeds():
    """2.8 pooled standard deviations of two pairs of seeds, of variance (a - b)^2 / 2 each."""
    folder = Path(__file__).parents[3] / "papers/maronas2016/results/runs"
    clean = [
        [one["test_error"] for one in json.loads((folder / f"{name}.json").read_text())["replicas"]]
        for name in ("ladder_mnist_full_none", "ladder_mnist_full_sgn")
    ]
    under_fgsm = [[0.4115, 0.4052], [0.3938, 0.3968]]  # of the module's docstring
    fgsm, clean = (2.8 * np.sqrt(np.mean(np.diff(pairs) ** 2 / 2)) for pairs in (under_fgsm, clean))
    assert CELLS["fgsm"].tolerance == pytest.approx(fgsm, abs=5e-5)
    assert CELLS["clean"].tolerance == pytest.approx(clean, abs=5e-5)
    assert CELLS["sign_noise"].tolerance == CELLS["clean"].tolerance


@pytest.mark.slow
def test_the_readings_differ(found):
    assert len({errors["fgsm"] for errors in found.values()}) > 3
    assert found["running statistics in the attack, running statistics in the test"][
        "clean"
    ] == pytest.approx(0.1)
