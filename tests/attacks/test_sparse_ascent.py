"""apgd under l1 against the published algorithm in NumPy, and on linear models."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adv_jax.attacks._sparse_ascent import _schedule, sparse_direction
from adv_jax.attacks.apgd import apgd

D, EPS, STEPS = 8, 0.9, 40
RNG = np.random.default_rng(3)
HEIGHT, SLOPE, SHIFT = RNG.uniform(0.5, 2, D), RNG.uniform(1, 6, D), RNG.uniform(0, 6, D)
X = RNG.uniform(size=(3, D)).astype(np.float32)
X[1, :3], X[2, 4:6] = 0, 1


def waves(x):
    """Two logits, 0 and a sum of waves."""
    height, slope, shift = (jnp.float32(v)[None] for v in (HEIGHT, SLOPE, SHIFT))
    z = (height * jnp.sin(slope * x + shift)).sum(axis=1) - 9
    return jnp.stack([jnp.zeros_like(z), z], axis=1)


def loss_and_gradient(x):
    z = HEIGHT @ np.sin(SLOPE * x + SHIFT) - 9
    return np.log1p(np.exp(z)), HEIGHT * SLOPE * np.cos(SLOPE * x + SHIFT) / (1 + np.exp(-z))


def project(x, r, eps):
    """The nearest point of the l1 ball in [0, 1], by bisection."""
    room = np.where(r > 0, 1 - x, x)
    if np.minimum(np.abs(r), room).sum() <= eps:
        return np.sign(r) * np.minimum(np.abs(r), room)
    low, high = 0.0, np.abs(r).max()
    for _ in range(80):
        t = (low + high) / 2
        outside = np.clip(np.abs(r) - t, 0, room).sum() > eps
        low, high = (t, high) if outside else (low, t)
    return np.sign(r) * np.clip(np.abs(r) - high, 0, room)


def sparse_step(x, gradient, share):
    """The steepest share of the features, of those that are not at their bound."""
    gradient = np.where(np.where(gradient > 0, x > 1 - 1e-9, x < 1e-9), 0, gradient)
    kept = np.sort(np.abs(gradient))[::-1][: max(D - int((1 - share) * D), 1)].min()
    unit = np.sign(gradient) * (np.abs(gradient) >= kept)
    return unit / max(np.abs(unit).sum(), 1)


def algorithm(x, eps, num_steps):
    """[croce2021box], Algorithm 1 in three phases: (highest loss, its r, changed features)."""
    early = 3 * num_steps // 10
    r, best, counts = np.zeros(D), (-np.inf, None), []
    share, changed, peak = 0.2, D, (-np.inf, r, None)
    for factor, points in ((3, early + 1), (2, early), (1, num_steps - 2 * early)):
        radius, step = factor * eps, 1.0
        if factor < 3:
            r = project(x, peak[1], radius)
            changed = np.count_nonzero(r)
            share = changed / D / 1.5
        peak = (-np.inf, None, None)
        apart = max(int(0.04 * points), 1)
        for i in range(points):
            loss, gradient = loss_and_gradient(x + r)
            if loss > peak[0]:
                peak = (loss, r, gradient)
            if factor == 1 and loss > best[0]:
                best = (loss, r)
            if i and i % apart == 0:
                now = np.count_nonzero(peak[1])
                sparser, share = now < 0.95 * changed, now / D / 1.5
                step, changed = (1.0 if sparser else max(step / 1.5, 0.1)), now
                counts.append(now)
                if sparser:
                    r, gradient = peak[1:]
            r = project(x, r + step * radius * sparse_step(x + r, gradient, share), radius)
    return *best, counts


@pytest.mark.slow
def test_apgd_under_l1_equals_the_published_algorithm_in_numpy():
    def run(x):
        return apgd(waves, x, jnp.zeros(3, int), eps=EPS, norm="l1", num_steps=STEPS, bounds=(0, 1))

    r = np.float64(jax.jit(run)(X)) - X
    runs = [algorithm(np.float64(row), EPS, STEPS) for row in X]
    np.testing.assert_allclose(r, [best for _, best, _ in runs], atol=1e-3)
    assert all(len(set(counts)) > 2 for *_, counts in runs)


@pytest.mark.slow
@pytest.mark.parametrize("eps", [1.0, 6.0])
def test_apgd_under_l1_comes_close_to_the_best_point_of_a_linear_model(eps):
    # The best point moves the steepest feature to its bound, then the next.
    rng = np.random.default_rng(7)
    w, x = rng.normal(size=40), np.float32(rng.uniform(size=(1, 40)) * rng.choice([0, 1], 40))

    def linear(x):
        z = (x @ jnp.float32(w)) / 10
        return jnp.stack([jnp.zeros_like(z), z], axis=1)

    run = lambda x: apgd(linear, x, jnp.array([0]), eps=eps, norm="l1", bounds=(0, 1))
    gain = (jax.jit(run)(x) - x) @ w
    best, left = 0.0, eps
    for i in np.argsort(-np.abs(w)):
        move = min(left, 1 - x[0, i] if w[i] > 0 else x[0, i])
        best, left = best + abs(w[i]) * move, left - move
    assert 0.99 * best <= gain <= best * (1 + 1e-5)


def test_the_steepest_share_of_the_features_moves_alike():
    gradient = jnp.array([[3.0, -5.0, 0.1, 4.0], [0.0, 0.0, 2.0, 0.0], [0.0] * 4])
    found = sparse_direction(gradient, jnp.array([0.5, 0.75, 1.0]), None)
    np.testing.assert_allclose(found, [[0, -0.5, 0, 0.5], [0, 0, 1, 0], [0] * 4])
    scale = jnp.array([[1.0, 0.1, 0.0, 0.5]])  # Slopes 3, -.5, 0 and 2.
    found = sparse_direction(gradient[:1], jnp.array([0.5]), scale)
    np.testing.assert_allclose(found, [[0.5, 0, 0, 0.25]])


@pytest.mark.parametrize("num_steps", [1, 3, 4, 10, 100])
def test_the_phases_are_in_balls_of_3_2_and_1_eps(num_steps):
    radius, first, checks = _schedule(num_steps)
    early = 3 * num_steps // 10
    counts = [np.sum(radius[: num_steps + 1] == factor) for factor in (3, 2, 1)]
    assert counts == ([early + 1, early, num_steps - 2 * early] if early else [0, 0, num_steps + 1])
    np.testing.assert_array_equal(np.flatnonzero(first), [early + 1, 2 * early + 1][: 2 * early])
    assert not checks[[0, *np.flatnonzero(first)]].any()
