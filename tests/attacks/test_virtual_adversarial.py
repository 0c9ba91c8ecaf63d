"""virtual_adversarial against the Hessian of the divergence in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adv_jax.attacks.virtual_adversarial import virtual_adversarial

B, N, K = 5, 6, 4
RNG = np.random.default_rng(0)
W_IN, W_OUT = RNG.normal(size=(N, 7)), RNG.normal(size=(7, K))
X = RNG.normal(size=(B, N)).astype(np.float32)


def logits_fn(x):
    return jnp.tanh(x @ jnp.asarray(W_IN, x.dtype)) @ jnp.asarray(W_OUT, x.dtype)


@pytest.fixture(scope="module")
def hessians():
    """Returns the Hessians f64[B, N, N] of KL(p(x) || p(x + r)) by r, at r = 0."""
    with jax.enable_x64(True):

        def divergence(r, x):
            clean, noisy = (jax.nn.log_softmax(logits_fn(z[None])[0]) for z in (x, x + r))
            return jnp.sum(jnp.exp(clean) * (clean - noisy))

        return np.array([jax.hessian(divergence)(np.zeros(N), np.float64(x)) for x in X])


def direction(norm, num_steps=200, xi=0.01):
    attack = jax.jit(
        lambda x: virtual_adversarial(
            logits_fn, x, None, eps=1.0, xi=xi, norm=norm, num_steps=num_steps,
            key=jax.random.key(0),
        )
    )  # fmt: skip
    return np.float64(attack(X)) - X


@pytest.mark.slow
def test_power_iteration_finds_the_first_eigenvector(hessians):
    values, vectors = np.linalg.eigh(hessians)
    assert np.all(values[:, -2] / values[:, -1] < 0.9)  # So that 200 steps tell them apart.
    d = direction("l2")
    np.testing.assert_allclose(np.linalg.norm(d, axis=1), 1, atol=1e-5)
    cosine = np.abs(np.sum(d * vectors[:, :, -1], axis=1))
    np.testing.assert_allclose(cosine, 1, atol=1e-3)


@pytest.mark.slow
def test_one_step_of_power_iteration_is_the_hessian_times_the_start(hessians):
    # The start is unknown, but one step more multiplies by the Hessian once more.
    d, after = direction("l2", 1), direction("l2", 2)
    product = np.einsum("bij,bj->bi", hessians, d)
    product /= np.linalg.norm(product, axis=1, keepdims=True)
    np.testing.assert_allclose(after, product, atol=0.02)


@pytest.mark.slow
def test_the_rms_perturbation_is_sqrt_d_times_the_l2_perturbation():
    rms = direction("rms", 3, xi=0.01 / np.sqrt(N))
    np.testing.assert_allclose(rms, np.sqrt(N) * direction("l2", 3), atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["linf", "l1"])
def test_no_neighboring_corner_is_better_under_linf_and_l1(norm, hessians):
    # The divergence, nearly convex, is largest at a corner of the ball: signs, or +- one entry.
    # A corner d at rest is the ball's own maximum of <H d, d'>.
    for d, hessian in zip(direction(norm), hessians, strict=True):
        slope = hessian @ d
        if norm == "linf":
            np.testing.assert_allclose(d, np.sign(slope), atol=1e-5)
        else:
            assert np.argmax(np.abs(slope)) == np.argmax(np.abs(d))
            np.testing.assert_allclose(np.abs(d).sum(), 1, atol=1e-5)


@pytest.mark.slow
def test_virtual_adversarial_ignores_labels():
    @jax.jit
    def attack(y):
        return virtual_adversarial(logits_fn, X, y, eps=0.5, key=jax.random.key(0))

    np.testing.assert_array_equal(attack(np.zeros(B, int)), attack(np.ones(B, int)))
    np.testing.assert_array_equal(attack(np.zeros(B, int)), attack(None))


def test_virtual_adversarial_refuses_a_count_below_one():
    with pytest.raises(ValueError, match="num_steps must be a whole number of at least 1, got 0"):
        virtual_adversarial(logits_fn, X, None, eps=0.1, num_steps=0, key=jax.random.key(0))
