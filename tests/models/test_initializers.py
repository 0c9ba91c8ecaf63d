"""models.initializers: the distributions of the weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from adv_jax.models import initializers

SHAPE = (300, 200)


def draw(init, shape=SHAPE, seed=0):
    return np.asarray(init(jax.random.key(seed), shape))


def test_sparse_gives_each_unit_exactly_fifteen_standard_normal_weights():
    weights = draw(initializers.sparse(15))
    np.testing.assert_array_equal((weights != 0).sum(axis=0), 15)
    assert scipy.stats.kstest(weights[weights != 0], "norm").pvalue > 1e-3


def test_sparse_chooses_inputs_uniformly_and_independently_for_each_unit():
    chosen = draw(initializers.sparse(15), (20, 4000)) != 0
    # Each input is taken by a share 15/20 of the units, each pair by 15/20 * 14/19. Given the
    # row sums, an input's count has variance 4000 * .75 * .25.
    counts = chosen.sum(axis=1)
    assert counts.sum() == 15 * 4000
    assert np.abs(counts - 3000).max() < 4.5 * np.sqrt(4000 * 0.75 * 0.25)
    pairs = np.float64(chosen) @ chosen.T
    pairs = pairs[~np.eye(20, dtype=bool)] / 4000
    share = 15 / 20 * 14 / 19
    assert np.abs(pairs - share).max() < 5 * np.sqrt(share * (1 - share) / 4000)
    assert not np.array_equal(chosen[:, 0], chosen[:, 1])


def test_sparse_with_every_input_is_dense_and_one_more_is_refused():
    assert (draw(initializers.sparse(4), (4, 5)) != 0).all()
    with pytest.raises(ValueError, match="connections must be 1 to 4, the number of inputs, got 5"):
        draw(initializers.sparse(5), (4, 5))
    with pytest.raises(ValueError, match="connections must be a whole number of at least 1, got 0"):
        initializers.sparse(0)


@pytest.mark.parametrize(
    ("init", "cdf"),
    [
        (initializers.gaussian(), scipy.stats.norm(0, 0.01).cdf),
        (initializers.gaussian(0.5), scipy.stats.norm(0, 0.5).cdf),
        (initializers.uniform(0.07), scipy.stats.uniform(-0.07, 0.14).cdf),
        # The ladder's: not truncated, variance 1 / 300.
        (initializers.fan_in(), scipy.stats.norm(0, 300**-0.5).cdf),
    ],
)
def test_dense_weights_have_the_named_distribution(init, cdf):
    weights = draw(init)
    assert scipy.stats.kstest(weights.ravel(), cdf).pvalue > 1e-3


def test_uniform_stays_within_the_scale_and_zero_is_zero():
    weights = draw(initializers.uniform(0.07))
    assert np.abs(weights).max() <= np.float32(0.07)
    np.testing.assert_array_equal(draw(initializers.zero()), 0)


@pytest.mark.parametrize("name", initializers.__all__)
@pytest.mark.parametrize("with_float64", [False, True])
def test_every_initializer_is_a_float32_function_of_the_key(name, with_float64):
    arguments = {"uniform": (0.07,)}.get(name, ())
    init = getattr(initializers, name)(*arguments)
    with jax.enable_x64(with_float64):
        weights = init(jax.random.key(1), SHAPE)
        compiled = jax.jit(init, static_argnums=1)(jax.random.key(1), SHAPE)
    assert weights.shape == SHAPE and weights.dtype == jnp.float32
    np.testing.assert_allclose(compiled, weights, rtol=1e-6)
    if name != "zero":
        assert not np.array_equal(init(jax.random.key(2), SHAPE), weights)
