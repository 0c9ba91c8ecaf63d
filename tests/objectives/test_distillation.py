"""objectives.distillation: losses and gradients at a temperature, by NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from linear_net import linear

from adv_jax import objectives
from adv_jax.types import UserError

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(6, 4)).astype("f"), RNG.integers(0, 3, size=6)
W, TEACHER = (RNG.normal(size=(4, 3)).astype("f") for _ in range(2))
BATCH = {"x": jnp.asarray(X), "y": jnp.asarray(Y)}


def teacher_fn(x):
    return x @ TEACHER


def distilled(w, temperature, teacher=teacher_fn):
    settings = {"teacher_fn": teacher, "temperature": temperature}
    return objectives.distillation(linear, {"params": w}, BATCH, key=KEY, **settings)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 20.0])
def test_distillation_equals_the_numpy_divergence_and_its_gradient(temperature):
    (value, (_, metrics)), gradient = jax.value_and_grad(distilled, has_aux=True)(
        jnp.asarray(W), temperature
    )
    p_teacher, p_student = (oracles.softmax(np.float64(X) @ w / temperature) for w in (TEACHER, W))
    expected = (p_teacher * np.log(p_teacher / p_student)).sum(axis=1).mean()
    assert float(value) == pytest.approx(expected, rel=1e-4)
    # By the student's logits it is (p_s - p_t) / T, and by w x' times that, over B.
    expected = X.T @ ((p_student - p_teacher) / temperature) / len(X)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)
    assert float(metrics["accuracy"]) == pytest.approx(((X @ W).argmax(axis=1) == Y).mean())


def test_distillation_is_zero_for_a_student_equal_to_the_teacher():
    value, gradient = jax.value_and_grad(lambda w: distilled(w, 5.0)[0])(jnp.asarray(TEACHER))
    assert float(value) == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(gradient, 0, atol=1e-7)


def test_a_teacher_of_numpy_gives_the_same_loss():
    batch = {"x": X, "y": Y}
    of_numpy = objectives.distillation(
        linear, {"params": W}, batch, key=KEY, teacher_fn=teacher_fn, temperature=2.0
    )
    np.testing.assert_allclose(of_numpy[0], distilled(jnp.asarray(W), 2.0)[0], rtol=1e-6)


def test_distillation_has_no_gradient_by_the_teacher():
    slope = jax.grad(lambda t: distilled(jnp.asarray(W), 2.0, lambda x: x @ t)[0])(TEACHER)
    np.testing.assert_array_equal(slope, 0)


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [1.0, 20.0])
def test_a_teacher_learns_the_labels_at_the_temperature(temperature):
    def loss(w):
        return objectives.tempered_cross_entropy(
            linear, {"params": w}, BATCH, key=KEY, temperature=temperature
        )

    (value, _), gradient = jax.value_and_grad(loss, has_aux=True)(jnp.asarray(W))
    logits = np.float64(X) @ W / temperature
    assert float(value) == pytest.approx(oracles.cross_entropies(logits, Y).mean(), rel=1e-5)
    expected = X.T @ (oracles.softmax(logits) - np.eye(3)[Y]) / temperature / len(X)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_a_temperature_that_is_not_positive_is_refused(temperature):
    message = f"temperature must be a finite number above 0, got {temperature}"
    with pytest.raises(ValueError, match=message):
        distilled(jnp.asarray(W), temperature)
    with pytest.raises(ValueError, match=message):
        objectives.tempered_cross_entropy(
            linear, {"params": W}, BATCH, key=KEY, temperature=temperature
        )


def test_a_teacher_of_other_classes_is_refused():
    with pytest.raises(ValueError, match=r"teacher_fn must have the student's 3 classes, got 2"):
        distilled(jnp.asarray(W), 1.0, lambda x: x[:, :2])


def test_a_teacher_that_returns_no_logits_is_refused():
    said = r"^teacher_fn must return logits .* got a tuple: return its logits alone$"
    with pytest.raises(UserError, match=said):
        distilled(jnp.asarray(W), 1.0, lambda x: (x, {}))
