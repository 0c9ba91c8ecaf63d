"""lbfgs and carlini_wagner, which share their search: exact distances on linear models."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adv_jax.attacks._best import Shortest
from adv_jax.attacks._penalty import search
from adv_jax.attacks.carlini_wagner import carlini_wagner
from adv_jax.attacks.lbfgs import lbfgs

B, N = 6, 10
BOUNDS = (0.0, 1.0)
W = np.random.default_rng(0).normal(size=N)

ATTACKS = {
    "lbfgs": partial(lbfgs, search_steps=15, num_steps=30),
    "carlini_wagner": partial(carlini_wagner, num_steps=200),
}
both = pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())


def binary(x):
    """Returns logits of two classes, separated by the sign of x @ W."""
    z = (x - 0.5) @ jnp.asarray(W, x.dtype)
    return jnp.stack([z, -z], axis=1)


@pytest.fixture(scope="module")
def x():
    return np.float32(np.random.default_rng(1).uniform(size=(B, N)))


def distance_in_the_box(x):
    """Least |r|_2 with (x + r - .5) @ W = 0 and x + r in the box, for one row in float64.

    By the conditions of Karush, Kuhn and Tucker r = clip(t W), where t is found by bisection.
    """
    height, lo, hi = (np.float64(x) - 0.5) @ W, 0 - np.float64(x), 1 - np.float64(x)
    inner, outer = 0.0, -100.0 * np.sign(height)
    for _ in range(100):
        t = (inner + outer) / 2
        crossed = (height + np.clip(t * W, lo, hi) @ W) * height < 0
        inner, outer = (inner, t) if crossed else (t, outer)
    return np.linalg.norm(np.clip(t * W, lo, hi))


@pytest.mark.slow
@both
@pytest.mark.parametrize("targeted", [False, True])
def test_penalty_attacks_find_the_smallest_perturbation_of_a_linear_model(attack, targeted, x):
    predicted = np.argmax(binary(x), axis=1)
    y = 1 - predicted if targeted else predicted
    x_adv = jax.jit(lambda x, y: attack(binary, x, y, bounds=BOUNDS, targeted=targeted))(x, y)
    assert np.all(np.argmax(binary(x_adv), axis=1) != predicted)
    assert x_adv.min() >= 0
    assert x_adv.max() <= 1
    lengths = np.linalg.norm(np.float64(x_adv) - x, axis=1)
    exact = np.array([distance_in_the_box(row) for row in x])
    assert np.all(lengths >= exact * (1 - 1e-4))
    # Adam's steps on w are .01 in each entry: what is nearer than that it cannot resolve.
    assert np.all(lengths <= exact * 1.03 + 0.005)


@both
def test_penalty_attacks_reach_a_class_among_several_on_the_shortest_way(attack, x):
    # The distance to class k's half-space is (z_y - z_k) / |w_y - w_k|_2, far from the bounds.
    # The hinge of carlini_wagner pulls to the runner-up, which need not be the nearest class.
    w = np.random.default_rng(2).normal(size=(N, 4))
    logits = x @ w
    y = logits.argmax(axis=1)
    others = np.arange(4) != y[:, None]
    gaps = (logits.max(axis=1, keepdims=True) - logits)[others].reshape(B, 3)
    slopes = np.linalg.norm(w.T[y][:, None] - w.T, axis=2)[others].reshape(B, 3)
    nearest, runner_up = (gaps / slopes).min(axis=1), (gaps / slopes)[range(B), gaps.argmin(axis=1)]
    x_adv = jax.jit(lambda x: attack(lambda z: z @ jnp.float32(w), x, y, bounds=(-1.0, 2.0)))(x)
    lengths = np.linalg.norm(np.float64(x_adv) - x, axis=1)
    assert np.all((x_adv @ w).argmax(axis=1) != y)
    assert np.all(lengths >= nearest * (1 - 1e-4))
    reached = nearest if attack is ATTACKS["lbfgs"] else runner_up
    assert np.all(lengths <= reached * 1.05 + 0.005)


@pytest.mark.slow
@both
def test_penalty_attacks_leave_rows_that_are_fooled_or_cannot_be(attack, x):
    # Row 0 carries a wrong label; row 1 has logits that do not depend on it.
    y = np.array(jnp.argmax(binary(x), axis=1))
    y[0] = 1 - y[0]

    def partly_flat(x):
        flat = jnp.arange(x.shape[0])[:, None] == 1
        return jnp.where(flat, jax.nn.one_hot(y, 2), binary(x))

    x_adv = jax.jit(lambda x: attack(partly_flat, x, y, bounds=BOUNDS, search_steps=4))(x)
    np.testing.assert_array_equal(x_adv[:2], x[:2])
    assert np.all(np.any(x_adv[2:] != x[2:], axis=1))


@pytest.mark.slow
@both
def test_eps_projects_the_perturbation_of_penalty_attacks(attack, x):
    y = np.argmax(binary(x), axis=1)

    @jax.jit
    def perturbation(eps):
        return attack(binary, x, y, bounds=BOUNDS, search_steps=4, eps=eps) - x

    found, eps = perturbation(3.0), 0.05
    length = np.linalg.norm(found, axis=1, keepdims=True)
    assert 0 < np.mean(length > eps) < 1
    np.testing.assert_allclose(perturbation(eps), found * np.minimum(1, eps / length), atol=1e-6)


def test_carlini_wagner_needs_bounds_for_its_change_of_variables(x):
    with pytest.raises(ValueError, match=r"bounds must be \(lo, hi\) for .*, got None"):
        ATTACKS["carlini_wagner"](binary, x, None)


@both
def test_penalty_attacks_need_positive_counts(attack, x):
    with pytest.raises(ValueError, match="search_steps must be a whole number"):
        attack(binary, x, None, bounds=BOUNDS, search_steps=0)


def test_the_search_multiplies_the_constant_by_ten_and_then_bisects():
    # Rows that fool the model from c = 5 on, from c = .02 on, and never, with |r| = c. Row 0
    # tries .1, 1, 10, (1 + 10) / 2 = 5.5, (1 + 5.5) / 2 = 3.25; row 1 .1, .05, .025, .0125,
    # (.0125 + .025) / 2 = .01875; row 2 .1, 1, 10, 100, 1000.
    least = jnp.array([5.0, 0.02, jnp.inf])
    tried = []

    def attempt(const):
        jax.debug.callback(lambda c: tried.append(np.asarray(c)), const, ordered=True)
        return Shortest.of(const[:, None], const, const >= least)

    unmoved = Shortest.none(jnp.zeros((3, 1)))
    r = search(attempt, unmoved, initial_const=0.1, search_steps=5)
    jax.effects_barrier()
    np.testing.assert_allclose(
        np.stack(tried, axis=1),
        [
            [0.1, 1, 10, 5.5, 3.25],
            [0.1, 0.05, 0.025, 0.0125, 0.01875],
            [0.1, 1, 10, 100, 1000],
        ],
        rtol=1e-6,
    )
    np.testing.assert_allclose(r, [[5.5], [0.025], [0]], rtol=1e-6)
