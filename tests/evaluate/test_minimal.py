"""minimal_eps against the exact distance to a linear boundary."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adv_jax import attacks, evaluate
from adv_jax.types import UserError

W, B = np.array([1.0, -2.0, 0.5], np.float32), np.float32(0.3)


def binary(x):
    score = x @ W + B
    return jnp.stack([score, -score], axis=1)


def test_sizes_under_l0_are_numbers_of_features():
    """By hand: the score, .7 and .3, falls by .4 with each feature that becomes 0."""
    x = np.array([[0.4, 0.4, 0.4, 0.4], [0.4, 0.4, 0.4, 0.0]], np.float32)
    logits_fn = lambda x: jnp.stack([x.sum(axis=1) - 0.9, jnp.zeros(len(x))], axis=1)
    attack = partial(attacks.pgd, norm="l0", num_steps=10, step_size=1.0)
    found = evaluate.minimal_eps(logits_fn, x, [0, 0], attack, high=4, bounds=(0, 1))
    np.testing.assert_array_equal(found, [2, 1])


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "order"), [("linf", 1), ("l2", 2), ("l1", np.inf)])
@pytest.mark.parametrize("batch_size", [500, 9])
def test_minimal_eps_finds_the_distance_to_the_boundary(norm, order, batch_size):
    x = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    score = np.float64(x) @ W + B
    y = (score < 0).astype(np.int32)
    y[:5] = 1 - y[:5]
    distance = np.abs(score) / np.linalg.norm(W, ord=order)
    high = float(np.quantile(distance, 0.7))
    expected = np.where(distance > high, np.inf, distance)
    expected[:5] = 0
    attack = partial(attacks.fgsm, norm=norm)
    found = evaluate.minimal_eps(
        binary, x, y, attack, high=high, num_steps=12, batch_size=batch_size
    )
    assert found.shape == (40,) and 5 < np.isinf(expected).sum() < 20
    np.testing.assert_allclose(found, expected, atol=high / 2**12 + 1e-6)
    # It does succeed there, rounding apart.
    finite = np.isfinite(expected) & (expected > 0)
    assert (found[finite] >= distance[finite] * (1 - 1e-5)).all()


@pytest.mark.slow
def test_minimal_eps_of_a_random_attack_keeps_the_noise_of_each_row():
    x = np.full((6, 3), 0.5, np.float32)  # score -.25 - .5 + ... = .05: the noise is decisive.
    y = np.asarray(np.argmax(binary(x), 1))
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(3), jnp.arange(6))
    noise = np.float64(jax.vmap(lambda key: jax.random.normal(key, (3,), jnp.float32))(keys))
    crossing = -(np.float64(x) @ W + B) / (noise @ W)  # std at which the score is 0
    expected = np.where((crossing > 0) & (crossing < 2), crossing, np.inf)
    assert 0 < np.isinf(expected).sum() < 6
    found = evaluate.minimal_eps(
        binary, x, y, attacks.gaussian_noise, high=2.0, key=jax.random.key(3), batch_size=4
    )
    np.testing.assert_allclose(found, expected, atol=2 / 2**12 + 1e-5)


@pytest.mark.slow
def test_minimal_eps_is_finer_with_more_steps_and_reports_each_step():
    x, y = np.array([[1.0, 0, 0]], np.float32), np.array([0])
    counted = []

    def progress(steps, description):
        counted.append((len(steps), description))
        return steps

    exact = 1.3 / 3.5
    for steps in (1, 4, 16):
        found = evaluate.minimal_eps(
            binary, x, y, attacks.fgsm, high=1.0, num_steps=steps, progress=progress
        )
        assert exact - 1e-6 <= found[0] <= exact + 2.0**-steps + 1e-6
    assert counted == [(steps, "bisection") for steps in (1, 4, 16)]


def one_column(logits_fn, x, y, *, eps, key=None):
    return x[:, :1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"high": -1.0}, "high must be a finite number above 0, got -1"),
        ({"high": 0}, "high must be a finite number above 0, got 0"),
        ({"high": 1e39}, "high must be a finite float32, got 1e+39"),
        ({"high": "1"}, "high must be a real number, got '1'"),
        ({"high": np.ones(2)}, "high must be a real number, got float64[2]"),
        ({"num_steps": 0}, "num_steps must be a whole number of at least 1, got 0"),
        ({"num_steps": 2.5}, "num_steps must be a whole number of at least 1, got 2.5"),
        (
            {"attack": one_column},
            "one_column must return an array of the shape of x",
        ),
        ({"y": np.array([0, 2])}, "y must be classes from 0 to 1, got 2"),
        ({"attack": partial(attacks.fgsm, eps=0.1)}, "fgsm must leave eps to the evaluation"),
    ],
)
def test_minimal_eps_refuses_bad_arguments(change, message):
    arguments = {"logits_fn": binary, "x": np.ones((2, 3), np.float32), "y": np.array([0, 1])}
    with pytest.raises(UserError) as error:
        evaluate.minimal_eps(**arguments | {"attack": attacks.fgsm, "high": 1.0, **change})
    assert str(error.value).startswith(message)
