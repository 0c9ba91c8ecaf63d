"""rubbish: its distribution, which does not depend on x."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from adv_jax.attacks.rubbish import rubbish

N = 20_000


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(N,), (N, 1), (1, N)])
def test_rubbish_is_normal_around_zero_for_every_x(shape):
    x = jnp.full(shape, 5.0)
    noise = np.ravel(rubbish(None, x, None, std=0.3, key=jax.random.key(0)))
    assert scipy.stats.kstest(noise / 0.3, "norm").pvalue > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_bounds_clip_rubbish(dtype):
    x = jnp.ones((2, N // 2), dtype)
    noise = rubbish(None, x, None, bounds=(0.0, 1.0), key=jax.random.key(0))
    assert (noise.shape, noise.dtype) == (x.shape, dtype)
    assert (noise.min(), noise.max()) == (0, 1)
    # P(n <= 0) = .5 and P(n >= 1) = .1587 of a standard normal n, here with 4 deviations.
    assert abs(jnp.mean(noise == 0) - 0.5) < 4 * 0.5 / np.sqrt(N)
    above = float(scipy.stats.norm.sf(1))
    assert abs(jnp.mean(noise == 1) - above) < 4 * np.sqrt(above * (1 - above) / N)


def test_rubbish_takes_a_key_and_a_scale_for_each_row():
    x, keys = jnp.zeros((4, 3)), jax.random.split(jax.random.key(0), 4)
    std = jnp.array([0.0, 1.0, 2.0, 3.0])
    together = jax.jit(lambda std, keys: rubbish(None, x, None, std=std, key=keys))(std, keys)
    order = np.array([2, 0, 3, 1])
    permuted = rubbish(None, x, None, std=std[order], key=keys[order])
    np.testing.assert_allclose(permuted, together[order], atol=1e-6)
    np.testing.assert_array_equal(together[0], 0)
    with pytest.raises(ValueError, match="key"):
        rubbish(None, x, None, key=None)


def test_no_gradient_flows_through_rubbish():
    def total(x, std):
        return rubbish(None, x, None, std=std, key=jax.random.key(0)).sum()

    for gradient in jax.grad(total, argnums=(0, 1))(jnp.ones((2, 3)), 1.0):
        np.testing.assert_array_equal(gradient, 0)
