"""transfer against a loop over pairs of linear models in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adv_jax import attacks, evaluate


def two_classes(x):
    return x[:, :2]


@pytest.mark.slow
def test_transfer_is_the_accuracy_of_the_column_on_examples_of_the_row():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(31, 5)).astype(np.float32)
    weights = rng.normal(size=(3, 5, 4)).astype(np.float32)
    y = np.argmax(x @ weights[0] + x @ weights[1], axis=1)
    expected = np.zeros((3, 3))
    for i, crafted in enumerate(np.float64(weights)):
        logits = np.exp(x @ crafted)
        gradient = (logits / logits.sum(1, keepdims=True) - np.eye(4)[y]) @ crafted.T
        for j, tested in enumerate(weights):
            x_adv = x + 0.3 * np.sign(gradient)
            expected[i, j] = (np.argmax(x_adv @ tested, axis=1) == y).mean()
    models = {str(i): lambda x, w=w: x @ w for i, w in enumerate(weights)}
    found = evaluate.transfer(models, x, y, attacks.fgsm, eps=0.3, batch_size=8)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert (np.diag(found) < found.mean(0)).all() and found[0, 1] != found[1, 0]


def one_column(logits_fn, x, y, *, eps, key=None):
    return x[:, :1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eps": -1.0}, "eps must be a finite number of at least 0, got -1"),
        ({"eps": ".1"}, "eps must be a real number, got '.1'"),
        ({"eps": [0.1]}, "eps must be a real number, got [0.1]"),
        ({"models": [two_classes]}, "models must be a dict that gives each a name, got a list"),
        ({"models": None}, "models must be a dict that gives each a name, got a NoneType"),
        ({"models": {"a": None}}, "a: logits_fn must be a function of x alone, got a NoneType"),
        ({"attack": "fgsm"}, "attack must be a function such as attacks.fgsm, got 'fgsm'"),
        (
            {"attack": one_column},
            "one_column must return an array of the shape of x",
        ),
        ({"models": {}}, "models must have one or more entries, got none"),
        ({"x": np.zeros((2, 3), np.int32)}, "x must be a batch f32[B, *D] of floats, got"),
        ({"models": {"a": jax.nn.softmax}}, "a: logits_fn must return logits, the values before"),
        (
            {"models": {"a": two_classes, "b": lambda x: two_classes(x) * jnp.nan}},
            "b: logits_fn must return finite logits, got NaN or infinity for 2 of 2 rows of x",
        ),
        ({"attack": attacks.sign_noise}, "key must be"),
        (
            {"models": {"a": two_classes, "b": lambda x: x}},
            "models must have the same number of classes, got 2 of a, 3 of b",
        ),
    ],
)
def test_transfer_refuses_bad_arguments(change, message):
    arguments = {
        "models": {"a": two_classes},
        "x": np.ones((2, 3), np.float32),
        "y": np.array([0, 1]),
    }
    arguments |= {"attack": attacks.fgsm, "eps": 0.1, **change}
    with pytest.raises(ValueError) as error:
        evaluate.transfer(**arguments)
    assert str(error.value).startswith(message)
