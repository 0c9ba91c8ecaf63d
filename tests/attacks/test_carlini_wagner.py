"""carlini_wagner: margins, and Adam's first steps by hand. The distances: test_penalty.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adv_jax.attacks.carlini_wagner import carlini_wagner

BOUNDS = (-1.0, 1.0)
W = np.array([[1.0, -1.0], [2.0, 0.0], [-1.0, 1.0]])


def linear(x):
    return x @ jnp.asarray(W, x.dtype)


def test_carlini_wagner_exceeds_the_asked_confidence_by_little():
    # The logits differ by x @ [2, 2, -2], so that r must cross x @ [2, 2, -2] = -confidence, at
    # the distance (x @ [2, 2, -2] + confidence) / |[2, 2, -2]|.
    x = np.array([[0.3, 0.1, -0.1], [0.2, 0.2, 0.0], [0.1, 0.0, 0.2]], np.float32)
    confidence = np.array([0.0, 0.5, 1.0], np.float32)
    attack = jax.jit(
        lambda x, c: carlini_wagner(
            linear, x, jnp.zeros(3, int), bounds=BOUNDS, confidence=c, num_steps=200
        )
    )
    x_adv = np.float64(attack(x, confidence))
    height = np.array([2.0, 2.0, -2.0])
    assert np.all(-x_adv @ height > confidence)
    exact = (x @ height + confidence) / np.sqrt(12)
    reaches = np.linalg.norm(x_adv - x, axis=1)
    reached = x @ height > -confidence  # Row 2 is misclassified, but by less than 1.
    assert reached.all()
    np.testing.assert_allclose(reaches, exact, rtol=0.03)


@pytest.mark.slow
@pytest.mark.parametrize(("const", "moves"), [(10.0, True), (0.0, False)])
def test_one_step_of_carlini_wagner_equals_adam_behind_tanh_by_hand(const, moves):
    # With one gradient the only point looked at is x itself, with two also the one after Adam's
    # first step, which moves every w by the learning rate against the sign of its gradient.
    # There r = 0, so that only c * (the slope of the logits' difference) counts. A c of 0, which is
    # refused where it is known, is traced.
    x, rate = np.array([[0.01, 0.02, -0.03]], np.float32), 0.1
    options = {"bounds": BOUNDS, "search_steps": 1, "learning_rate": rate}

    def look(const, steps):
        given = options | {"num_steps": steps, "initial_const": const}
        return carlini_wagner(linear, x, np.array([0]), **given)

    looks = [jax.jit(look, static_argnums=1)(const, steps) for steps in (1, 2)]
    np.testing.assert_array_equal(looks[0], x)
    stepped = np.tanh(np.arctanh(x) - rate * np.sign([2, 2, -2]))
    np.testing.assert_allclose(looks[1], stepped if moves else x, atol=1e-5)


def test_carlini_wagner_moves_inputs_that_lie_on_the_bounds():
    x = jnp.array([[1.0, 1.0, -1.0]])
    x_adv = jax.jit(lambda x: carlini_wagner(linear, x, jnp.array([0]), bounds=BOUNDS))(x)
    # From the corner the way to x @ [2, 2, -2] = 0 is (1, 1, 1), of length sqrt(3).
    assert jnp.argmax(linear(x_adv), axis=1) == 1
    np.testing.assert_allclose(x_adv, 0, atol=0.1)
