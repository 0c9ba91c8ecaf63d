"""The helpers that choose a class to reach."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from adv_jax.attacks.targets import least_likely, next_class, random_other
from adv_jax.types import UserError


def test_the_least_likely_class_has_the_smallest_logit():
    logits = np.random.default_rng(0).normal(size=(20, 7)).astype(np.float32)
    x = jnp.asarray(logits.reshape(20, 7, 1))
    np.testing.assert_array_equal(least_likely(lambda x: x[..., 0], x), logits.argmin(axis=1))


def test_the_least_likely_class_of_a_diverged_model_is_refused_where_its_logits_are_known():
    diverged = lambda x: x.at[1].set(jnp.nan)
    with pytest.raises(UserError, match="finite logits, got NaN or infinity for 1 of 3 rows of x$"):
        least_likely(diverged, jnp.ones((3, 2)))
    assert jax.jit(lambda x: least_likely(diverged, x))(jnp.ones((3, 2))).shape == (3,)


def test_the_next_class_wraps_around():
    np.testing.assert_array_equal(next_class(jnp.array([0, 2, 3]), 4), [1, 3, 0])


@pytest.mark.parametrize(
    ("dtype", "count"), [(np.int8, 128), (np.int8, 200), (np.uint8, 256), (np.uint16, 70_000)]
)
@pytest.mark.parametrize("array", [np.asarray, jnp.asarray, list])
def test_the_next_class_of_narrow_labels_does_not_overflow(dtype, count, array):
    y = np.array([0, np.iinfo(dtype).max], dtype)
    np.testing.assert_array_equal(next_class(array(y), count), (y.astype(np.int64) + 1) % count)
    if array is jnp.asarray:
        traced = jax.jit(lambda y: next_class(y, count))(array(y))
        np.testing.assert_array_equal(traced, (y.astype(np.int64) + 1) % count)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_random_other_of_narrow_labels_draws_each_of_more_classes_than_they_hold(dtype):
    y = np.full(40_000, 99, dtype)
    counts = np.bincount(random_other(y, 300, jax.random.key(0)), minlength=300)
    assert len(counts) == 300 and counts[99] == 0
    assert scipy.stats.chisquare(np.delete(counts, 99)).pvalue > 1e-3


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.array([1.5]), r"y must be classes i32\[B\], got float64\[1\]"),
        (np.array([7]), "y must be classes from 0 to 2, got 7"),
        ([-1], "y must be classes from 0 to 2, got -1"),
        (np.eye(3, dtype=int), r"y must be classes i32\[B\], got int64\[3, 3\]"),
        (None, r"y must be classes i32\[B\], got None"),
    ],
)
def test_labels_that_are_no_classes_have_no_other_class(y, message):
    for choose in (next_class, lambda y, count: random_other(y, count, jax.random.key(0))):
        with pytest.raises(UserError, match=f"^{message}$"):
            choose(y, 3)


@pytest.mark.slow
def test_random_other_draws_each_other_class_equally_often():
    y = jnp.repeat(jnp.arange(4), 3000)
    drawn = np.asarray(random_other(y, 4, jax.random.key(0)))
    for label in range(4):
        counts = np.bincount(drawn[np.asarray(y) == label], minlength=4)
        assert counts[label] == 0
        # 3000 draws of 1/3 each: 1000 with a standard deviation of sqrt(3000 * 1/3 * 2/3) = 25.8.
        assert np.all(np.abs(np.delete(counts, label) - 1000) < 4 * 25.8)


@pytest.mark.slow
def test_random_other_depends_on_the_key_of_the_row():
    y, keys = jnp.arange(20) % 5, jax.random.split(jax.random.key(1), 20)
    order = np.random.default_rng(0).permutation(20)
    drawn = random_other(y, 5, keys)
    np.testing.assert_array_equal(random_other(y[order], 5, keys[order]), drawn[order])


def test_targets_refuse_bad_arguments():
    with pytest.raises(ValueError, match="must be a whole number of at least 2, got 1"):
        random_other(jnp.zeros(3, int), 1, jax.random.key(0))
    with pytest.raises(ValueError, match="must be a whole number of at least 2, got 0"):
        next_class(jnp.zeros(3, int), 0)
    with pytest.raises(ValueError, match="must be a whole number of at least 2, got 2.5"):
        next_class(jnp.zeros(3, int), 2.5)
    with pytest.raises(UserError, match="^logits_fn must be a function of x alone .*[(]x, y[)]$"):
        least_likely(lambda x, y: x, jnp.zeros((3, 2)))
    with pytest.raises(UserError, match="^logits_fn must be a function of x alone, got a NoneT"):
        least_likely(None, jnp.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"logits f32\[B, K\] with B = 3, got float32\[3\]"):
        least_likely(lambda x: x[:, 0], jnp.zeros((3, 2), jnp.float32))


def test_the_next_class_of_one_label_is_that_of_its_row():
    y = jnp.array([3, 9])
    assert jax.vmap(lambda label: next_class(label, 10))(y).tolist() == [4, 0]
    assert next_class(np.uint8(255), 256) == 0
