"""fooling_images: against MAP-Elites in NumPy, its mutations against their distribution."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from compilations import counted

from adv_jax import attacks
from adv_jax.attacks.evolution import mutations
from adv_jax.types import UserError

RNG = np.random.default_rng(0)
SHAPE = (3, 4)
W = RNG.normal(size=(12, 5)).astype(np.float32)
KEY = jax.random.key(0)


def probs_fn(x):
    return jax.nn.softmax(x.reshape(len(x), -1) @ W)


def probabilities(x):
    """`probs_fn` in NumPy."""
    odds = np.exp(x.reshape(len(x), -1).astype(np.float64) @ W)
    return odds / odds.sum(axis=1, keepdims=True)


def map_elites(y, generations, offspring, bounds):
    """The champions by loops over targets and children, with the random draws of the key."""
    lo, hi = bounds
    like = jnp.zeros((offspring, *SHAPE))
    children = lo + (hi - lo) * np.asarray(
        jax.random.uniform(jax.random.fold_in(KEY, 0), like.shape)
    )
    images = [None] * len(y)
    fitness = [-np.inf] * len(y)
    for count in range(1, generations + 2):
        for child, probs in zip(children, probabilities(children), strict=True):
            for target, label in enumerate(y):
                if probs[label] > fitness[target]:
                    images[target], fitness[target] = child, probs[label]
        of_parents, of_mutations = jax.random.split(jax.random.fold_in(KEY, count))
        parents = np.asarray(jax.random.randint(of_parents, (offspring,), 0, len(y)))
        moves = np.asarray(mutations(of_mutations, like, 0.1, 15.0))
        children = np.stack([images[parent] for parent in parents]) + (hi - lo) * moves
        children = np.clip(children, lo, hi)
    return np.stack(images)


@pytest.mark.slow
def test_the_champions_are_those_of_map_elites_in_loops():
    y = np.array([3, 0, 3, 1])
    options = {"num_generations": 6, "num_offspring": 7, "bounds": (-1.0, 3.0)}
    found = attacks.fooling_images(probs_fn, SHAPE, y, key=KEY, **options)
    np.testing.assert_allclose(found, map_elites(y, 6, 7, (-1, 3)), atol=1e-5)


@pytest.mark.parametrize(("rate", "strength"), [(0.1, 15.0), (1.0, 2.0)])
def test_mutations_are_rare_and_of_the_polynomial_distribution(rate, strength):
    drawn = np.ravel(mutations(KEY, jnp.zeros((100, 400)), rate, strength))
    moved = drawn[drawn != 0]
    assert abs(len(moved) / drawn.size - rate) < 0.01

    def below(delta):
        half = 0.5 * (1 - np.abs(delta)) ** (strength + 1)
        return np.where(delta < 0, half, 1 - half)

    assert scipy.stats.kstest(moved, below).pvalue > 1e-3


@pytest.mark.slow
def test_every_class_gets_an_image_of_which_the_model_is_sure_and_no_noise_is():
    noise = RNG.uniform(size=(100, *SHAPE))
    y = jnp.arange(5)
    evolve = partial(attacks.fooling_images, probs_fn, SHAPE, y, key=KEY)
    few, many = (evolve(num_generations=count) for count in (5, 300))
    sure, before = (np.diag(probabilities(np.asarray(images))) for images in (many, few))
    # Elitism: with the same draws, more generations lower no probability.
    assert (sure >= before).all() and (sure > probabilities(noise).max(axis=0)).all()
    assert many.min() >= 0 and many.max() <= 1
    # The most probable image of a class in the box is found but for a tenth of its odds.
    corners = np.stack([(W - W.mean(axis=1, keepdims=True))[:, k] > 0 for k in range(5)])
    assert (sure > 0.9 * np.diag(probabilities(corners))).all()


@pytest.mark.slow
def test_an_image_of_which_the_model_says_nan_is_no_candidate():
    broken = lambda x: jnp.where(x[:, :1, 0] > 0.5, jnp.nan, probs_fn(x))
    found = attacks.fooling_images(broken, SHAPE, jnp.arange(5), key=KEY, num_generations=50)
    assert (found[:, 0, 0] <= 0.5).all()
    # Each champion is better than a random image.
    assert (
        np.diag(broken(found)) > np.asarray(probs_fn(RNG.uniform(size=(20, *SHAPE)))).mean(0)
    ).all()


def test_probabilities_of_logistic_outputs_whose_sum_is_not_1_are_taken():
    logistic = lambda x: jax.nn.sigmoid(x.reshape(len(x), -1) @ W)
    found = attacks.fooling_images(logistic, SHAPE, np.arange(5), key=KEY, num_generations=2)
    assert found.shape == (5, *SHAPE)


def test_a_legacy_key_draws_what_a_typed_one_does():
    evolve = partial(attacks.fooling_images, probs_fn, SHAPE, jnp.arange(2), num_generations=2)
    np.testing.assert_array_equal(evolve(key=jax.random.PRNGKey(0)), evolve(key=KEY))


def test_another_rate_strength_or_box_compiles_nothing():
    evolve = partial(attacks.fooling_images, probs_fn, SHAPE, jnp.arange(2), key=KEY)
    first = evolve(num_generations=2)
    with counted() as compiled:
        found = evolve(num_generations=2, rate=0.5, strength=3.0, bounds=(-1.0, 1.0))
    assert compiled == []
    assert not np.array_equal(found, first)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probs_fn": None}, "probs_fn must be a function of x alone, got a NoneType"),
        (
            {"probs_fn": lambda x: x},
            r"probs_fn must return probabilities f\[B, K\] with B = 100, got float32\[100, 3, 4\]",
        ),
        ({"y": np.array([0, 5])}, "y must be classes from 0 to 4, got 5"),
        ({"y": np.array([0.5])}, r"y must be targets i32\[T\], got"),
        ({"num_generations": 0}, "num_generations must be a whole number of at least 1, got 0"),
        ({"num_offspring": 0}, "num_offspring must be a whole number of at least 1, got 0"),
        ({"rate": 0.0}, r"rate must be a number above 0 and at most 1, got 0"),
        ({"strength": 0.0}, r"strength must be a finite number above 0, got 0"),
        ({"bounds": (0.0, np.inf)}, r"bounds must be a finite number, got inf"),
        ({"shape": 6}, "shape must be a tuple of whole numbers of at least 1, got 6"),
        ({"shape": (3, 0)}, r"shape must be a tuple of whole numbers of at least 1, got \(3, 0\)"),
        (
            {"probs_fn": lambda x: jnp.log(probs_fn(x)).at[:, 2].set(-jnp.inf)},
            "a number above -inf for some image, got none for the target 2",
        ),
        (
            {"probs_fn": lambda x: 100 + jnp.log(probs_fn(x))},
            "probs_fn must return probabilities from 0 to 1, got .* for the target 0: pass",
        ),
        (
            {"probs_fn": lambda x: jnp.log(probs_fn(x)) - 1},
            "probs_fn must return probabilities from 0 to 1, got -1.* for the target 0: pass",
        ),
        (
            {"probs_fn": lambda x: np.asarray(x).reshape(len(x), -1)},
            "probs_fn must be made of jax.numpy operations, .*: use jnp.where, or wrap NumPy",
        ),
        ({"bounds": None}, r"bounds must be finite \(lo, hi\), got None"),
        ({"key": None}, "key must be one key of jax.random, got None"),
        ({"key": 0}, "key must be one key of jax.random, got 0"),
    ],
)
def test_fooling_images_refuses_bad_arguments(change, message):
    given = {"probs_fn": probs_fn, "shape": SHAPE, "y": np.arange(5), "key": KEY}
    with pytest.raises(UserError, match=message) as caught:
        attacks.fooling_images(**given | change)
    assert "\n" not in str(caught.value)
