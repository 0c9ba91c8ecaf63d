"""A model whose rows interact, or that draws random numbers, is named by every entry point."""

import jax
import numpy as np
import pytest
from marks import exhaustive_after, slow_after

from adv_jax import attacks, evaluate

X = np.random.default_rng(1).uniform(size=(16, 3)).astype(np.float32)
Y = (X[:, 0] > 0.5).astype(np.int32)
W = np.array([[-1.0, 1], [0, 0], [0, 0]], np.float32)
KEY = jax.random.key(0)


def in_training_mode(x):
    """Normalization by the mean of the batch."""
    return (x - x.mean(axis=0, keepdims=True)) @ W


def alone(x):
    return (x - 0.5) @ W


ENTRIES = {
    "evaluate": lambda fn, x, y: evaluate.evaluate(fn, x, y, {"a": attacks.fgsm}, eps=[0.0]),
    "certify": lambda fn, x, y: evaluate.certify(fn, x, y, [0.01], method="ibp"),
    "certify_smoothed": lambda fn, x, y: evaluate.certify_smoothed(
        fn, x, std=0.1, key=KEY, num_estimation=10, num_selection=10
    ),
    "minimal_eps": lambda fn, x, y: evaluate.minimal_eps(
        fn, x, y, attacks.fgsm, high=1.0, num_steps=1
    ),
    "transfer": lambda fn, x, y: evaluate.transfer({"net": fn}, x, y, attacks.fgsm, eps=0.1),
}


def warned(name, fn, recwarn, x=X, y=Y):
    recwarn.clear()
    ENTRIES[name](fn, x, y)
    found = [w for w in recwarn if w.category is evaluate.AuditWarning]
    assert all(w.filename == __file__ for w in found)
    return [str(w.message) for w in found]


@pytest.mark.parametrize("name", exhaustive_after(2, ENTRIES))
def test_rows_that_interact_are_reported(name, recwarn):
    found = warned(name, in_training_mode, recwarn)
    assert any("depend on the other rows of the batch" in message for message in found)
    assert warned(name, alone, recwarn) == []


def by_the_mean(x):
    """One score for the whole batch."""
    score = 0 * x[:, 0] + x[:, 0].mean()
    return jax.numpy.stack([score, -score], axis=1)


@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("fn", slow_after(1, [by_the_mean, in_training_mode]))
@pytest.mark.parametrize("name", slow_after(1, ["evaluate", "certify_smoothed"]))
def test_one_row_and_equal_rows_that_interact_are_reported(name, fn, rows, recwarn):
    x, y = np.full((rows, 3), 0.1, np.float32), np.zeros(rows, np.int32)
    found = warned(name, fn, recwarn, x, y)
    assert any("depend on the other rows of the batch" in message for message in found)
    assert warned(name, alone, recwarn, x, y) == []


def test_smoothing_probes_the_noise_around_a_row_of_zeros(recwarn):
    x = np.zeros((1, 3), np.float32)
    found = warned("certify_smoothed", by_the_mean, recwarn, x, np.zeros(1, np.int32))
    assert any("depend on the other rows of the batch" in message for message in found)
