"""A model whose rows interact, or that draws random numbers, is named by every entry point."""

import jax
import numpy as np
import pytest
from marks import slow_after

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
    "evaluate": lambda fn: evaluate.evaluate(fn, X, Y, {"a": attacks.fgsm}, eps=[0.0]),
    "certify": lambda fn: evaluate.certify(fn, X, Y, [0.01], method="ibp"),
    "certify_smoothed": lambda fn: evaluate.certify_smoothed(
        fn, X, std=0.1, key=KEY, num_estimation=10, num_selection=10
    ),
    "minimal_eps": lambda fn: evaluate.minimal_eps(fn, X, Y, attacks.fgsm, high=1.0, num_steps=1),
    "transfer": lambda fn: evaluate.transfer({"net": fn}, X, Y, attacks.fgsm, eps=0.1),
}


def warned(name, fn, recwarn):
    recwarn.clear()
    ENTRIES[name](fn)
    found = [w for w in recwarn if w.category is evaluate.AuditWarning]
    assert all(w.filename == __file__ for w in found)
    return [str(w.message) for w in found]


@pytest.mark.parametrize("name", slow_after(2, ENTRIES))
def test_rows_that_interact_are_reported(name, recwarn):
    found = warned(name, in_training_mode, recwarn)
    assert any("depend on the other rows of the batch" in message for message in found)
    assert warned(name, alone, recwarn) == []
