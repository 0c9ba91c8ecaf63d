"""Noise attacks: their distributions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from adv_jax import attacks

N = 20_000


@pytest.fixture
def draw():
    """Returns a function: the noise on N rows of one entry, and on one row of N entries."""

    def draw(attack, **scale):
        rows, entries = jnp.zeros((N, 1)), jnp.zeros((1, N))
        across = attack(None, rows, None, key=jax.random.key(0), **scale)
        within = attack(None, entries, None, key=jax.random.key(0), **scale)
        return np.ravel(across), np.ravel(within)

    return draw


@pytest.mark.slow
def test_gaussian_noise_is_normal_with_the_given_standard_deviation(draw):
    for noise in draw(attacks.gaussian_noise, std=0.3):
        assert scipy.stats.kstest(noise / 0.3, "norm").pvalue > 1e-3


def test_sign_noise_is_plus_or_minus_eps_with_equal_odds(draw):
    for noise in draw(attacks.sign_noise, eps=0.5):
        assert set(noise) == {-0.5, 0.5}
        assert abs((noise > 0).mean() - 0.5) < 4 * 0.5 / np.sqrt(N)


def test_uniform_noise_is_uniform_from_minus_eps_to_eps(draw):
    for noise in draw(attacks.uniform_noise, eps=0.5):
        assert scipy.stats.kstest(noise + 0.5, "uniform").pvalue > 1e-3
