"""models.nearest_neighbor: against all pairs in float64, and as a target of attacks."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from adv_jax import attacks, models

RNG = np.random.default_rng(0)
TRAIN_X = RNG.uniform(size=(23, 2, 3)).astype(np.float32)
TRAIN_Y = np.arange(23) % 3
X = RNG.uniform(size=(6, 2, 3)).astype(np.float32)
SETTINGS = {"train_x": TRAIN_X, "train_y": TRAIN_Y, "num_classes": 3}


def squared_distances(x):
    """f64[B, N], one pair after the other."""
    return np.array([[np.sum((np.float64(a) - b) ** 2) for b in TRAIN_X] for a in x])


def smoothed(x):
    """Returns the probabilities f64[B, K] by the formula, without 1/N."""
    powers = np.exp(-squared_distances(x))
    weights = powers / powers.sum(axis=1, keepdims=True)
    return np.stack([weights[:, i == TRAIN_Y].sum(axis=1) for i in range(3)], axis=1)


# 23 examples in blocks of which the last is full, is not, or is the only one.
@pytest.mark.slow
@pytest.mark.parametrize("block_size", [1, 5, 23, 1000])
def test_both_classifiers_equal_all_pairs_in_float64(block_size):
    found = models.smoothed_nearest_neighbor(X, **SETTINGS, block_size=block_size)
    np.testing.assert_allclose(found, np.log(smoothed(X)), rtol=1e-5, atol=1e-5)
    found = models.nearest_neighbor(X, **SETTINGS, block_size=block_size)
    nearest = squared_distances(X)
    expected = np.stack([-nearest[:, i == TRAIN_Y].min(axis=1) for i in range(3)], axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(found.argmax(axis=1), TRAIN_Y[nearest.argmin(axis=1)])


def test_features_far_from_0_keep_the_digits_of_distances():
    # As elevations in meters; 2 x . x_n would be 10^9.
    x, far = (np.float32(30000 + 10 * np.float64(rows)) for rows in (X, TRAIN_X))
    settings = SETTINGS | {"train_x": far, "train_y": TRAIN_Y.astype(np.uint8)}
    distances = np.square(np.float64(x)[:, None] - far).sum(axis=(2, 3))
    expected = np.stack([-distances[:, i == TRAIN_Y].min(axis=1) for i in range(3)], axis=1)
    found = models.nearest_neighbor(x, **settings)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_a_column_of_large_numbers_leaves_the_others_their_digits():
    # As a table of incomes and ages: half of the rows differ by one year from another class.
    incomes, ages = RNG.lognormal(11, 1, 40).round(), RNG.integers(18, 90, 40)
    train_x = np.float32([*zip(incomes, ages, strict=True), *zip(incomes, ages + 1, strict=True)])
    train_y = np.repeat([0, 1], 40)
    x = train_x + np.float32([0, 0.25])
    distances = np.square(np.float64(x)[:, None] - train_x).sum(axis=2)
    expected = np.stack([-distances[:, train_y == i].min(axis=1) for i in range(2)], axis=1)
    settings = {"train_x": train_x, "train_y": train_y, "num_classes": 2, "block_size": 30}
    np.testing.assert_allclose(models.nearest_neighbor(x, **settings), expected, rtol=1e-6)
    # The derivative of a row's distance is 2 (x - x_n).
    of_0 = lambda x: models.nearest_neighbor(x, **settings)[:, 0].sum()
    to_0 = train_x[distances[:, train_y == 0].argmin(axis=1)] - x
    np.testing.assert_allclose(jax.grad(of_0)(jnp.asarray(x)), 2 * to_0, rtol=1e-6)
    weights = np.exp(distances.min(axis=1, keepdims=True) - distances)
    weights = np.stack([weights[:, train_y == i].sum(axis=1) for i in range(2)], axis=1)
    found = jnp.exp(models.smoothed_nearest_neighbor(x, **settings))
    np.testing.assert_allclose(found, weights / weights.sum(axis=1, keepdims=True), rtol=1e-5)


@pytest.mark.slow
def test_the_gradient_of_the_smoothed_classifier_is_the_finite_difference():
    logits_fn = partial(models.smoothed_nearest_neighbor, **SETTINGS, block_size=5)
    loss = lambda x: -logits_fn(x)[:, 1].sum()
    expected = oracles.numerical_gradient(lambda x: -np.log(smoothed(x)[:, 1]).sum(), X)
    np.testing.assert_allclose(jax.grad(loss)(jnp.asarray(X)), expected, rtol=1e-4, atol=1e-5)


def test_the_smoothed_classifier_is_exact_where_the_exponentials_underflow():
    # exp(-d^2) of all is 0 even in float64. Between d^2 and d'^2 the log-odds are d'^2 - d^2.
    x = X + np.float32(30)
    assert np.exp(-squared_distances(x)).max() == 0
    logits_fn = partial(models.smoothed_nearest_neighbor, **SETTINGS)
    distances = squared_distances(x)
    shifted = np.exp(distances.min(axis=1, keepdims=True) - distances)
    expected = np.stack([shifted[:, i == TRAIN_Y].sum(axis=1) for i in range(3)], axis=1)
    expected = np.log(expected / expected.sum(axis=1, keepdims=True))
    np.testing.assert_allclose(logits_fn(x), expected, rtol=1e-3, atol=1e-3)
    assert np.isfinite(jax.grad(lambda x: logits_fn(x)[:, 0].sum())(jnp.asarray(x))).all()


@pytest.mark.slow
def test_a_class_without_examples_has_no_probability_and_no_gradient():
    logits_fn = partial(models.smoothed_nearest_neighbor, **(SETTINGS | {"num_classes": 4}))
    probabilities = jax.nn.softmax(logits_fn(X))
    np.testing.assert_array_equal(probabilities[:, 3], 0)
    np.testing.assert_allclose(probabilities[:, :3], smoothed(X), rtol=1e-4)
    gradient = jax.grad(lambda x: jnp.log(jax.nn.softmax(logits_fn(x))[:, 0]).sum())(jnp.asarray(X))
    assert np.isfinite(gradient).all() and np.abs(gradient).min() > 0


@pytest.mark.slow
@pytest.mark.parametrize("attack", [attacks.fgsm, partial(attacks.pgd, num_steps=5)])
def test_attacks_climb_the_loss_of_the_smoothed_classifier(attack):
    logits_fn = partial(models.smoothed_nearest_neighbor, **SETTINGS)
    y = jnp.asarray(smoothed(X).argmax(axis=1))
    x_adv = jax.jit(lambda x: attack(logits_fn, x, y, eps=0.3))(X)
    before, after = (oracles.cross_entropies(np.log(smoothed(x)), y) for x in (X, x_adv))
    assert (after > before).all()


def test_neighbors_that_float32_cannot_tell_apart_are_told_apart_in_float64(x64):
    train_x, train_y = np.array([[1.0], [1 + 2e-9]]), np.array([0, 1])
    found = models.nearest_neighbor(jnp.array([[1 + 2e-9]]), train_x, train_y, num_classes=2)
    np.testing.assert_allclose(found, [[-4e-18, 0]], rtol=1e-6)
    found = models.smoothed_nearest_neighbor(jnp.zeros((1, 1)), train_x, train_y, num_classes=2)
    # Both are at distance 1; the second is 4e-9 farther in squares.
    np.testing.assert_allclose(found[0, 0] - found[0, 1], 4e-9, rtol=1e-6)


@pytest.mark.parametrize(
    ("train_x", "train_y"), [(TRAIN_X[:, :1], TRAIN_Y), (TRAIN_X, TRAIN_Y[:5]), (TRAIN_X[:0], [])]
)
def test_a_training_set_of_other_shapes_is_refused(train_x, train_y):
    with pytest.raises(ValueError, match=r"train_x and train_y must be .*, got the shapes"):
        models.nearest_neighbor(X, train_x, np.array(train_y, int), num_classes=3)


def test_a_training_set_that_is_no_array_is_refused():
    for classify in (models.nearest_neighbor, models.smoothed_nearest_neighbor):
        with pytest.raises(ValueError, match=r"^train_x must be an array of numbers, got \[\["):
            classify(X, [[0.0], [1.0, 2.0]], np.zeros(2, int), num_classes=2)


@pytest.mark.parametrize("label", [-1, 3])
def test_training_labels_outside_the_classes_are_refused(label):
    x, y = jnp.eye(4), np.array([0, 1, label, 2])
    for classify in (models.nearest_neighbor, models.smoothed_nearest_neighbor):
        with pytest.raises(ValueError, match=f"train_y must be classes from 0 to ., got {label}"):
            classify(x, x, y, num_classes=3)
        # Also in a compiled program, if the classes are constants of it.
        with pytest.raises(ValueError, match="train_y must be"):
            jax.jit(partial(classify, train_x=x, train_y=y, num_classes=3))(x)


@pytest.mark.parametrize("train_y", [np.array([0, 0.5, 1, 2]), np.eye(4, dtype=int), "0123"])
def test_training_labels_that_are_no_classes_are_refused(train_y):
    x = jnp.eye(4)
    with pytest.raises(ValueError, match=r"^train_y must be classes i32\[B\], got "):
        models.nearest_neighbor(x, x, train_y, num_classes=4)
