"""losses: by hand, against finite differences, and under FGSM."""

from functools import partial

import jax
import jax.numpy as jnp
import nets
import numpy as np
import oracles
import pytest
from marks import exhaustive_after

from adv_jax import attacks, losses


def written_out(logits, targets):
    """-sum_k [t ln s + (1 - t) ln(1 - s)] of each row, in float64."""
    s = oracles.sigmoid(np.float64(logits))
    return -(targets * np.log(s) + (1 - targets) * np.log(1 - s)).sum(axis=1)


def random_rows(seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(0, 3, size=(6, 4)).astype(np.float32), rng.integers(0, 4, size=6)


def test_binary_cross_entropy_of_classes_and_weights_equals_numpy():
    logits, y = random_rows()
    targets = np.random.default_rng(1).uniform(size=logits.shape).astype(np.float32)
    loss = losses.loss_fn("binary_cross_entropy")
    np.testing.assert_allclose(
        loss(jnp.asarray(logits), jnp.asarray(y)), written_out(logits, np.eye(4)[y]), rtol=1e-5
    )
    np.testing.assert_allclose(
        loss(jnp.asarray(logits), jnp.asarray(targets)), written_out(logits, targets), rtol=1e-5
    )


@pytest.mark.slow
def test_cross_entropy_of_classes_and_weights_equals_numpy():
    logits, y = random_rows()
    loss, expected = losses.loss_fn("cross_entropy"), oracles.cross_entropies(logits, y)
    for labels in (y, np.eye(4, dtype=np.float32)[y]):
        found = loss(jnp.asarray(logits), jnp.asarray(labels))
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("loss", [*losses.LOSSES.values(), losses.log_odds])
def test_classes_in_bytes_have_the_losses_of_integers_with_more_classes_than_bytes(loss):
    logits = np.random.default_rng(0).normal(size=(3, 300)).astype(np.float32)
    y = np.array([5, 44, 255], np.uint8)  # 261 - 256, 300 - 256
    np.testing.assert_array_equal(loss(logits, y), loss(logits, y.astype(int)))


def test_cross_entropy_has_the_derivative_by_weights_of_0():
    logits = np.array([[1.0, 2.0, 0.0]], np.float32)
    total = lambda weights: losses.cross_entropy(jnp.asarray(logits), weights).sum()
    found = jax.grad(total)(jnp.array([[1.0, 0.0, 0.0]]))
    expected = [oracles.cross_entropies(logits, np.array([k]))[0] for k in range(3)]
    np.testing.assert_allclose(found[0], expected, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("margin", [0.0, 5.0, 16.0, 17.0, 30.0, 80.0])
def test_the_gradient_of_cross_entropy_is_exact_at_any_margin(margin):
    logits, y = random_rows(3)
    logits[np.arange(6), y] += margin - (logits[np.arange(6), y] - logits.max(axis=1))
    p = oracles.softmax(np.float64(logits))
    exact = p - np.eye(4)[y]
    exact[np.arange(6), y] = -(p * (1 - np.eye(4)[y])).sum(axis=1)  # 1 - p_y, not as a difference
    for labels in (y, np.eye(4, dtype=np.float32)[y]):
        loss = lambda z, labels=labels: losses.cross_entropy(z, jnp.asarray(labels)).sum()
        found = jax.grad(loss)(jnp.asarray(logits))
        np.testing.assert_allclose(found, exact, rtol=2e-5, atol=2e-38)  # XLA drops subnormals


@pytest.mark.slow
def test_the_gradient_of_cross_entropy_with_weights_is_exact():
    rng = np.random.default_rng(7)
    logits = rng.normal(0, 8, size=(50, 4)).astype(np.float32)
    weights = rng.dirichlet(np.full(4, 0.3), size=50).astype(np.float32)
    loss = lambda z: losses.cross_entropy(z, jnp.asarray(weights)).sum()
    log_p = np.log(oracles.softmax(np.float64(logits)))
    expected = -(weights * log_p).sum(axis=1)
    np.testing.assert_allclose(
        losses.cross_entropy(jnp.asarray(logits), jnp.asarray(weights)), expected, rtol=1e-5
    )
    exact = np.exp(log_p) * np.float64(weights).sum(axis=1, keepdims=True) - weights
    np.testing.assert_allclose(jax.grad(loss)(jnp.asarray(logits)), exact, atol=3e-7)


@pytest.mark.slow
@pytest.mark.parametrize("factor", exhaustive_after(1, [1.0, 10.0]))
def test_fgsm_gives_the_same_points_for_classes_and_one_hot_rows(factor):
    x, y = nets.digits()
    net = nets.trained("plain").logits_fn
    craft = jax.jit(partial(attacks.fgsm, lambda x: factor * net(x), eps=0.05))
    from_classes = craft(x, y)
    from_rows = craft(x, jax.nn.one_hot(y, 10))
    # A pixel whose gradient rounds to another sign is the only difference.
    assert float(jnp.mean(from_classes != from_rows)) < 1e-3
    accuracies = [nets.accuracy(net, x_adv, y) for x_adv in (from_classes, from_rows)]
    assert accuracies[0] == pytest.approx(accuracies[1], abs=0.002)


@pytest.mark.slow
def test_fgsm_follows_the_weights_of_a_linear_model_with_a_large_margin():
    # From a margin of 17 nats on float32 has p_y = 1. Of the gradient, (p - onehot) W^T, the part
    # of the label is gone then, and the rest turns x[0] the wrong way.
    weights = jnp.array([[30.0, 10.0, 0.0], [-5.0, -4.0, 0.0]])
    x, y = jnp.array([[1.0, 1.0]]), jnp.array([0])
    for scale in (0.1, 1.0, 4.0):  # margins of 1.9, 19 and 76 nats
        x_adv = attacks.fgsm(lambda x, s=scale: s * (x @ weights), x, y, eps=0.1)
        np.testing.assert_allclose(x_adv, [[0.9, 1.1]], rtol=1e-6)


def test_binary_cross_entropy_equals_values_computed_by_hand():
    # s = (.75, .25) of the logits (ln 3, -ln 3); class 0: -2 ln .75 = .575364, class 1:
    # -2 ln .25 = 2.772589.
    logits = jnp.array([[1.0986123, -1.0986123]] * 2)
    found = losses.binary_cross_entropy(logits, jnp.array([0, 1]))
    np.testing.assert_allclose(found, [0.575364, 2.772589], rtol=1e-6)


def test_binary_cross_entropy_of_an_impossible_class_is_finite():
    logits, labels = jnp.array([[-jnp.inf, 1.0, 2.0]]), jnp.array([1])
    expected = -np.log(1 / (1 + np.exp(-1))) - np.log(1 - 1 / (1 + np.exp(-2)))
    for given in (labels, jax.nn.one_hot(labels, 3)):
        loss, gradient = jax.value_and_grad(
            lambda logits, given=given: losses.binary_cross_entropy(logits, given)[0]
        )(logits)
        assert loss == pytest.approx(expected, rel=1e-6)
        np.testing.assert_allclose(gradient, [[0, -1 / (1 + np.e), 1 / (1 + np.exp(-2))]], 1e-6)
    assert losses.binary_cross_entropy(logits, jnp.array([0]))[0] == jnp.inf


def test_the_gradient_of_binary_cross_entropy_is_exact_at_saturation():
    logits, y = random_rows(2)
    gradient = jax.grad(lambda a: losses.binary_cross_entropy(a, jnp.asarray(y)).sum())
    numerical = oracles.numerical_gradient(lambda a: written_out(a, np.eye(4)[y]).sum(), logits)
    np.testing.assert_allclose(gradient(jnp.asarray(logits)), numerical, rtol=1e-4, atol=1e-6)
    # 1 - sigmoid(30) = 9.4e-14 is 0 when it is computed as that difference in float32.
    far = gradient(jnp.full((6, 4), 30.0) * (2 * np.eye(4)[y] - 1))
    np.testing.assert_allclose(far, (1 - 2 * np.eye(4)[y]) * np.exp(-30.0), rtol=1e-5)


@pytest.mark.parametrize(("targeted", "sign"), [(False, 1), (True, -1)])
def test_fgsm_of_binary_cross_entropy_follows_the_numerical_gradient(targeted, sign):
    rng = np.random.default_rng(3)
    w, x, y = rng.normal(size=(5, 4)), rng.normal(size=(6, 5)), rng.integers(0, 4, size=6)
    attack = partial(attacks.fgsm, eps=0.1, loss="binary_cross_entropy", targeted=targeted)
    found = attack(lambda x: x @ jnp.asarray(w, jnp.float32), jnp.asarray(x, jnp.float32), y)
    loss = lambda x: written_out(x @ w, np.eye(4)[y]).sum()
    numerical = np.sign(oracles.numerical_gradient(loss, x))
    np.testing.assert_allclose(found, x + sign * 0.1 * numerical, atol=1e-6)
    # A softmax has other signs here.
    other = attacks.fgsm(lambda x: x @ jnp.float32(w), jnp.float32(x), y, eps=0.1)
    assert np.abs(found - other).max() > 0.1


def test_squared_error_has_the_values_and_the_gradient_of_the_shallow_net_thesis():
    # Sec. 2.4: outputs .989, .007 and .007 of a row of the first class; .011^2 + 2 * .007^2.
    outputs = np.array([[0.989, 0.007, 0.007]])
    logits = jnp.float32(np.log(outputs / (1 - outputs)))
    loss, y = losses.loss_fn("squared_error"), jnp.array([0])
    np.testing.assert_allclose(loss(logits, y), [2.19e-4], rtol=1e-4)
    slope = jax.grad(lambda z: loss(z, y).sum())(logits)
    error = outputs - [[1, 0, 0]]
    np.testing.assert_allclose(slope, 2 * error * outputs * (1 - outputs), rtol=1e-3)


def test_squared_error_of_classes_and_weights_equals_numpy():
    logits, y = random_rows()
    targets = np.random.default_rng(1).uniform(size=logits.shape).astype(np.float32)
    for labels, weights in ((y, np.eye(4)[y]), (targets, targets)):
        found = losses.squared_error(jnp.asarray(logits), jnp.asarray(labels))
        expected = np.square(oracles.sigmoid(np.float64(logits)) - weights).sum(axis=1)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_an_unknown_loss_is_refused_with_the_legal_ones():
    with pytest.raises(ValueError, match="loss must be one of binary_cross_entropy, cross"):
        losses.loss_fn("mse")


@pytest.mark.parametrize("name", losses.LOSSES)
@pytest.mark.parametrize(
    ("labels", "got"),
    [
        (jnp.zeros((6, 1), jnp.int32), "int32[6, 1]"),
        (jnp.zeros(6, jnp.float32), "float32[6]"),
        (jnp.zeros(5, jnp.int32), "int32[5]"),
        (jnp.zeros(1, jnp.int32), "int32[1]"),
        (jnp.zeros((1, 4), jnp.float32), "float32[1, 4]"),
        (jnp.zeros((6, 5), jnp.float32), "float32[6, 5]"),
        (jnp.zeros((6, 4), jnp.int32), "int32[6, 4]"),
        (jnp.zeros(6, bool), "bool[6]"),
    ],
)
def test_labels_of_another_shape_or_type_are_refused_compiled_or_not(name, labels, got):
    logits, loss = jnp.asarray(random_rows()[0]), losses.LOSSES[name]
    for call in (loss, jax.jit(loss)):
        with pytest.raises(ValueError) as error:
            call(logits, labels)
        assert str(error.value) == (
            "labels must be integers i32[B] or class weights f32[B, K] with B = 6, K = 4, "
            f"got {got}"
        )


@pytest.mark.parametrize("name", losses.LOSSES)
@pytest.mark.parametrize("label", [-1, 4])
def test_a_known_class_that_the_logits_do_not_have_is_refused(name, label):
    with pytest.raises(ValueError, match=f"^labels must be classes from 0 to 3, got {label}$"):
        losses.LOSSES[name](random_rows()[0], np.array([0, 1, 2, 3, 0, label]))


@pytest.mark.parametrize("name", losses.LOSSES)
@pytest.mark.parametrize("weight", [-5, np.nan, np.inf])
def test_a_known_weight_that_is_none_is_refused(name, weight):
    message = f"^labels must be finite weights of at least 0, got {float(weight)}$"
    with pytest.raises(ValueError, match=message):
        losses.LOSSES[name](jnp.zeros((1, 3)), np.array([[weight, 0, 0]], np.float32))


def test_log_odds_of_class_weights_are_those_of_the_most_probable_class():
    logits, y = random_rows()
    weights = np.where(np.eye(4)[y], 0.7, 0.1).astype(np.float32)
    found = losses.log_odds(np.float32(logits), weights)
    np.testing.assert_array_equal(found, losses.log_odds(np.float32(logits), y))


@pytest.mark.slow
@pytest.mark.parametrize("loss", losses.LOSSES.values())
def test_logits_of_one_row_are_refused(loss):
    with pytest.raises(ValueError, match=r"logits must be f32\[B, K\], got float32\[4\]"):
        loss(jnp.zeros(4, jnp.float32), jnp.zeros(4, int))


@pytest.mark.parametrize("name", losses.LOSSES)
@pytest.mark.parametrize("dtype", [np.uint8, np.int16])
def test_traced_labels_may_be_integers_of_any_width(name, dtype):
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)), jnp.float32)
    y = np.array([3, 0, 1])
    row_loss = losses.loss_fn(name)
    found = jax.jit(lambda y: row_loss(logits, y))(y.astype(dtype))
    np.testing.assert_allclose(found, row_loss(logits, y), rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("loss", [*losses.LOSSES.values(), losses.log_odds])
def test_logits_of_16_bits_have_the_losses_of_float32(loss, dtype):
    logits, y = random_rows()
    logits, weights = jnp.asarray(logits, dtype), jax.nn.softmax(jnp.asarray(logits, dtype))
    for labels in (jnp.asarray(y), weights):
        found = loss(logits, labels)
        assert found.dtype == jnp.float32
        fine = labels if labels.ndim == 1 else labels.astype(jnp.float32)
        np.testing.assert_array_equal(found, loss(logits.astype(jnp.float32), fine))
        total = lambda logits, labels: loss(logits, labels).sum()
        assert jax.grad(total)(logits, labels).dtype == dtype


@pytest.mark.parametrize("loss", [*losses.LOSSES.values(), losses.log_odds])
def test_numpy_logits_of_float64_have_the_losses_of_float32_without_a_warning(loss, recwarn):
    logits, y = random_rows()
    for labels in (y, np.eye(4, dtype=np.float32)[y]):
        found = loss(np.float64(logits), labels)
        np.testing.assert_array_equal(found, loss(logits, labels))
    assert not recwarn.list
