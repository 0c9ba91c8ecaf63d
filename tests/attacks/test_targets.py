"""The helpers that choose a class to reach."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adv_jax.attacks.targets import least_likely, next_class, random_other


def test_the_least_likely_class_has_the_smallest_logit():
    logits = np.random.default_rng(0).normal(size=(20, 7)).astype(np.float32)
    x = jnp.asarray(logits.reshape(20, 7, 1))
    np.testing.assert_array_equal(least_likely(lambda x: x[..., 0], x), logits.argmin(axis=1))


def test_the_next_class_wraps_around():
    np.testing.assert_array_equal(next_class(jnp.array([0, 2, 3]), 4), [1, 3, 0])


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
    with pytest.raises(ValueError, match=r"logits f32\[B, K\] with B = 3, got float32\[3\]"):
        least_likely(lambda x: x[:, 0], jnp.zeros((3, 2), jnp.float32))
