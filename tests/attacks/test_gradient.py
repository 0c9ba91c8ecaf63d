"""fgsm and raw_gradient: worked arithmetic, and finite differences in float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from marks import exhaustive_after

from adv_jax import attacks

W = np.array([[1.0, -1.0], [2.0, 0.0], [0.0, 1.0]])


def linear(x):
    return x @ jnp.asarray(W, x.dtype)


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize(
    ("norm", "direction"),
    [
        # Logits z = x W, so grad_x CE(z, y) = W (softmax(z) - onehot(y)). At x = 0 the softmax is
        # [.5, .5]: y = 0 gives W [-.5, .5] = [-1, -1, .5], and y = 1 the opposite.
        ("linf", [-1, -1, 1]),
        ("l2", [-2 / 3, -2 / 3, 1 / 3]),  # || [-1, -1, .5] || = 1.5
        ("l1", [-1, 0, 0]),  # the first of the two entries of size 1
        ("rms", np.sqrt(3) * np.array([-2 / 3, -2 / 3, 1 / 3])),
    ],
)
def test_fgsm_equals_steps_by_hand_on_a_linear_model(norm, direction, targeted):
    x, y = jnp.zeros((2, 3)), jnp.array([0, 1])
    away = np.stack([direction, -np.array(direction)])
    x_adv = attacks.fgsm(linear, x, y, eps=0.3, norm=norm, targeted=targeted)
    np.testing.assert_allclose(x_adv, (-0.3 if targeted else 0.3) * away, atol=1e-6)


@pytest.mark.slow
def test_raw_gradient_equals_steps_by_hand_on_a_linear_model():
    # As above, [-1, -1, .5] for y = 0; the label [.25, .75] gives W [.25, -.25] = [.5, .5, -.25].
    x, y = jnp.zeros((2, 3)), jnp.array([[1.0, 0.0], [0.25, 0.75]])
    x_adv = attacks.raw_gradient(linear, x, y, tau=2.0)
    np.testing.assert_allclose(x_adv, [[-2, -2, 1], [1, 1, -0.5]], atol=1e-6)
    down = attacks.raw_gradient(linear, x, y, tau=2.0, targeted=True)
    np.testing.assert_allclose(down, [[2, 2, -1], [-1, -1, 0.5]], atol=1e-6)


@pytest.mark.parametrize("length", ["l2", "l1", "rms", "linf"])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_fgsm_combines_the_direction_of_one_norm_with_the_length_of_another(norm, length):
    x, y = jnp.zeros((2, 3)), jnp.array([0, 1])
    own = np.asarray(attacks.fgsm(linear, x, y, eps=1.0, norm=norm), np.float64)
    x_adv = attacks.fgsm(linear, x, y, eps=1.5, norm=norm, length=length)
    sizes = {
        "l2": np.sqrt((own**2).sum(1)),
        "l1": np.abs(own).sum(1),
        "rms": np.sqrt((own**2).mean(1)),
        "linf": np.abs(own).max(1),
    }[length]
    np.testing.assert_allclose(x_adv, 1.5 * own / sizes[:, None], rtol=1e-6)


def test_the_length_of_fgsm_counts_only_pixels_that_move():
    # The third input has no weight: Adv_Loss_Sign of l2 length 1.5 moves two by 1.5 / sqrt(2).
    still = lambda x: x @ jnp.float32([[1.0, -1.0], [2.0, 0.0], [0.0, 0.0]])
    x_adv = attacks.fgsm(still, jnp.zeros((1, 3)), jnp.array([0]), eps=1.5, length="l2")
    np.testing.assert_allclose(x_adv, [[-1.06066, -1.06066, 0.0]], atol=1e-5)


def test_fgsm_climbs_the_binary_cross_entropy_by_name():
    # sum_k of binary cross-entropies: grad = W (sigmoid(x W) - onehot(y)), by finite differences.
    rng = np.random.default_rng(0)
    x, y, tau = rng.normal(size=(4, 3)), np.array([0, 1, 1, 0]), 0.3

    def loss(row, label):
        p = oracles.sigmoid(row @ W)
        t = np.eye(2)[label]
        return -(t * np.log(p) + (1 - t) * np.log(1 - p)).sum()

    slopes = np.stack(
        [
            oracles.numerical_gradient(lambda r, k=k: loss(r, k), row)
            for row, k in zip(x, y, strict=True)
        ]
    )
    expected = x + tau * slopes / np.linalg.norm(slopes, axis=1, keepdims=True)
    with jax.enable_x64(True):
        found = attacks.fgsm(
            linear, jnp.asarray(x), y, eps=tau, norm="l2", loss="binary_cross_entropy"
        )
        found = np.asarray(found)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    said = "loss must be one of binary_cross_entropy, cross"
    with pytest.raises(ValueError, match=said):
        attacks.fgsm(linear, jnp.zeros((2, 3)), jnp.array([0, 1]), eps=0.1, loss="mse")
    with pytest.raises(ValueError, match=f"{said}.*; did you mean 'cross_entropy'"):
        attacks.fgsm(linear, jnp.zeros((2, 3)), jnp.array([0, 1]), eps=0.1, loss="cross_entropi")


def test_bounds_clip_the_result_of_fgsm():
    # x + .3 * [-1, -1, 1] = [-.2, .6, 1.1], clipped to [0, 1].
    x = jnp.array([[0.1, 0.9, 0.8]])
    x_adv = attacks.fgsm(linear, x, jnp.array([0]), eps=0.3, bounds=(0.0, 1.0))
    np.testing.assert_allclose(x_adv, [[0.0, 0.6, 1.0]], atol=1e-6)


def test_raw_gradient_is_the_finite_difference_of_each_rows_own_cross_entropy():
    rng = np.random.default_rng(0)
    w_in, w_out = rng.normal(size=(6, 5)), rng.normal(size=(5, 3))
    x, y = rng.normal(size=(4, 2, 3)), rng.dirichlet(np.ones(3), size=4)

    def loss(row, label):
        logits = np.tanh(row.reshape(6) @ w_in) @ w_out
        return -(label * (logits - np.log(np.exp(logits).sum()))).sum()

    def difference(row, label, index, h=1e-6):
        e = np.zeros_like(row)
        e[index] = h
        return (loss(row + e, label) - loss(row - e, label)) / (2 * h)

    expected = [
        [[difference(row, label, (i, j)) for j in range(3)] for i in range(2)]
        for row, label in zip(x, y, strict=True)
    ]
    with jax.enable_x64(True):
        x_adv = attacks.raw_gradient(
            lambda x: jnp.tanh(x.reshape(-1, 6) @ w_in) @ w_out, x, y, tau=1.0
        )
        assert x_adv.dtype == jnp.float64
        np.testing.assert_allclose(x_adv - x, expected, atol=1e-8)


@pytest.mark.parametrize("y", [jnp.array([0, 1]), None])
def test_fgsm_is_one_forward_and_one_backward_pass(y):
    # A linear layer is one matrix product forward and one backward.
    calls = []

    def logits_fn(x):
        calls.append(None)
        return linear(x)

    program = jax.make_jaxpr(lambda x: attacks.fgsm(logits_fn, x, y, eps=0.1))(jnp.zeros((2, 3)))
    assert len(calls) == 1
    assert str(program).count("dot_general[") == 2


def test_the_loss_of_a_bfloat16_model_is_computed_in_float32():
    # Logits of [8, 0]: in bfloat16 softmax(z)_0 rounds to 1 and its gradient to 0; in float32
    # softmax(z)_1 = 1 / (1 + e^8) = 3.35e-4 is left, times W = [-1, 1] -> tau * [-3.35e-4 * 2].
    def logits_fn(x):
        return x @ jnp.array([[1.0, -1.0]], jnp.bfloat16)

    x = jnp.array([[4.0]], jnp.bfloat16)
    tau = 2.0**12
    x_adv = attacks.raw_gradient(logits_fn, x, jnp.array([0]), tau=tau)
    np.testing.assert_allclose(4 - np.float32(x_adv[0, 0]), tau * 2 / (1 + np.e**8), rtol=2**-7)


def test_targeted_fgsm_needs_a_target():
    with pytest.raises(ValueError, match="y must be the class to reach"):
        attacks.fgsm(linear, jnp.zeros((2, 3)), None, eps=0.1, targeted=True)


def test_a_compiled_attack_shows_nan_of_the_model():
    # In traced code; called with known values, the attack refuses such a model.
    x, y = jnp.zeros((1, 3)), jnp.array([0])
    x_adv = jax.jit(lambda x: attacks.fgsm(lambda x: linear(x) / 0, x, y, eps=0.1))(x)
    assert bool(jnp.isnan(x_adv).any())


# Perturbations that are differentiated: constant=False.

X0, Y0 = np.array([[0.2, -0.4, 0.1], [0.5, 0.3, -0.2]]), np.array([0, 1])
SIDE = np.array([[1.0, -2.0, 0.5], [0.3, 0.7, -1.0]])


def by_weights(attack, w, bounds=None):
    """d <SIDE, x_adv> / d w of the net tanh(x) w."""

    def side(w):
        x_adv = attack(lambda x: jnp.tanh(x) @ w, X0, Y0, bounds=bounds, constant=False)
        return jnp.vdot(SIDE, x_adv)

    return jax.grad(side)(jnp.asarray(w))


def numpy_gradient(w):
    by_logits = oracles.softmax(np.tanh(X0) @ w) - np.eye(2)[Y0]
    return (by_logits @ w.T) * (1 - np.tanh(X0) ** 2)


@pytest.mark.slow
@pytest.mark.parametrize("targeted", exhaustive_after(2, [False, True]))
@pytest.mark.parametrize(
    ("attack", "step"),
    [
        (partial(attacks.raw_gradient, tau=0.3), lambda g: 0.3 * g),
        (
            partial(attacks.fgsm, eps=0.3, norm="l2"),
            lambda g: 0.3 * g / np.linalg.norm(g, axis=1, keepdims=True),
        ),
        (
            partial(attacks.fgsm, eps=0.3, norm="rms"),
            lambda g: 0.3 * np.sqrt(3) * g / np.linalg.norm(g, axis=1, keepdims=True),
        ),
        (partial(attacks.fgsm, eps=0.3), lambda g: 0.3 * np.sign(g)),
    ],
    ids=["udg", "1n", "qn", "sgn"],
)
def test_the_derivative_of_an_attack_by_the_weights_is_the_finite_difference(
    attack, step, targeted
):
    sign = -1 if targeted else 1
    expected = oracles.numerical_gradient(
        lambda w: np.vdot(SIDE, X0 + step(sign * numpy_gradient(w))), W
    )
    with jax.enable_x64(True):
        found = by_weights(partial(attack, targeted=targeted), W)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.slow
def test_the_derivative_of_an_attack_is_zero_at_clipped_entries():
    # Logits [1.9, .85] of x W; softmax(z)_1 = 1 / (1 + e^1.05) = .259, and the gradient of y = 0 is
    # .259 [-2, -2, 1]. With tau = .4 the step is [-.207, -.207, .104], of which the middle fits.
    def moved(w, bounds):
        attack = partial(attacks.raw_gradient, tau=0.4, constant=False, bounds=bounds)
        return attack(lambda x: x @ w, jnp.array([[0.1, 0.9, 0.95]]), jnp.array([0]))[0]

    w = jnp.float32(W)
    np.testing.assert_allclose(moved(w, (0.0, 1.0)), [0, 0.693, 1], atol=1e-3)
    free = np.array(jax.jacobian(moved)(w, None))
    clipped = np.array(jax.jacobian(moved)(w, (0.0, 1.0)))
    np.testing.assert_allclose(clipped[1], free[1], rtol=1e-6)
    np.testing.assert_array_equal(clipped[[0, 2]], 0)
    assert np.abs(free).max(axis=(1, 2)).min() > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("length", [None, "l2"])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "rms"])
def test_the_derivative_of_fgsm_at_a_zero_gradient_is_finite(norm, length):
    # Equal columns of w: the logits are equal, and the gradient w (p - onehot) is 0.
    w = np.ones((3, 2))
    with jax.enable_x64(True):
        found = by_weights(partial(attacks.fgsm, eps=0.3, norm=norm, length=length), w)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("bounds", [None, (-0.45, 0.3)])
@pytest.mark.parametrize(
    ("attack", "step"),
    [
        (partial(attacks.raw_gradient, tau=0.3), lambda g: 0.3 * g),
        (
            partial(attacks.fgsm, eps=0.3, norm="l2"),
            lambda g: 0.3 * g / np.linalg.norm(g, axis=1, keepdims=True),
        ),
        (partial(attacks.fgsm, eps=0.3), lambda g: 0.3 * np.sign(g)),
    ],
    ids=["udg", "1n", "sgn"],
)
def test_the_derivative_of_an_attack_by_x_is_the_finite_difference(attack, step, bounds):
    lo, hi = bounds or (-np.inf, np.inf)

    def numpy_side(x):
        by_logits = oracles.softmax(np.tanh(x) @ W) - np.eye(2)[Y0]
        return np.vdot(SIDE, np.clip(x + step((by_logits @ W.T) * (1 - np.tanh(x) ** 2)), lo, hi))

    def side(x):
        x_adv = attack(lambda x: jnp.tanh(x) @ W, x, Y0, bounds=bounds, constant=False)
        return jnp.vdot(SIDE, x_adv)

    x = np.clip(X0, lo + 0.01, hi - 0.01)
    with jax.enable_x64(True):
        found = jax.grad(side)(jnp.asarray(x))
    np.testing.assert_allclose(found, oracles.numerical_gradient(numpy_side, x), atol=1e-7)


@pytest.mark.slow
def test_a_constant_attack_has_no_derivative_by_x():
    by_x = jax.jacobian(lambda x: attacks.fgsm(lambda x: x @ jnp.float32(W), x, Y0, eps=0.1))
    np.testing.assert_array_equal(by_x(jnp.float32(X0)), 0)


def test_a_step_goes_along_the_features_whose_gradient_is_not_nan():
    # The square root is 0, and its derivative by the first feature infinity times 0.
    w = jnp.array([[1.0, -1.0], [2.0, 0.0]])
    unknown = lambda x: x @ w + jnp.sqrt(x[:, :1] - x[:, :1])
    found = attacks.fgsm(unknown, jnp.array([[0.5, 0.5]]), jnp.array([0]), eps=0.25)
    np.testing.assert_array_equal(found, [[0.5, 0.25]])
