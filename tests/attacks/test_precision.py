"""Float16 models, huge logits, subnormal numbers and losses that are NaN."""

from functools import partial

import attack_table
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import exhaustive_after, slow_after
from scipy.special import softmax

from adv_jax import attacks, losses, norms
from adv_jax.loss_gradients import loss_gradient, rate_fn, rated, with_gradient
from adv_jax.perturbations import perturbed
from adv_jax.types import UserError

B, D, K = 16, 12, 4
RNG = np.random.default_rng(0)
W = RNG.normal(size=(D, K)).astype(np.float16)
X = RNG.uniform(size=(B, D)).astype(np.float16)
Y = jnp.asarray(np.argmax(np.float64(X) @ np.float64(W), axis=1))
KEY = jax.random.key(0)


def linear(x, factor=1.0):
    """Computes in the dtype of x."""
    return x @ jnp.asarray(W, x.dtype) * jnp.asarray(factor, x.dtype)


def numpy_slope(logits, factor):
    """The gradient of the cross-entropy by x, in float64, given the logits of `linear`, [B, D]."""
    probs = softmax(logits, axis=1)
    others = np.where(np.eye(K)[Y] == 1, 0, probs)
    by_logits = np.where(np.eye(K)[Y] == 1, -others.sum(1, keepdims=True), others)
    return factor * by_logits @ np.float64(W).T


@pytest.mark.slow
def test_the_gradient_of_a_float16_model_does_not_underflow():
    found = loss_gradient(partial(linear, factor=20.0), jnp.asarray(X), Y, targeted=False)
    expected = numpy_slope(np.float64(linear(jnp.asarray(X), 20.0)), 20.0)
    largest = np.abs(expected).max(axis=1)
    # The smallest number of float16 is exp(-16.6) = 2^-24.
    assert found.dtype == jnp.float32 and largest.min() < 2.0**-24
    # Fused, the logits are not rounded to float16: by up to .03 for 50, a part in 30 of exp.
    error = np.abs(found - expected).max(axis=1)
    assert (error <= 0.06 * largest).all()


SIZES = {
    "fgsm": {"eps": 0.3},
    "pgd": {"eps": 0.3, "num_steps": 5},
    "apgd": {"eps": 0.3, "num_steps": 5},
    "mi_fgsm": {"eps": 0.3},
    "adv_alpha": {"eps": 0.3, "norm": "linf"},
    "ddn": {},
    "raw_gradient": {"tau": 1e8},
    "virtual_adversarial": {"eps": 0.9, "norm": "linf", "xi": 0.1, "key": KEY},
}


@pytest.mark.parametrize("name", exhaustive_after(2, SIZES))
def test_a_float16_model_is_fooled_as_a_float32_model_is(name):
    accuracies = []
    for dtype in (jnp.float32, jnp.float16):
        x, logits_fn = jnp.asarray(X, dtype), partial(linear, factor=30.0)
        x_adv = getattr(attacks, name)(logits_fn, x, Y, **SIZES[name])
        accuracies.append(float((jnp.argmax(logits_fn(x_adv), axis=1) == Y).mean()))
    assert accuracies[0] < 1
    assert accuracies[1] == pytest.approx(accuracies[0], abs=1 / B)


def test_an_attack_inside_a_float16_training_step_moves_every_row():
    def loss(w):
        x_adv = attacks.fgsm(lambda x: x @ w * 20, jnp.asarray(X), Y, eps=0.01)
        return losses.cross_entropy((x_adv @ w).astype(jnp.float32), Y).mean(), x_adv

    (_, x_adv), _ = jax.jit(jax.value_and_grad(loss, has_aux=True))(jnp.asarray(W))
    assert (x_adv != X).any(axis=1).all()


def test_a_loss_with_slopes_beyond_float16_has_a_finite_gradient():
    steep = lambda z, _: 1e7 * z[:, 0] - 1e7 * z[:, 1]
    found = attacks.raw_gradient(linear, jnp.asarray(X), None, tau=1e-8, loss=steep)
    expected = X + 0.1 * (np.float32(W[:, 0]) - np.float32(W[:, 1]))
    np.testing.assert_allclose(np.float32(found), expected, atol=2e-3)


def test_a_loss_of_the_users_is_computed_in_float32():
    def own(z, y):
        assert z.dtype == jnp.float32
        return -jnp.take_along_axis(jax.nn.log_softmax(z), y[:, None], axis=1)[:, 0]

    x = jnp.asarray(X)
    given = {"eps": 0.1, "num_steps": 2}
    own_adv = attacks.pgd(partial(linear, factor=5.0), x, Y, loss=own, **given)
    np.testing.assert_array_equal(attacks.pgd(partial(linear, factor=5.0), x, Y, **given), own_adv)


def test_the_jacobian_of_saturated_float16_probabilities_does_not_underflow():
    _, jacobian = attacks.class_jacobian(partial(linear, factor=20.0), jnp.asarray(X))
    p = softmax(np.float64(linear(jnp.asarray(X), 20.0)), axis=1)
    y = np.asarray(Y)
    others = np.where(np.eye(K)[y] == 1, 0, p).sum(axis=1)
    # d p_y / dz = -p_y p_j for j != y, and p_y (1 - p_y) for y.
    by_logits = np.where(np.eye(K)[y] == 1, others[:, None], -p) * p[np.arange(B), y][:, None]
    expected = 20 * by_logits @ np.float64(W).T
    largest = np.abs(expected).max(axis=1)
    assert largest.min() < 2.0**-24
    error = np.abs(jacobian[np.arange(B), y] - expected).max(axis=1)
    assert (error <= 0.06 * largest).all()


def test_the_unit_of_a_loss_keeps_the_bits_of_a_float32_gradient():
    w_in, w_out = (jnp.float32(RNG.normal(size=s)) for s in ((D, 9), (9, K)))
    net = lambda x: 4 * jnp.tanh(x @ w_in) @ w_out
    x = jnp.asarray(X, jnp.float32)

    def plain(x):
        return jax.grad(lambda x: losses.cross_entropy(net(x), Y).sum())(x)

    def scaled(x):
        return with_gradient(rate_fn(losses.cross_entropy, net, x, Y), x)[1]

    np.testing.assert_array_equal(jax.jit(scaled)(x), jax.jit(plain)(x))


def test_the_gradient_in_a_unit_has_the_second_derivative_of_the_loss():
    # loss = z^3 / 3, z = w x: the gradient w z^2 has the derivative 2 w^2 z.
    def slope(x):
        rate = lambda x: _cubed(3 * x)
        return with_gradient(rate, x)[1].sum()

    x = jnp.array([[0.5], [2.0]])
    np.testing.assert_allclose(jax.grad(slope)(x), 2 * 3**2 * 3 * x, rtol=1e-6)


def _cubed(z):
    return rated(lambda z: z[:, 0] ** 3 / 3, z, jnp.zeros(len(z), bool))


READERS = [n for n, row in attack_table.TABLE.items() if row.reads_model and not row.variant]


@pytest.mark.parametrize("name", exhaustive_after(1, ["fgsm-linf", *READERS[1:]]))
@pytest.mark.parametrize("factor", exhaustive_after(1, [1e11, 1e10, 1e20, 1e30]))
def test_examples_are_finite_at_huge_logits(name, factor):
    x, keys = jnp.asarray(X, jnp.float32), jax.random.split(KEY, B)
    # The factor is a constant of the program: XLA fuses the product with a softmax.
    logits_fn = lambda x: linear(x) * factor
    for y in (Y, jax.nn.one_hot(Y[::-1], K), jax.nn.softmax(linear(x))):
        x_adv = attack_table.run(
            attack_table.TABLE[name], x, y, 0.1, logits_fn=logits_fn, keys=keys
        )
        assert bool(jnp.isfinite(x_adv).all())


@pytest.mark.parametrize("name", losses.LOSSES)
def test_losses_and_their_gradients_are_finite_at_huge_logits(name):
    x = jnp.asarray(X, jnp.float32)
    for y in (Y, jax.nn.one_hot(Y[::-1], K), jax.nn.softmax(linear(x))):
        for factor in (1e11, 1e30):
            total = lambda x: losses.LOSSES[name](linear(x) * factor, y).sum()  # noqa: B023
            value, gradient = jax.jit(jax.value_and_grad(total))(x)
            assert bool(jnp.isfinite(value)) and bool(jnp.isfinite(gradient).all())


def test_the_cross_entropy_of_huge_logits_is_the_lead_of_the_largest():
    x, y = jnp.asarray(X, jnp.float32), jax.nn.one_hot(Y[::-1], K)
    found = jax.jit(lambda x: losses.cross_entropy(linear(x) * 1e11, y))(x)
    logits = 1e11 * (np.float64(X) @ np.float64(W))
    expected = logits.max(axis=1) - (logits * np.asarray(y)).sum(axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e4)


def _nan_for_one(z, _):
    return jnp.where(jnp.arange(len(z)) == 1, jnp.nan, z[:, 0])


def _infinite_for_all(z, _):
    return z[:, 0] + jnp.inf


def _nan_slope(z, _):
    return jnp.sqrt(z[:, 0] - z[:, 0])


PLAIN = {"bounds": (0.0, 1.0), "key": KEY}
CLIMBERS = {
    "fgsm": partial(attacks.fgsm, eps=0.1, **PLAIN),
    "pgd": partial(attacks.pgd, eps=0.1, num_steps=2, **PLAIN),
    "fgsm-through": partial(attacks.fgsm, eps=0.1, constant=False, **PLAIN),
    "raw_gradient": partial(attacks.raw_gradient, tau=0.1, **PLAIN),
    "bim": partial(attacks.bim, eps=0.1, num_steps=2, **PLAIN),
    "mi_fgsm": partial(attacks.mi_fgsm, eps=0.1, num_steps=2, **PLAIN),
    "apgd": partial(attacks.apgd, eps=0.1, num_steps=2, **PLAIN),
    "universal": partial(attacks.universal_perturbation, eps=0.1, num_steps=2, **PLAIN),
    "patch": partial(attacks.adversarial_patch, num_steps=2, **PLAIN),
}
REFUSED = {
    _nan_for_one: "loss must return finite numbers, got NaN or infinity for 1 of 16 rows of x",
    _infinite_for_all: "loss must return finite numbers, got NaN or infinity for 16 of 16 rows of",
    _nan_slope: "loss must have a gradient by x, got NaN for 16 of 16 rows of x",
}


@pytest.mark.parametrize("name", slow_after(1, CLIMBERS))
@pytest.mark.parametrize("loss", REFUSED)
def test_a_loss_without_numbers_at_x_is_refused(name, loss):
    x = jnp.asarray(X, jnp.float32).reshape(B, 3, 4)
    with pytest.raises(ValueError) as error:
        CLIMBERS[name](lambda x: linear(x.reshape(B, D)), x, Y, loss=loss)
    assert str(error.value).startswith(REFUSED[loss]) and "\n" not in str(error.value)


@pytest.mark.slow
def test_square_refuses_a_loss_of_nan_and_needs_no_derivative():
    x = jnp.asarray(X, jnp.float32)
    run = partial(attacks.square, linear, x, Y, eps=0.1, num_queries=3, key=KEY)
    with pytest.raises(ValueError, match="loss must return finite numbers, got NaN or infinity"):
        run(loss=_nan_for_one)

    def from_numpy(z, y):
        like = jax.ShapeDtypeStruct((B,), jnp.float32)
        own = lambda z, y: np.float32(np.delete(z, 0, axis=1).max(1) - z[:, 0])
        return jax.pure_callback(own, like, z, y, vmap_method="sequential")

    assert run(loss=from_numpy).shape == x.shape


@pytest.mark.parametrize("dtype", slow_after(1, [np.float16, jnp.bfloat16]))
@pytest.mark.parametrize("size", [0.1, 1e-4, 1e-6, 3e-8])
def test_every_number_of_16_bits_stays_inside_the_ball(dtype, size):
    x = np.arange(2**16, dtype=np.uint16).view(dtype)
    x = x[np.isfinite(x.astype(np.float32))]
    for r in (np.float32(size), np.float32(-size)):
        x_adv = np.asarray(jax.jit(partial(perturbed, bounds=None))(x, np.full(x.shape, r)))
        # bfloat16 has the subnormal numbers of float32, which devices flush to 0.
        some = (np.abs(x.astype(float)) >= 1e-37) | (dtype is np.float16)
        near, far = x[some].astype(float), x_adv[some].astype(float)
        assert (np.abs(far - near) <= float(np.abs(r))).all()
        # The result is a neighbor of x + r.
        goal = np.clip(near + float(r), *[float(jnp.finfo(dtype).max) * s for s in (-1, 1)])
        step = np.abs(goal) * float(jnp.finfo(dtype).eps) + float(
            jnp.finfo(dtype).smallest_subnormal
        )
        assert (np.abs(far - goal) <= step).all()


@pytest.mark.parametrize("dtype", [jnp.float8_e4m3fn, jnp.float8_e5m2])
def test_floats_of_8_bits_are_refused_in_one_line(dtype):
    x = jnp.array([[0.5, 0.25]], dtype)
    line = f"floats must have 16 bits or more, got {jnp.dtype(dtype).name}"
    with pytest.raises(UserError, match=f"^{line}$"):
        attacks.fgsm(lambda x: x.astype(jnp.float32), x, jnp.array([0]), eps=0.1)
    with pytest.raises(UserError, match=f"^{line}$"):
        norms.norm(x, "l2")
