"""Randomized smoothing of a half space, whose radius is known, and its confidence bound."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from adv_jax import evaluate
from adv_jax.evaluate.smoothing import lower_confidence_bound

W = np.array([0.6, -0.8], np.float32)  # of length 1


def half_space(x):
    """Class 0 where x . W > 0; the smoothed class changes at the distance |x . W|."""
    score = x @ W
    return jnp.stack([score, -score, score - 5], axis=1)


def smoothed(x, **options):
    settings = {"std": 0.5, "key": jax.random.key(0), "num_estimation": 1000} | options
    return evaluate.certify_smoothed(half_space, x, **settings)


@pytest.mark.slow
def test_the_radius_of_a_half_space_is_at_most_the_distance_and_near_it():
    distance = np.tile([0.0, 0.1, 0.3, 0.6, 5.0], 8) * np.repeat([1, -1], 20)
    x = np.float32(distance[:, None] * W)
    found = smoothed(x, num_estimation=5000)
    certified = found.label >= 0
    # alpha .001: each of the 40 rows may fail, with a probability of .04 for one or more.
    assert (found.radius <= abs(distance) + 1e-6).all()
    assert (found.label[certified] == (distance < 0)[certified]).all()
    assert not certified[distance == 0].any() and certified[abs(distance) > 0.2].all()
    # Seen with p = Phi(.6 / .5), whose bound with 5,000 trials is 3.1 standard errors below.
    p = stats.norm.cdf(1.2)
    near = 0.5 * stats.norm.ppf(p - 7 * np.sqrt(p * (1 - p) / 5000))
    assert (found.radius[abs(distance) == 0.6] > near).all()
    # All votes for one class: p = alpha^(1 / n).
    most = 0.5 * stats.norm.ppf(0.001 ** (1 / 5000))
    np.testing.assert_allclose(found.radius[abs(distance) == 5], most, rtol=1e-6)
    assert (found.radius[~certified] == 0).all()


def test_the_confidence_bound_is_that_of_scipy_and_covers_the_probability():
    counts = np.arange(51)
    bound = lower_confidence_bound(counts, 50, 0.05)
    expected = [
        stats.binomtest(int(k), 50, alternative="greater").proportion_ci(0.95, "exact").low
        for k in counts
    ]
    np.testing.assert_allclose(bound, expected, atol=1e-12)
    for p in (0.02, 0.5, 0.77, 0.99):
        exceeds = stats.binom.pmf(counts, 50, p)[bound > p].sum()
        assert exceeds <= 0.05


@pytest.mark.slow
def test_a_row_keeps_its_noise_in_other_batches():
    x = np.float32(np.linspace(-1, 1, 7)[:, None] * W)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(3), jnp.arange(7))
    whole, part = smoothed(x, key=jax.random.key(3)), smoothed(x[4:], key=keys[4:])
    for of_all, of_part in zip(whole, part, strict=True):
        np.testing.assert_array_equal(of_all[4:], of_part)


@pytest.mark.slow
def test_votes_are_those_of_the_noise_itself():
    x, key = np.float32([[0.1, 0.0]]), jax.random.key(1)
    found = smoothed(x, key=key, num_estimation=700, batch_size=300)
    key = jax.random.fold_in(jax.random.fold_in(key, 0), 1)
    of_copies = [jax.random.fold_in(key, i) for i in range(700)]
    noise = np.stack([jax.random.normal(one, (2,), jnp.float32) for one in of_copies])
    votes = ((x + 0.5 * noise) @ W > 0).sum()
    np.testing.assert_allclose(
        found.probability, stats.beta.ppf(0.001, votes, 700 - votes + 1), rtol=1e-9
    )
    # A copy keeps its noise in other batches.
    assert smoothed(x, key=jax.random.key(1), num_estimation=700, batch_size=7) == found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"std": 0.0}, "std must be a finite number above 0, got 0.0"),
        ({"std": 1e39}, "std must be from 1.2e-38 to 3.4e+38, got 1e+39"),
        ({"std": 1e-46}, "std must be from 1.2e-38 to 3.4e+38, got 1e-46"),
        ({"std": "1"}, "std must be a real number, got '1'"),
        ({"alpha": 1.0}, "alpha must be a number above 0 and below 1, got 1.0"),
        ({"num_selection": 0}, "num_selection must be a whole number of at least 1, got 0"),
        ({"num_estimation": 1.5}, "num_estimation must be a whole number of at least 1, got 1.5"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
        ({"key": None}, "key must be jax.random.key(seed) or one key per row, got None"),
        ({"x": np.ones((2, 3), int)}, "x must be a batch f32[B, *D] of floats, got int"),
        ({"logits_fn": lambda x: x[:, 0]}, "logits_fn must return logits f32[B, K] with B = 1"),
        (
            {"logits_fn": lambda x: jnp.log(x), "batch_size": 9},
            "logits_fn must return finite logits, got NaN or infinity for 1 of 1 rows of x under",
        ),
    ],
)
def test_smoothing_refuses_bad_arguments(change, message):
    arguments = {"logits_fn": half_space, "x": np.ones((1, 2), np.float32), "std": 1.0}
    arguments |= {"key": jax.random.key(0), "num_estimation": 10, "batch_size": 1, **change}
    logits_fn, x = arguments.pop("logits_fn"), arguments.pop("x")
    with pytest.raises(ValueError) as error:
        evaluate.certify_smoothed(logits_fn, x, **arguments)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)
