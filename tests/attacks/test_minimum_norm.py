"""ddn and fmn: the published updates in NumPy, and exact distances on linear models."""

from functools import partial
from math import cos, pi

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adv_jax.attacks.minimum_norm import ddn, fmn

D = 6
RNG = np.random.default_rng(5)
HEIGHT, SLOPE, SHIFT = RNG.uniform(0.5, 2, D), RNG.uniform(1, 4, D), RNG.uniform(0, 6, D)
X = RNG.uniform(size=(4, D)).astype(np.float32)
ORDER = {"linf": np.inf, "l2": 2, "l1": 1, "l0": 0}
DUAL = {"linf": 1, "l2": 2, "l1": np.inf}
every_norm = pytest.mark.parametrize("norm", ["l2", "linf", "l1"])


def waves(x):
    """Two logits, 0 and a sum of waves, which the attacks climb."""
    height, slope, shift = (jnp.float32(v)[None] for v in (HEIGHT, SLOPE, SHIFT))
    z = (height * jnp.sin(slope * x + shift)).sum(axis=1) - 2.5
    return jnp.stack([jnp.zeros_like(z), z], axis=1)


def height_and_gradient(x):
    return HEIGHT @ np.sin(SLOPE * x + SHIFT) - 2.5, HEIGHT * SLOPE * np.cos(SLOPE * x + SHIFT)


def annealed(t, steps, first, last):
    return last + (first - last) * (1 + cos(pi * t / steps)) / 2


def ddn_in_numpy(x, steps):
    """[rony2019], Algorithm 1, in [0, 1]; the gradient of the cross-entropy is along that of z."""
    r, eps, best = np.zeros(D), 1.0, (np.inf, np.zeros(D))
    worst = np.linalg.norm(np.maximum(x, 1 - x))
    for t in range(steps):
        z, gradient = height_and_gradient(x + r)
        if z > 0 and np.linalg.norm(r) < best[0]:
            best = np.linalg.norm(r), r
        r = r + annealed(t, steps, 1.0, 0.01) * gradient / np.linalg.norm(gradient)
        eps = min(eps * (0.95 if z > 0 else 1.05), worst)
        r = np.clip(x + eps * r / np.linalg.norm(r), 0, 1) - x
    return best[1]


def project(r, eps, norm):
    if norm == "linf":
        return np.clip(r, -eps, eps)
    if norm == "l2":
        return r * min(1, eps / max(np.linalg.norm(r), 1e-30))
    low, high = 0.0, np.abs(r).max()
    if np.abs(r).sum() <= eps:
        return r
    for _ in range(80):
        t = (low + high) / 2
        low, high = (t, high) if np.maximum(np.abs(r) - t, 0).sum() > eps else (low, t)
    return np.sign(r) * np.maximum(np.abs(r) - high, 0)


def fmn_in_numpy(x, norm, steps):
    """[pintor2021], Algorithm 1, without bounds, with the least growth of `fmn`."""
    r, eps, best = np.zeros(D), 0.0, (np.inf, np.zeros(D))
    for t in range(steps):
        z, gradient = height_and_gradient(x + r)
        length, gamma = np.linalg.norm(r, ORDER[norm]), annealed(t, steps, 0.05, 0.001)
        if z > 0 and length < best[0]:
            best = length, r
        if z > 0:
            eps = min(eps * (1 - gamma), best[0])
        elif np.isfinite(best[0]):
            eps *= 1 + gamma
        else:
            boundary = length + abs(z) / np.linalg.norm(gradient, DUAL[norm])
            eps = max(1.001 * boundary, eps * (1 + gamma))
        step = annealed(t, steps, 0.5, 0.005)
        r = project(r + step * gradient / np.linalg.norm(gradient), eps, norm)
    return best[1]


@pytest.mark.slow
def test_ddn_equals_the_published_algorithm_in_numpy():
    run = partial(ddn, waves, y=jnp.zeros(4, int), num_steps=30, bounds=(0, 1))
    expected = [ddn_in_numpy(np.float64(row), 30) for row in X]
    np.testing.assert_allclose(jax.jit(run)(x=X) - X, expected, atol=1e-3)
    assert np.all(np.any(expected, axis=1))


@pytest.mark.slow
@every_norm
def test_fmn_equals_the_published_algorithm_in_numpy(norm):
    run = partial(fmn, waves, y=jnp.zeros(4, int), norm=norm, num_steps=30, step_size=0.5)
    r, expected = jax.jit(run)(x=X) - X, [fmn_in_numpy(np.float64(row), norm, 30) for row in X]
    # Two points of the same ball may be the shortest, by rounding.
    lengths = [np.linalg.norm(found, ORDER[norm], axis=1) for found in (r, np.array(expected))]
    np.testing.assert_allclose(*lengths, rtol=1e-4)
    np.testing.assert_allclose(r, expected, atol=0.02)
    assert np.all(lengths[0] > 0)


W = RNG.normal(size=D) * [4, 1, 1, 1, 1, 1]


def linear(x):
    z = (x - 0.5) @ jnp.float32(W)
    return jnp.stack([z, -z], axis=1)


def nearest_in_the_box(x, norm):
    """The least length of r with (x + r - .5) @ W = 0, x + r in [0, 1], by bisection."""
    gap = (x - 0.5) @ W
    along = -np.sign(gap) * W
    room = np.where(along > 0, 1 - x, x)
    if norm in ("l1", "l0"):  # The features of the largest slope or gain first.
        order = np.argsort(-np.abs(W) * (room if norm == "l0" else 1))
        gains = np.cumsum((np.abs(W) * room)[order])
        full = np.searchsorted(gains, abs(gap))
        if norm == "l0":
            return full + 1
        before = gains[full - 1] if full else 0
        return room[order[:full]].sum() + (abs(gap) - before) / np.abs(W)[order[full]]
    low, high = 0.0, 1e3
    for _ in range(80):
        t = (low + high) / 2
        r = np.minimum(t * (np.abs(W) if norm == "l2" else 1), room)
        low, high = (t, high) if np.abs(W) @ r < abs(gap) else (low, t)
    return np.linalg.norm(np.minimum(high * (np.abs(W) if norm == "l2" else 1), room), ORDER[norm])


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["l2", "linf", "l1", "l0"])
@pytest.mark.parametrize("targeted", [False, True])
def test_fmn_finds_the_exact_distance_in_the_box_on_a_linear_model(norm, targeted):
    predicted = np.asarray(jnp.argmax(linear(X), axis=1))
    y = 1 - predicted if targeted else predicted
    run = partial(fmn, linear, norm=norm, num_steps=300, bounds=(0, 1), targeted=targeted)
    x_adv = np.float64(jax.jit(run)(x=X, y=y))
    assert np.all(jnp.argmax(linear(jnp.float32(x_adv)), axis=1) != predicted)
    found = np.linalg.norm(x_adv - X, ORDER[norm], axis=1)
    exact = np.array([nearest_in_the_box(np.float64(row), norm) for row in X])
    assert np.all(found >= exact * (1 - 1e-4))
    np.testing.assert_allclose(found, exact, rtol=0.02)


@pytest.mark.parametrize("targeted", [False, True])
def test_ddn_finds_the_exact_distance_in_the_box_on_a_linear_model(targeted):
    predicted = np.asarray(jnp.argmax(linear(X), axis=1))
    y = 1 - predicted if targeted else predicted
    run = partial(ddn, linear, num_steps=300, gamma=0.03, bounds=(0, 1), targeted=targeted)
    x_adv = np.float64(jax.jit(run)(x=X, y=y))
    assert np.all(jnp.argmax(linear(jnp.float32(x_adv)), axis=1) != predicted)
    found = np.linalg.norm(x_adv - X, axis=1)
    exact = np.array([nearest_in_the_box(np.float64(row), "l2") for row in X])
    assert np.all(found >= exact * (1 - 1e-4))
    np.testing.assert_allclose(found, exact, rtol=0.03)  # The norm changes by 3 % in a step.


@pytest.mark.parametrize("attack", [ddn, fmn])
def test_radii_of_features_are_the_units_in_which_a_perturbation_is_short(attack):
    # z = 2 u + v in coordinates (u, v) = (r_1 / 1, r_2 / 4): the nearest point is along (2, 1).
    def model(x):
        z = 2 * x[:, 0] + x[:, 1] / 4 - 1
        return jnp.stack([jnp.zeros_like(z), z], axis=1)

    x, eps = jnp.zeros((1, 2)), np.array([[10.0, 40.0]])
    run = partial(attack, model, y=jnp.array([0]), eps=eps, num_steps=200)
    np.testing.assert_allclose(jax.jit(run)(x=x), [[0.4, 0.8]], rtol=0.05)
