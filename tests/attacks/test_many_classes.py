"""Candidates of deepfool and fab, and targets of deepfool, fab and square."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adv_jax import attacks

D, K = 6, 14
RNG = np.random.default_rng(0)
W = RNG.normal(size=(D, K)).astype(np.float32)
X = jnp.float32(RNG.normal(size=(5, D)))
Y = jnp.argmax(X @ W, axis=1)
DISTANCES = {"l2": 2, "linf": 1}  # norm -> order of the dual norm


def linear(x):
    return x @ jnp.asarray(W)


def closest(norm, considered):
    """The distance to the nearest of the boundaries with the `considered` classes, in NumPy."""
    logits = np.asarray(X) @ W
    found = []
    for z, y in zip(logits, np.asarray(Y), strict=True):
        others = [j for j in np.argsort(-z) if j != y][:considered]
        slopes = [np.linalg.norm(W[:, j] - W[:, y], DISTANCES[norm]) for j in others]
        found.append(min((z[y] - z[j]) / s for j, s in zip(others, slopes, strict=True)))
    return np.array(found)


@pytest.mark.slow
@pytest.mark.parametrize("norm", DISTANCES)
@pytest.mark.parametrize(("candidates", "considered"), [(2, 1), (4, 3), (10, 9), (None, K - 1)])
def test_deepfool_and_fab_go_to_the_nearest_boundary_of_the_candidates(
    norm, candidates, considered
):
    order = {"l2": 2, "linf": np.inf}[norm]
    expected = closest(norm, considered)
    deepfool = partial(attacks.deepfool, num_steps=1, overshoot=1e-3)
    for attack in (deepfool, partial(attacks.fab, num_steps=1, alpha_max=0.0, eta=1.001)):
        x_adv = attack(linear, X, Y, norm=norm, candidates=candidates)
        length = np.linalg.norm(x_adv - X, order, axis=1)
        fooled = np.asarray(jnp.argmax(linear(x_adv), axis=1) != Y)
        assert fooled.any()
        np.testing.assert_allclose(length[fooled], expected[fooled], rtol=5e-3)


@pytest.mark.slow
def test_ten_candidates_are_the_default():
    for attack in (attacks.deepfool, partial(attacks.fab, num_steps=3)):
        one, other, every = (
            attack(linear, X, Y, **given) for given in ({}, {"candidates": 10}, {"candidates": 14})
        )
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(every, attack(linear, X, Y, candidates=None))


@pytest.mark.parametrize("count", [1, 2.0, "all"])
def test_candidates_other_than_two_or_more_are_refused(count):
    for attack in (attacks.deepfool, attacks.fab):
        with pytest.raises(ValueError, match="^candidates must be a whole number of at least 2"):
            attack(linear, X, Y, candidates=count)


TARGETED = {
    "deepfool": attacks.deepfool,
    "fab": partial(attacks.fab, num_steps=20, norm="l2"),
    "square": partial(attacks.square, eps=9.0, num_queries=300, key=jax.random.key(0)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETED)
def test_a_targeted_attack_reaches_its_class(name):
    target = (Y + 3) % K
    target = target.at[0].set(Y[0])
    x_adv = TARGETED[name](linear, X, target, targeted=True)
    np.testing.assert_array_equal(jnp.argmax(linear(x_adv), axis=1), target)
    np.testing.assert_array_equal(x_adv[0], X[0])  # It is in this class already.


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETED)
def test_with_two_classes_the_target_is_the_other_class(name):
    w = jnp.asarray(W[:, :2])
    net = lambda x: jnp.tanh(x) @ w
    y = jnp.argmax(net(X), axis=1)
    aimed = TARGETED[name](net, X, 1 - y, targeted=True)
    # fab aims with other weights, but ends at the same boundary.
    near = 0.02 if name == "fab" else 1e-5
    np.testing.assert_allclose(aimed, TARGETED[name](net, X, y), atol=near)


def test_targeted_deepfool_ends_near_the_boundary_of_its_class():
    # Every boundary is a plane, so a projection in turn onto the halfspaces z_t >= z_j converges.
    target = (Y + 1) % K
    x_adv = attacks.deepfool(linear, X, target, targeted=True, overshoot=0.0, num_steps=200)
    logits = np.asarray(linear(x_adv))
    at_target = logits[np.arange(len(X)), target]
    rivals = np.where(np.arange(K) == np.asarray(target)[:, None], -np.inf, logits).max(axis=1)
    assert np.all(at_target >= rivals - 1e-5) and np.all(at_target - rivals < 0.05)
