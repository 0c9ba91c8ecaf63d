"""The shallow-net thesis' worked example: its 3-3-3 net, its printed numbers, and its slips.

Secs. 1.5, 2.3 to 2.6, 3.3; Table 2.1; pp. 11 to 27. The net has sigmoids in both layers and
divides the output by its sum: p = s / sum(s), s = sigmoid(z2), with the cost C = -ln p_y. In the
words of this library its logits are ln s, as softmax(ln s) = s / sum(s).

A printed number is correct to half a unit of its last digit. Wrongly printed numbers (z2, the
squared error .021, the cross-entropy .011 of p. 18) are not asserted.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracles
import pytest

from adv_jax import attacks, objectives
from adv_jax.types import Output

pytestmark = pytest.mark.usefixtures("x64")

X = np.array([[0, 0, 1], [0, 0.1, 0.9], [0, 1, 1], [0.1, 0.9, 0.9], [1, 0, 1], [0.9, 0.1, 0.9]])
Y = np.array([0, 0, 1, 1, 2, 2])
# Rows are inputs, columns are neurons: z = x W + b.
PARAMS = {
    "W1": np.array([[-10.0, -10, 10], [-10, 10, -10], [20, 10, 10]]),
    "b1": np.array([-13.0, -13, -13]),
    "W2": np.array([[5.0, -5, -5], [-5, 5, -5], [-5, -5, 5]]),
    "b2": np.zeros(3),
}
EPS_SGD, EPS_ADV = 0.5, 0.07  # pp. 24 and 27


def z1(params, x):
    return x @ params["W1"] + params["b1"][None]


def exact_logits(params, x):
    """ln sigmoid(z2): the cost is the printed one and so is its gradient."""
    return jax.nn.log_sigmoid(jax.nn.sigmoid(z1(params, x)) @ params["W2"] + params["b2"][None])


def thesis_logits(params, x):
    """`exact_logits` with the gradient of the shallow-net thesis (eq. 2.13), as if they were z2.

    So delta2 = p - y, which is right for a softmax of z2, but not for normalized sigmoids.
    """
    z2 = jax.nn.sigmoid(z1(params, x)) @ params["W2"] + params["b2"][None]
    return z2 + jax.lax.stop_gradient(jax.nn.log_sigmoid(z2) - z2)


def loss(params, rows, logits=thesis_logits):
    apply = lambda variables, x, *, train, key: Output(logits(variables["params"], x), {}, {})
    batch = {"x": jnp.asarray(X[rows]), "y": jnp.asarray(Y[rows])}
    return objectives.cross_entropy(apply, {"params": params}, batch, key=jax.random.key(0))[0]


def adversarial(logits):
    attack = partial(attacks.fgsm, eps=EPS_ADV)
    return attack(partial(logits, PARAMS), jnp.asarray(X[:1]), jnp.asarray(Y[:1]))[0]


def loss_at(x):
    """The printed cost of a point of class 1, in NumPy."""
    a1 = oracles.sigmoid(x @ PARAMS["W1"] + PARAMS["b1"])
    s = oracles.sigmoid(a1 @ PARAMS["W2"] + PARAMS["b2"])
    return -np.log(s[0] / s.sum())


def printed(values, digits):
    """Asserts that values round to the numbers of a table with this many decimals."""
    return partial(np.testing.assert_allclose, desired=values, rtol=0, atol=0.5001 * 10.0**-digits)


def sgd_step():
    """Makes one SGD step on sample x1 -> (gradient, new parameters)."""
    params = jax.tree.map(jnp.asarray, PARAMS)
    gradient = jax.grad(loss)(params, slice(0, 1))
    optimizer = optax.sgd(EPS_SGD)
    updates, _ = optimizer.update(gradient, optimizer.init(params))
    return gradient, optax.apply_updates(params, updates)


def test_the_forward_pass_of_x1_has_the_numbers_of_page_17():
    np.testing.assert_array_equal(z1(PARAMS, X[:1])[0], [7, -3, -3])
    a1 = jax.nn.sigmoid(z1(PARAMS, X[:1])[0])
    printed([0.999, 0.047, 0.047], 3)(a1)
    s = jnp.exp(exact_logits(PARAMS, X[:1])[0])
    printed([0.989, 0.007, 0.007], 3)(s)
    # The probabilities: .007 twice as printed (p. 18); .986 is truncated, from .98659.
    p = jax.nn.softmax(exact_logits(PARAMS, X[:1])[0])
    printed([0.007, 0.007], 3)(p[1:])
    assert np.floor(1000 * float(p[0])) == 986


@pytest.mark.slow
def test_all_six_samples_are_classified_correctly_with_the_mean_loss_of_page_24():
    np.testing.assert_array_equal(exact_logits(PARAMS, X).argmax(axis=1), Y)
    # .014240 is truncated, from .01424068, and is the mean of the six, not the sum of sec. 2.4.
    assert np.floor(1e6 * float(loss(PARAMS, slice(0, 6)))) == 14240
    np.testing.assert_allclose(
        [loss(PARAMS, slice(i, i + 1)) for i in range(6)],
        [0.013501, 0.014966, 0.013841, 0.014648, 0.013841, 0.014648],
        atol=5e-7,
    )


@pytest.mark.slow
def test_the_gradients_equal_those_of_page_24():
    gradient, _ = sgd_step()
    printed([[0, 0, 0], [0, 0, 0], [0, 0.003, 0.003]], 3)(gradient["W1"])
    printed([[-0.013, 0.007, 0.007], [-0.001, 0, 0], [-0.001, 0, 0]], 3)(gradient["W2"])
    printed([0, 0.003, 0.003], 3)(gradient["b1"])
    printed([-0.013, 0.007, 0.007], 3)(gradient["b2"])
    # "-0.0": the first entries are negative, which eq. 3.3 needs.
    assert gradient["b1"][0] < 0 and gradient["W1"][2, 0] < 0


@pytest.mark.slow
def test_the_updated_parameters_equal_those_of_page_24():
    _, params = sgd_step()
    printed([[-10, -10, 10], [-10, 10, -10], [20, 9.998, 9.998]], 3)(params["W1"])
    printed([[5.007, -5.003, -5.003], [-5, 5, -5], [-5, -5, 5]], 3)(params["W2"])
    printed([-13, -13.002, -13.002], 3)(params["b1"])
    printed([0.007, -0.003, -0.003], 3)(params["b2"])


@pytest.mark.slow
def test_the_step_lowers_the_losses_as_on_page_24():
    _, params = sgd_step()
    printed(0.0135, 4)(loss(PARAMS, slice(0, 1)))
    printed(0.0134, 4)(loss(params, slice(0, 1)))
    # .014233 is truncated, from .01423377.
    assert np.floor(1e6 * float(loss(params, slice(0, 6)))) == 14233


def test_the_adversarial_sample_of_page_27_follows_from_the_printed_gradient():
    x_adv = adversarial(thesis_logits)
    printed([0.07, 0.07, 1.07], 2)(x_adv)  # Not clipped: 1.07 is outside [0, 1].
    printed(0.013501, 6)(loss(PARAMS, slice(0, 1)))
    printed(0.013580, 6)(loss_at(np.asarray(x_adv)))


def test_the_sample_of_page_27_needs_the_unrounded_delta1():
    # Eq. 3.3 shows delta1 = (0, .003, .003); W1 delta1 would be (0, 0, .06), and its sign would
    # leave two pixels alone. The first entry is -.000122.
    delta1 = np.array(sgd_step()[0]["b1"])
    printed([0, 0.003, 0.003], 3)(delta1)
    np.testing.assert_allclose(delta1[0], -0.000122, atol=5e-7)
    np.testing.assert_array_equal(np.sign(PARAMS["W1"] @ [0, 3, 3]), [0, 0, 1])
    np.testing.assert_array_equal(np.sign(PARAMS["W1"] @ delta1), [1, 1, 1])


def test_the_exact_gradient_of_the_printed_cost_gives_a_stronger_sample():
    numerical = oracles.numerical_gradient(loss_at, X[0])
    exact = jax.grad(lambda x: loss_of(exact_logits, x))(jnp.asarray(X[0]))
    np.testing.assert_allclose(exact, numerical, rtol=1e-5)
    np.testing.assert_allclose(numerical, [0.000613, 0.000613, -0.000574], atol=5e-7)
    x_adv = np.asarray(adversarial(exact_logits))
    np.testing.assert_allclose(x_adv, [0.07, 0.07, 0.93], atol=1e-12)
    assert loss_at(x_adv) == pytest.approx(0.014433, abs=5e-7)
    assert loss_at(x_adv) > loss_at(np.asarray(adversarial(thesis_logits)))


def loss_of(logits, x):
    return -jax.nn.log_softmax(logits(PARAMS, x[None]))[0, 0]


def test_exact_and_printed_gradient_differ_by_the_derivative_of_the_normalized_sigmoid():
    # Exact: delta2_j = -(1 - s_j) y_j + s_j (1 - s_j) / sum(s) = (-.000144, .006660, .006660).
    by_bias = lambda logits: jax.grad(
        lambda b2: loss_of(partial(with_bias, logits, b2), jnp.asarray(X[0]))
    )(jnp.zeros(3))
    with_bias = lambda logits, b2, params, x: logits({**params, "b2": b2}, x)
    exact = by_bias(exact_logits)
    np.testing.assert_allclose(exact, [-0.000144, 0.006660, 0.006660], atol=5e-7)
    s = np.exp(np.asarray(exact_logits(PARAMS, X[:1])[0]))
    y = np.array([1, 0, 0])
    np.testing.assert_allclose(exact, -(1 - s) * y + s * (1 - s) / s.sum(), rtol=1e-9)
    np.testing.assert_allclose(by_bias(thesis_logits), s / s.sum() - y, rtol=1e-9)


def test_a_softmax_of_z2_does_not_give_the_printed_losses():
    z2 = oracles.sigmoid(X[:1] @ PARAMS["W1"] + PARAMS["b1"]) @ PARAMS["W2"]
    np.testing.assert_allclose(oracles.softmax(z2)[0], [0.999853, 0.000074, 0.000074], atol=5e-7)
    assert oracles.cross_entropies(z2, [0])[0] == pytest.approx(0.000147, abs=5e-7)
