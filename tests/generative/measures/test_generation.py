"""Measures of samples: against closed forms, SciPy and scikit-learn."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from adv_jax.generative.measures import collapse, coverage, diversity, frechet, nearest
from adv_jax.types import UserError

RNG = np.random.default_rng(0)


def with_moments(mean, covariance, count=50):
    """Rows with exactly these moments, the covariance unbiased."""
    rows = RNG.normal(size=(count, len(mean)))
    rows = rows - rows.mean(axis=0)
    whitened = rows @ np.linalg.inv(np.linalg.cholesky(np.cov(rows, rowvar=False))).T
    return mean + whitened @ np.linalg.cholesky(covariance).T


def covariance(size):
    factor = RNG.normal(size=(size, size))
    return factor @ factor.T + 0.1 * np.eye(size)


def test_the_frechet_distance_is_that_of_gaussians_with_the_same_moments():
    means, covariances = RNG.normal(size=(2, 6)), [covariance(6), covariance(6)]
    a, b = (with_moments(m, c) for m, c in zip(means, covariances, strict=True))
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    expected = ((means[0] - means[1]) ** 2).sum() + np.trace(sum(covariances) - 2 * root)
    assert frechet(a, b) == pytest.approx(expected, rel=1e-9)


@given(st.floats(-3, 3), st.floats(0.1, 3), st.floats(0.1, 3))
def test_the_frechet_distance_of_gaussians_of_commuting_covariances(shift, first, second):
    # |m|^2 + sum (s_1 - s_2)^2 for diagonal covariances s^2.
    a = with_moments(np.zeros(3), np.diag([first**2, 1, 4]))
    b = with_moments(np.array([shift, 0, 0]), np.diag([second**2, 1, 9]))
    assert frechet(a, b) == pytest.approx(shift**2 + (first - second) ** 2 + 1, abs=1e-8)
    assert frechet(b, a) == pytest.approx(frechet(a, b), abs=1e-8)


def test_the_frechet_distance_of_a_set_to_itself_is_0_even_with_constant_features():
    rows = np.concatenate([RNG.normal(size=(5, 20)), np.ones((5, 3))], axis=1)
    assert frechet(rows, rows) == pytest.approx(0, abs=1e-6)
    assert frechet(rows, rows + 2) == pytest.approx(4 * 23)


def test_the_score_is_exp_of_the_mutual_information_of_samples_and_classes():
    logits = RNG.normal(size=(200, 5))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = coverage(logits)
    divergence = (p * np.log(p / p.mean(axis=0))).sum(axis=1).mean()
    assert found.score == pytest.approx(np.exp(divergence))
    assert found.class_entropy - found.doubt == pytest.approx(divergence)


@pytest.mark.parametrize("classes", [1, 2, 7])
def test_sure_samples_of_equally_many_of_some_classes_have_their_number_as_score(classes):
    found = coverage(100 * np.eye(10)[np.arange(140) % classes])
    assert (found.modes, found.score) == (classes, pytest.approx(classes))
    assert found.class_entropy == pytest.approx(np.log(classes))
    assert found.doubt == pytest.approx(0, abs=1e-9)


def test_a_class_is_covered_from_a_tenth_of_its_even_share_on():
    y = np.array([0] * 190 + [1] * 100 + [2] * 10)
    assert coverage(9 * np.eye(3)[y]).modes == 3
    assert coverage(9 * np.eye(3)[np.append(y, [0] * 10)]).modes == 2
    assert coverage(9 * np.eye(128)[np.arange(640) % 128]).modes == 128


@pytest.mark.parametrize("classes", [3, 7, 11, 49])
@pytest.mark.parametrize("below", [0, 1])
def test_a_class_with_exactly_a_tenth_of_its_even_share_is_covered(classes, below):
    # 1 of 10 K samples, or of one more.
    rows = 10 * classes + below
    y = np.where(np.arange(rows) == 0, 1, 0)
    shares = [Fraction(int((y == label).sum()), rows) for label in range(classes)]
    expected = sum(share >= Fraction(1, 10 * classes) for share in shares)
    found = coverage(9 * np.eye(classes)[y])
    assert found.modes == expected == 2 - below
    lost = [sign.split()[0] for sign in collapse(diversity=1.0, coverage=found)]
    assert lost == ([str(classes - expected)] if classes > expected else [])


def test_lists_have_the_neighbors_and_the_diversity_of_arrays():
    samples, x = (RNG.normal(size=(n, 2, 3)).astype(np.float32) for n in (6, 9))
    away = np.linalg.norm((samples[:, None] - x[None]).reshape(6, 9, -1), axis=2)
    index, distance = nearest(samples.tolist(), x.tolist())
    np.testing.assert_array_equal(index, away.argmin(axis=1))
    np.testing.assert_allclose(distance, away.min(axis=1), rtol=1e-5)
    assert diversity(samples.tolist(), x.tolist()) == diversity(samples, x)


def test_integer_images_have_the_neighbors_of_floats():
    x = np.random.default_rng(0).integers(0, 256, (30, 20)).astype(np.uint8)
    rows, away = nearest(jnp.asarray(x), jnp.asarray(np.roll(x, 1, axis=0)))
    np.testing.assert_array_equal(rows, (np.arange(30) + 1) % 30)
    np.testing.assert_array_equal(away, 0)


@pytest.mark.slow
def test_the_nearest_rows_are_those_of_scikit_learn():
    samples, x = RNG.normal(size=(13, 2, 3)), RNG.normal(size=(40, 2, 3))
    expected = NearestNeighbors(n_neighbors=1).fit(x.reshape(40, -1))
    distances, rows = expected.kneighbors(samples.reshape(13, -1))
    index, distance = nearest(jnp.float32(samples), jnp.float32(x), batch_size=5)
    np.testing.assert_array_equal(index, rows[:, 0])
    np.testing.assert_allclose(distance, distances[:, 0], rtol=1e-5)


def test_neighbors_and_diversity_of_points_far_from_0_are_those_of_float64():
    samples, x = (np.float32(1000 + 0.01 * RNG.normal(size=(n, 3))) for n in (50, 200))
    away = np.linalg.norm(samples[:, None].astype(float) - x[None], axis=2)
    index, distance = nearest(jnp.asarray(samples), jnp.asarray(x))
    np.testing.assert_array_equal(index, away.argmin(1))
    np.testing.assert_allclose(distance, away.min(1), rtol=1e-5)
    near_0 = [jnp.asarray(rows - np.float32(1000)) for rows in (samples, x)]
    moved = diversity(jnp.asarray(samples), jnp.asarray(x))
    assert moved == pytest.approx(diversity(*near_0), rel=1e-5)


def test_neighbors_and_diversity_of_rows_with_a_wide_column_are_those_of_float64():
    # As incomes and ages: the square of an income has no digits left for that of an age.
    incomes = np.repeat(RNG.lognormal(11, 1, 50).round(), 2)
    x = np.float32(np.stack([incomes, RNG.permutation(100)], axis=1))
    away = np.linalg.norm(x[:, None].astype(float) - x[None], axis=2)
    index, distance = nearest(jnp.asarray(x), jnp.asarray(x))
    np.testing.assert_array_equal(index, np.arange(100))
    np.testing.assert_array_equal(distance, 0)
    np.fill_diagonal(away, np.inf)
    near = x * np.float32([1, 0.5])
    apart = np.linalg.norm(near[:, None].astype(float) - near[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    expected = np.median(apart.min(axis=1)) / np.median(away.min(axis=1))
    assert diversity(jnp.asarray(near), jnp.asarray(x)) == pytest.approx(expected, rel=1e-5)


def test_rows_of_two_precisions_are_compared_in_the_finer_one():
    with jax.enable_x64(True):
        x = RNG.normal(size=(5, 3))
        for samples, others in ((np.float32(x), x), (x, np.float32(x))):
            index, distance = nearest(jnp.asarray(samples), jnp.asarray(others))
            assert index.tolist() == [*range(5)] and distance.dtype == np.float64
            apart = np.linalg.norm(x - np.float32(x), axis=1)
            np.testing.assert_allclose(distance, apart, rtol=1e-6)


@pytest.mark.slow
def test_a_sample_that_repeats_a_row_far_from_0_has_the_distance_0():
    x = jnp.float32(1000 + RNG.normal(size=(5, 3)))
    np.testing.assert_array_equal(nearest(x[::-1], x)[1], 0)


@pytest.mark.slow
def test_diversity_compares_distances_to_the_nearest_other():
    x, samples = RNG.normal(size=(30, 4)), RNG.normal(size=(20, 4))

    def apart(rows):
        return np.median(NearestNeighbors(n_neighbors=2).fit(rows).kneighbors(rows)[0][:, 1])

    found = diversity(jnp.float32(samples), jnp.float32(x))
    assert found == pytest.approx(apart(samples) / apart(x), rel=1e-4)
    # Several modes that repeat are a collapse too.
    assert diversity(jnp.float32(x[np.arange(20) % 5]), jnp.float32(x)) == 0


def test_each_sign_of_a_collapse_is_told_and_a_good_generator_has_none():
    of_all, of_one = coverage(9 * np.eye(10)), coverage(9 * np.eye(10)[:1])
    good = {"diversity": 0.8, "fooled": 0.3, "coverage": of_all}
    assert collapse(**good) == [] == collapse(diversity=0.8)
    assert collapse(diversity=0.02, fooled=0.001, coverage=of_one) == [
        "samples repeat: their diversity is 0.02, below 0.1",
        "the discriminator has won: D(G(z)) is 0.001, below 0.01",
        "9 of 10 classes have less than 1 % of the samples",
    ]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: coverage(x[0]), r"logits must be f\[n, F\] with 1 rows or more, got float32\[3"),
        (lambda x: coverage(x.astype(complex)), r"logits must be .*, got complex64\[4, 3\]"),
        (lambda x: frechet([[1.0], [1.0, 2.0]], x), r"features must be f\[n, F\] .*, got \[\["),
        (lambda x: frechet(x[:1], x), r"features must be f\[n, F\] with 2 rows or more, got"),
        (lambda x: frechet(x, x[:, :2]), "others must have 3 features, as the first, got 2"),
        (lambda x: nearest(x, x[:, :2]), r"samples must be f\[n, \(2,\)\], as x is, got \(4, 3\)"),
        (lambda x: nearest(x, x[:0]), r"x must be a batch .* at least 1, got float32\[0, 3\]"),
        (lambda x: nearest(x[:0], x), r"samples must be a batch .* at least 1, got float32\[0, 3"),
        (lambda x: nearest(x.at[0].set(jnp.nan), x), "samples must be finite numbers, got nan"),
        (lambda x: coverage(x * jnp.nan), "logits must be finite numbers, got nan"),
        (lambda x: diversity(x, x), "x must be rows that mostly differ"),
        (
            lambda x: collapse(diversity=1.0, fooled=20),
            r"fooled must be a number from 0 to 1, got 20",
        ),
        (lambda x: nearest(x, x, batch_size=0), "batch_size must be a whole number of at least 1"),
        (lambda x: diversity(x, x[:, :2]), r"samples must be f\[n, \(2,\)\], as x is, got \(4, 3"),
        (lambda x: nearest(5.0, x), r"samples must be numbers f\[n, \*D\], got 5.0"),
        (lambda x: nearest(x, [[1.0], [1.0, 2.0]]), r"x must be numbers f\[n, \*D\], got \[\["),
        (lambda x: collapse(diversity=0.5, coverage=0.5), "coverage must be a Coverage, .*got 0.5"),
        (lambda x: diversity(x[:1], x), "samples and x must have two rows or more, got 1, 4"),
    ],
)
def test_bad_arguments_of_the_measures_are_refused(call, message):
    with pytest.raises(UserError, match=message):
        call(jnp.ones((4, 3)))
