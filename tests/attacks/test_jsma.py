"""jsma: four features by hand, brute force over all pairs in NumPy, its budget and its memory."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

from adv_jax import attacks

BOUNDS = (0.0, 1.0)
jsma = functools.partial(attacks.jsma, targeted=True)
B, D, K = 6, 10, 3
RNG = np.random.default_rng(0)
W_IN, W_OUT = RNG.normal(size=(D, 8)), RNG.normal(size=(8, K))
X = RNG.uniform(size=(B, D))
X[:, 0], X[:, 1] = 0, 1  # at a bound from the start


def net(x):
    w_in, w_out = (jnp.asarray(w, x.dtype) for w in (W_IN, W_OUT))
    return jnp.tanh(x.reshape(x.shape[0], D) @ w_in) @ w_out


def numpy_net(x, of):
    """Values [K] and their Jacobian [K, D]."""
    hidden = np.tanh(x @ W_IN)
    logits, jacobian = hidden @ W_OUT, (W_IN * (1 - hidden**2) @ W_OUT).T
    if of == "logits":
        return logits, jacobian
    p = softmax(logits)
    return p, (np.diag(p) - np.outer(p, p)) @ jacobian


def brute_force(x, target, theta, gamma, of):
    """Algorithm 3, with a loop over all pairs."""
    x = x.copy()
    for _ in range(int(np.floor(gamma * D / 2 + 1e-9))):
        values, jacobian = numpy_net(x, of)
        if values.argmax() == target:
            break
        candidates = [i for i in range(D) if (x[i] < 1 if theta > 0 else x[i] > 0)]
        best, pair = 0, None
        for p, q in itertools.combinations(candidates, 2):
            alpha = jacobian[target, [p, q]].sum()
            beta = np.delete(jacobian, target, axis=0)[:, [p, q]].sum()
            helps = alpha > 0 > beta if theta > 0 else alpha < 0 < beta
            if helps and -alpha * beta > best:
                best, pair = -alpha * beta, [p, q]
        if pair is None:
            break
        x[pair] = np.clip(x[pair] + theta, 0, 1)
    return x


@pytest.mark.slow
@pytest.mark.parametrize("of", ["logits", "probs"])
@pytest.mark.parametrize("theta", [1.0, 0.3, -1.0])
def test_jsma_equals_brute_force_over_all_pairs(theta, of):
    target = (np.array([numpy_net(x, of)[0].argmax() for x in X]) + 1) % K
    expected = [brute_force(x, t, theta, 0.6, of) for x, t in zip(X, target, strict=True)]
    assert (np.asarray(expected) != X).any(axis=1).sum() > B / 2
    with jax.enable_x64(True):
        attack = jax.jit(
            lambda x, y, theta, gamma: jsma(
                net, x, y, theta=theta, gamma=gamma, of=of, bounds=BOUNDS
            )
        )
        shaped = jnp.asarray(X.reshape(B, 2, 5))
        x_adv = attack(shaped, jnp.asarray(target), theta, 0.6)
    np.testing.assert_allclose(x_adv.reshape(B, D), expected, atol=1e-12)


W = np.array([[-1.0, 1.0], [-2.0, 0.0], [0.0, 3.0], [2.0, 0.0]])


def linear(x):
    return x @ jnp.asarray(W, x.dtype)


def test_jsma_on_four_features_equals_the_steps_by_hand():
    # To class 1: a = [1, 0, 3, 0], b = [-1, -2, 0, 2]. Scores -(a_p + a_q) (b_p + b_q) of the
    # pairs without the last feature: {0, 1} 1 * 3, {0, 2} 4 * 1, {1, 2} 3 * 2, the highest.
    # It turns the logits [2, 0] into [0, 3]. A quarter of the step turns them into [1.5, .75] and
    # half of the features is one pair; all of them are two, and the same may be changed again.
    x, y = jnp.array([[0.0, 0.0, 0.0, 1.0]]), jnp.array([1])
    np.testing.assert_array_equal(
        jsma(linear, x, y, gamma=0.5, bounds=BOUNDS), [[0.0, 1.0, 1.0, 1.0]]
    )
    quarter = [jsma(linear, x, y, theta=0.25, gamma=gamma, bounds=BOUNDS) for gamma in (0.5, 1.0)]
    np.testing.assert_array_equal(quarter, [[[0, 0.25, 0.25, 1]], [[0, 0.5, 0.5, 1]]])


def test_jsma_with_negative_theta_is_the_mirror_image():
    x, y = jnp.array([[1.0, 1.0, 1.0, 0.0]]), jnp.array([1])
    x_adv = jsma(lambda x: linear(1 - x), x, y, theta=-1.0, gamma=0.5, bounds=BOUNDS)
    np.testing.assert_array_equal(x_adv, [[1.0, 0.0, 0.0, 0.0]])


@pytest.mark.slow
def test_gamma_limits_the_share_of_features_row_by_row():
    # The target is out of reach. Of 44 features, 26 / 44 are 13 pairs, for which float32 has
    # 12.999999.
    x = jnp.full((5, 44), 0.5)
    hopeless = lambda x: jnp.stack([100 - x.sum(axis=1), x.sum(axis=1)], axis=1)
    gamma = jnp.asarray(np.array([0, 1.9, 2, 26, 44]) / 44, jnp.float32)
    changed = [0, 0, 2, 26, 44]
    attack = jax.jit(lambda gamma: jsma(hopeless, x, jnp.ones(5, int), gamma=gamma, bounds=BOUNDS))
    np.testing.assert_array_equal((attack(gamma) == 1).sum(axis=1), changed)
    np.testing.assert_array_equal((attack(gamma) != 0.5).sum(axis=1), changed)


def test_jsma_leaves_a_row_without_a_pair_or_at_the_target():
    # Row 0 is far from class 1, but only its second feature may still rise. Row 1 is there.
    x = jnp.array([[1.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 0.0]])
    logits_fn = lambda x: linear(x) + jnp.array([[10.0, 0.0], [0.0, 0.0]])
    x_adv = jsma(logits_fn, x, jnp.array([1, 1]), gamma=1.0, bounds=BOUNDS)
    np.testing.assert_array_equal(x_adv, x)


@pytest.mark.slow
def test_untargeted_jsma_aims_at_the_next_class():
    x = jnp.asarray(X, jnp.float32)
    predicted = net(x).argmax(axis=1)
    attack = jax.jit(
        lambda y, targeted: jsma(net, x, y, gamma=0.6, bounds=BOUNDS, targeted=targeted),
        static_argnums=1,
    )
    toward = attack((predicted + 1) % K, True)
    assert bool((toward != x).any())
    np.testing.assert_array_equal(attack(predicted, False), toward)
    np.testing.assert_array_equal(attack(None, False), toward)
    with pytest.raises(ValueError, match="y must be the class to reach"):
        jsma(net, x, None)


def test_small_slopes_do_not_underflow_in_jsma():
    # At logits [0, -60], softmax' = 9e-27 w, of which a product would be 0 in float32.
    far = lambda x: jnp.stack([jnp.zeros(len(x)), x @ jnp.array([1.0, 2.0, 3.0, 0.5]) - 60], axis=1)
    x_adv = jsma(far, jnp.zeros((1, 4)), jnp.array([1]), gamma=0.5, of="probs", bounds=BOUNDS)
    np.testing.assert_array_equal(x_adv, [[0.0, 1.0, 1.0, 0.0]])


def test_memory_of_jsma_grows_with_the_features_not_with_pairs():
    x = jnp.zeros((50, 784))
    w = jnp.ones((784, 10))
    compiled = (
        jax.jit(lambda x, y: jsma(lambda x: x @ w, x, y)).lower(x, jnp.zeros(50, int)).compile()
    )
    # All pairs are 50 * 784^2 * 4 bytes = 123 MB, all rows 157 kB.
    assert compiled.memory_analysis().temp_size_in_bytes < 50 * 157e3
