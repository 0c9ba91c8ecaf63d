"""objectives.label_smoothing: the targets by hand, the loss and its gradient against NumPy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from linear_net import linear

from adv_jax import objectives
from adv_jax.types import UserError

# Targets of the correct class and of each other class, with K = 10: printed are .9 and 1 / 100.
TARGETS = {"printed": (0.9, 0.01), "uniform": (0.91, 0.01), "others": (0.9, 0.1 / 9)}


def targets(labels, form):
    correct, other = TARGETS[form]
    return np.where(np.eye(10)[labels] == 1, correct, other)


@pytest.mark.parametrize("form", TARGETS)
def test_smoothed_targets_equal_the_three_forms_by_hand(form):
    y = np.array([3, 0, 9])
    found = objectives.smoothed_targets(jnp.asarray(y), 10, smoothing=0.1, form=form)
    np.testing.assert_allclose(found, targets(y, form), rtol=1e-6)
    # As printed they lack 1 / (10 k) of a distribution.
    np.testing.assert_allclose(found.sum(axis=1), 0.99 if form == "printed" else 1, rtol=1e-6)


@pytest.mark.parametrize("form", TARGETS)
def test_class_weights_are_smoothed_as_the_mean_of_their_classes(form):
    smooth = partial(objectives.smoothed_targets, num_classes=3, smoothing=0.1, form=form)
    rows = np.asarray(smooth(jnp.array([0, 1, 2])))
    rows_of_weights = [[0.7, 0.3, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0], [2.0, 0.0, 0.0]]
    weights = np.array(rows_of_weights, np.float32)
    np.testing.assert_allclose(smooth(jnp.asarray(weights)), weights @ rows, rtol=1e-6)


@pytest.mark.parametrize(
    ("labels", "settings", "message"),
    [
        ([0], {"smoothing": 3.0}, "^smoothing must be a number from 0 to 1, got 3.0$"),
        ([0], {"num_classes": 1}, "^num_classes must be a whole number of at least 2, got 1$"),
        ([7], {}, "^labels must be classes from 0 to 2, got 7$"),
        (
            [1.9],
            {},
            r"^labels must be integers i32\[B\] or class weights f32\[B, K\] with B = 1",
        ),
    ],
)
def test_bad_labels_and_settings_of_smoothed_targets_are_refused(labels, settings, message):
    settings = {"num_classes": 3, "smoothing": 0.1, "form": "others"} | settings
    with pytest.raises(UserError, match=message):
        objectives.smoothed_targets(jnp.array(labels), **settings)


@pytest.mark.slow
@pytest.mark.parametrize("form", TARGETS)
def test_label_smoothing_and_its_gradient_equal_the_numpy_version(form):
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(6, 4)).astype("f"), rng.normal(size=(4, 10)).astype("f")
    y = rng.integers(0, 10, size=6)
    batch = {"x": jnp.asarray(x), "y": jnp.asarray(y)}

    def loss(w):
        key = jax.random.key(0)
        return objectives.label_smoothing(linear, {"params": w}, batch, key=key, form=form)

    def expected(w):
        return -(targets(y, form) * np.log(oracles.softmax(np.float64(x) @ w))).sum(axis=1).mean()

    (value, (_, metrics)), gradient = jax.value_and_grad(loss, has_aux=True)(jnp.asarray(w))
    assert float(value) == pytest.approx(expected(w), rel=1e-5)
    np.testing.assert_allclose(
        gradient, oracles.numerical_gradient(expected, w), rtol=1e-4, atol=1e-6
    )
    assert float(metrics["accuracy"]) == pytest.approx(((x @ w).argmax(axis=1) == y).mean())


def test_an_unknown_form_of_label_smoothing_is_refused_with_the_legal_ones():
    with pytest.raises(ValueError, match="form must be one of printed, uniform, others, got"):
        objectives.smoothed_targets(jnp.array([0]), 10, smoothing=0.1, form="hard")


@pytest.mark.parametrize("form", TARGETS)
def test_the_loss_of_a_float64_model_is_that_of_numpy_in_float64(x64, form):
    rng, y = np.random.default_rng(0), np.array([3, 0, 9])
    x, w = rng.normal(size=(3, 4)), rng.normal(size=(4, 10))
    logits = x @ w
    log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    loss, _ = objectives.label_smoothing(
        linear, {"params": w}, {"x": x, "y": y}, key=None, smoothing=0.1, form=form
    )
    np.testing.assert_allclose(loss, -(targets(y, form) * log_probs).sum(axis=1).mean(), rtol=1e-14)
