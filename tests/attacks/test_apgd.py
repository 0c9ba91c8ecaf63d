"""apgd against Algorithm 1 written out in NumPy, linear models and losses worked out by hand."""

from fractions import Fraction
from itertools import product
from math import ceil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import exhaustive_after

from adv_jax.attacks._dlr import dlr, targeted_dlr
from adv_jax.attacks.apgd import _schedule, apgd

W = np.array([[2.0, -1.0, 0.0], [0.5, 1.0, -9.0], [-3.0, 0.0, -9.0]], np.float32)
X = np.array([[0.9, 0.5, 0.05], [0.2, 0.3, 0.6]], np.float32)
Y = jnp.array([0, 1])
LOGITS = jnp.array([[4.0, 3.0, 2.0, 0.0, -1.0]])


def linear(x):
    """Class 2 is always the last."""
    return x @ jnp.asarray(W)


def two(x):
    return linear(x)[:, :2]


def test_apgd_checks_its_step_size_at_the_steps_of_the_paper():
    # [croce2020], sec. 3: 22, 41, 57, 70, 80, 87, 93 and 99 of 100 steps.
    for num_steps in (1, 4, 5, 20, 100, 130):
        p, gap, expected = Fraction(22, 100), Fraction(22, 100), []
        while ceil(p * num_steps) <= num_steps:
            expected.append(ceil(p * num_steps))
            gap = max(gap - Fraction(3, 100), Fraction(6, 100))
            p += gap
        is_checkpoint, window = _schedule(num_steps)
        steps = np.flatnonzero(is_checkpoint)
        np.testing.assert_array_equal(steps, sorted(set(expected)))
        np.testing.assert_array_equal(window[is_checkpoint], np.diff([0, *steps]))
    assert list(np.flatnonzero(_schedule(100)[0])) == [22, 41, 57, 70, 80, 87, 93, 99]


def rough(x):
    """Two logits of a wavy landscape with ridges, so that the ascent zigzags and has to halve."""
    z = jnp.sin(5 * x[:, 0] + 2 * x[:, 1]) + 0.5 * jnp.cos(9 * x[:, 1]) - 3 * (x[:, 0] - 0.4) ** 2
    return jnp.stack([jnp.zeros_like(z), z - 2], axis=1)


def loss_and_gradient(x):
    """float64 cross-entropy of class 0, log(1 + e^(z - 2)), and its derivative, of one row."""
    u, v = float(x[0]), float(x[1])
    z = np.sin(5 * u + 2 * v) + 0.5 * np.cos(9 * v) - 3 * (u - 0.4) ** 2 - 2
    by_u = 5 * np.cos(5 * u + 2 * v) - 6 * (u - 0.4)
    by_v = 2 * np.cos(5 * u + 2 * v) - 4.5 * np.sin(9 * v)
    return np.log1p(np.exp(z)), np.array([by_u, by_v]) / (1 + np.exp(-z))


def algorithm_1(x, eps, num_steps, norm, checkpoints):
    """[croce2020], Algorithm 1, for one row: (x_max, f_max, how often the step halved)."""

    def project(z):
        r = z - x
        if norm == "linf":
            return x + np.clip(r, -eps, eps)
        return x + r * min(1, eps / max(np.linalg.norm(r), 1e-30))

    def unit(g):
        return np.sign(g) if norm == "linf" else g / np.linalg.norm(g)

    eta, old, points, halvings, halved, last = 2 * eps, x, [x], 0, True, 0
    values = [loss_and_gradient(x)[0]]
    best, f_max, f_max_before = x, values[0], values[0]
    rises = 0
    for k in range(num_steps):
        now = points[-1]
        z = project(now + eta * unit(loss_and_gradient(now)[1]))
        alpha = 1 if k == 0 else 0.75
        new = project(now + alpha * (z - now) + (1 - alpha) * (now - old))
        value = loss_and_gradient(new)[0]
        rises += value > loss_and_gradient(now)[0]
        if value > f_max:
            best, f_max = new, value
        if k + 1 in checkpoints:
            stuck = rises < 0.75 * (k + 1 - last) or (not halved and f_max == f_max_before)
            if stuck:
                eta, new, halvings = eta / 2, best, halvings + 1
            halved, f_max_before, rises, last = stuck, f_max, 0, k + 1
        points.append(new)
        old = now
    return best, f_max, halvings


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_apgd_equals_algorithm_1_in_numpy(norm):
    x = np.array([[0.1, 0.2], [0.1, 0.6], [1.0, -0.4]], np.float32)
    run = lambda x: apgd(rough, x, jnp.zeros(3, int), eps=0.7, norm=norm, num_steps=50)
    x_adv = jax.jit(run)(x)
    checkpoints = {11, 21, 29, 35, 40, 44, 47, 50}  # ceil of .22, .41, ..., .99 of 50.
    runs = [algorithm_1(np.float64(row), 0.7, 50, norm, checkpoints) for row in x]
    np.testing.assert_allclose(x_adv, [best for best, _, _ in runs], atol=1e-4)
    assert all(halvings > 0 for _, _, halvings in runs)
    assert any(halvings < len(checkpoints) for _, _, halvings in runs)


def test_apgd_reaches_the_corner_of_ball_and_box_on_a_linear_model():
    # Label 0: up along W[:, 1] - W[:, 0] = (-3, .5, 3); label 1: the opposite.
    direction = np.sign([[-3.0, 0.5, 3.0], [3.0, -0.5, -3.0]])
    x_adv = jax.jit(lambda x: apgd(two, x, Y, eps=0.1, num_steps=10, bounds=(0, 1)))(X)
    np.testing.assert_allclose(x_adv, np.clip(X + 0.1 * direction, 0, 1), atol=1e-6)


@pytest.mark.slow
def test_apgd_reaches_the_best_dlr_of_all_corners_on_a_linear_model():
    # A ratio of linear forms is largest in a corner, as long as the order of the logits stays.
    x_adv = jax.jit(lambda x: apgd(linear, x, Y, eps=0.1, loss="dlr", num_steps=30))(X)
    logits = (X + 0.1 * np.array(list(product([-1, 1], repeat=3)))[:, None]) @ W
    ranked = np.sort(logits)
    own = logits[:, [0, 1], Y]
    best = (np.delete(logits, 2, axis=2).sum(axis=2) - 2 * own) / (ranked[..., 2] - ranked[..., 0])
    np.testing.assert_array_equal(np.argsort(logits)[..., 0], 2)
    np.testing.assert_allclose(dlr(linear(x_adv), Y), best.max(axis=0), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["l2", "rms"])
def test_apgd_reaches_the_best_point_of_the_ball_on_a_linear_model(norm):
    gradient = np.array([[-3.0, 0.5, 3.0], [3.0, -0.5, -3.0]]) / np.sqrt(18.25)
    length = 0.1 * (np.sqrt(3) if norm == "rms" else 1)
    x_adv = jax.jit(lambda x: apgd(two, x, Y, eps=0.1, norm=norm, num_steps=30))(X)
    np.testing.assert_allclose(x_adv, X + length * gradient, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["ce", "dlr"])
def test_targeted_apgd_reaches_the_target_class(loss):
    def four(x):
        return jnp.concatenate([linear(x), jnp.full((x.shape[0], 1), -20.0)], axis=1)

    options = {"eps": 0.4, "loss": loss, "num_steps": 10, "targeted": True}
    x_adv = jax.jit(lambda x: apgd(four, x, 1 - Y, **options))(X)
    np.testing.assert_array_equal(jnp.argmax(four(X), axis=1), Y)
    np.testing.assert_array_equal(jnp.argmax(four(x_adv), axis=1), 1 - Y)


def four(x):
    """Logits of classes 0 to 3: class 1 is most probable beside 0, and only class 2 can win."""
    near, far = 1 - 0.1 * x[:, 0] ** 2, 3 * x[:, 1] - 0.5
    return jnp.stack([2 + 0 * near, near, far, 0 * near - 3], axis=1)


@pytest.mark.slow
@pytest.mark.parametrize("norm", exhaustive_after(1, ["linf", "l1"]))
def test_apgd_toward_each_of_several_targets_finds_the_one_that_wins(norm):
    x, y = jnp.zeros((1, 2)) + 0.01, jnp.array([0])
    options = {"eps": 0.9, "norm": norm, "loss": "dlr", "num_steps": 20}
    reached = [
        jnp.argmax(four(jax.jit(lambda x, n=n: apgd(four, x, y, num_targets=n, **options))(x)))
        for n in (1, 2, 9)
    ]
    assert reached == [0, 2, 2]


def test_apgd_toward_targets_needs_the_dlr():
    for options in ({"loss": "ce"}, {"loss": "dlr", "targeted": True}):
        with pytest.raises(ValueError, match=r"num_targets must be None unless loss .*, got 2"):
            apgd(four, jnp.zeros((1, 2)), jnp.array([0]), eps=0.1, num_targets=2, **options)


@pytest.mark.slow
def test_restarts_of_apgd_find_the_higher_of_two_peaks():
    # From x = 0 the slope leads left to a peak of .3; right of .2 there is one of 1 at x = .6.
    def peaks(x):
        z = 0.3 * jnp.exp(-((x + 0.3) ** 2) / 0.05) + jnp.exp(-((x - 0.6) ** 2) / 0.01)
        return jnp.stack([jnp.ones_like(x), z - 5], axis=1)

    options = {"eps": 0.9, "num_steps": 9}
    x, y, key = jnp.zeros(1), jnp.array([0]), jax.random.key(0)
    once = jax.jit(lambda x: apgd(peaks, x, y, **options))(x)
    often = jax.jit(lambda x: apgd(peaks, x, y, restarts=20, key=key, **options))(x)
    np.testing.assert_allclose(once, -0.3, atol=0.05)
    np.testing.assert_allclose(often, 0.6, atol=0.05)


def test_dlr_equals_values_computed_by_hand():
    # Logits 4, 3, 2, 0, -1: (3 - 4) / (4 - 2) for the first class, (4 - 2) / 2 for the third.
    for label, expected in [(0, -0.5), (1, 0.5), (2, 1.0), (4, 2.5)]:
        for logits in (LOGITS, 7 * LOGITS - 3):
            np.testing.assert_allclose(dlr(logits, jnp.array([label])), [expected], rtol=1e-6)


def test_targeted_dlr_equals_values_computed_by_hand():
    # The denominator is 4 - (2 + 0) / 2 = 3.
    for label, target, expected in [(0, 2, -2 / 3), (0, 4, -5 / 3), (3, 0, 4 / 3)]:
        for logits in (LOGITS, 7 * LOGITS - 3):
            value = targeted_dlr(logits, jnp.array([label]), jnp.array([target]))
            np.testing.assert_allclose(value, [expected], rtol=1e-6)


@pytest.mark.slow
def test_dlr_of_equal_logits_has_a_finite_gradient():
    gradient = jax.grad(lambda z: dlr(z, jnp.array([0])).sum())(jnp.ones((1, 4)))
    assert bool(jnp.isfinite(gradient).all())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "hinge"}, "loss must be one of ce, dlr or a function .*, got 'hinge'"),
        ({"num_steps": 0}, "num_steps must be a whole number of at least 1, got 0"),
        ({"restarts": 0}, "restarts must be a whole number of at least 1, got 0"),
        ({"restarts": 2}, "restarts must be 1 without a key, got 2"),
        (
            {"loss": "dlr", "targeted": True},
            'logits must have at least 4 classes for loss="dlr", got 3',
        ),
    ],
)
def test_apgd_refuses_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        apgd(linear, X, Y, eps=0.1, **options)


@pytest.mark.slow
def test_dlr_of_two_classes_is_refused():
    with pytest.raises(ValueError, match="at least 3 classes for loss=.dlr., got 2"):
        apgd(two, X, Y, eps=0.1, loss="dlr")
