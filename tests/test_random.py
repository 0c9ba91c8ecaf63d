"""random: equal to jax.random in its older layout; normal numbers are standard normal."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.extend.random import threefry_2x32

from adv_jax.random import bernoulli, normal
from adv_jax.types import UserError


def reference(key, shape):
    with jax.threefry_partitionable(True):  # JAX's default
        return jax.random.normal(key, shape, jnp.float32)


@pytest.mark.slow
@settings(max_examples=10)
@given(
    shape=st.lists(st.integers(1, 9), max_size=3).map(tuple),
    seed=st.integers(0, 2**31 - 1),
)
def test_normal_of_every_shape_equals_jax_bit_for_bit(shape, seed):
    key = jax.random.key(seed)
    found = normal(key, shape)
    assert found.shape == shape and found.dtype == jnp.float32
    np.testing.assert_array_equal(found, reference(key, shape))


@pytest.mark.parametrize(
    "shape",
    [
        *((), (1,), (2,), (3,), (0, 3), (99_999, 3)),
        *(pytest.param(shape, marks=pytest.mark.slow) for shape in ((2, 100, 784), (60_001, 10))),
    ],
)
def test_normal_scalars_empty_odd_and_large_arrays_equal_jax_bit_for_bit(shape):
    key = jax.random.fold_in(jax.random.key(7), math.prod(shape))
    np.testing.assert_array_equal(normal(key, shape), reference(key, shape))


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.75, 1.0])
def test_bernoulli_masks_equal_jax_bit_for_bit(p):
    key, shape = jax.random.key(2), (40, 51)
    with jax.threefry_partitionable(True):
        expected = jax.random.bernoulli(key, jnp.float32(p), shape)
    found = bernoulli(key, p, shape)
    assert found.dtype == bool
    np.testing.assert_array_equal(found, expected)


@pytest.mark.slow
def test_normal_draws_the_same_numbers_compiled_and_inside_a_scan():
    key, shape = jax.random.key(3), (5, 201)
    expected = reference(key, shape)
    np.testing.assert_array_equal(jax.jit(partial(normal, shape=shape))(key), expected)
    keys = jax.random.split(key, 3)
    _, found = jax.lax.scan(lambda _, key: (None, normal(key, shape)), None, keys)
    for row, key in zip(found, keys, strict=True):
        np.testing.assert_array_equal(row, reference(key, shape))


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(), (4,), (3, 5)])
def test_normal_vmapped_over_keys_equals_single_draws(shape):
    keys = jax.random.split(jax.random.key(11), 6)
    found = jax.vmap(partial(normal, shape=shape))(keys)
    expected = np.stack([reference(key, shape) for key in keys])
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("block", [0, 3])
def test_parts_of_a_block_drawn_alone_are_those_of_one_draw(block):
    draw = partial(normal, jax.random.key(2), block=block)
    whole = draw((1000,))
    np.testing.assert_array_equal(draw((20, 30), start=0).ravel(), whole[:600])
    np.testing.assert_array_equal(draw((40, 10), start=600).ravel(), whole[600:])


def test_blocks_are_the_high_word_of_the_counter():
    # jax.random counts in 64 bits too, but reaches block 5 only after 2^34 numbers.
    counts = jnp.array([5] * 3 + [7, 8, 9], jnp.uint32)
    words = threefry_2x32(jax.random.key_data(jax.random.key(2)), counts)
    bits = words[:3] ^ words[3:]
    unit = np.asarray(jax.lax.bitcast_convert_type((bits >> 9) | 0x3F800000, jnp.float32)) - 1
    found = normal(jax.random.key(2), (3,), block=5, start=7)
    np.testing.assert_allclose(scipy.stats.norm.cdf(found), unit, atol=1e-5)


def test_normal_of_old_style_keys_equals_that_of_typed_keys():
    np.testing.assert_array_equal(
        normal(jax.random.PRNGKey(3), (7,)), normal(jax.random.key(3), (7,))
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_a_large_draw_is_standard_normal(seed):
    n = 200_001
    z = np.float64(normal(jax.random.key(seed), (n,)))
    # The standard errors of mean, variance and fourth moment are sqrt(1/n), sqrt(2/n), sqrt(96/n).
    assert abs(z.mean()) < 4 * np.sqrt(1 / n)
    assert abs(z.var() - 1) < 4 * np.sqrt(2 / n)
    assert abs((z**4).mean() - 3) < 4 * np.sqrt(96 / n)
    assert scipy.stats.kstest(z, "norm").pvalue > 1e-3
    assert np.isfinite(z).all()


def test_neighboring_numbers_and_both_halves_of_a_draw_are_uncorrelated():
    z = np.float64(normal(jax.random.key(5), (100_000,)))
    for distance in (1, 2, 50_000):
        assert abs(np.mean(z[:-distance] * z[distance:])) < 4 / np.sqrt(50_000)
    assert len(np.unique(z)) > 0.99 * len(z)  # 23 bits: a few of 100,000 numbers repeat.


@pytest.mark.parametrize("draw", [normal, lambda key, shape: bernoulli(key, 0.5, shape)])
def test_all_but_one_key_of_the_generator_are_refused(draw):
    others = jax.random.key(0, impl="rbg"), jax.random.split(jax.random.key(0), 3)
    for key in (*others, None, 0, "a"):
        with pytest.raises(UserError, match="^key must be one threefry key, got .*$"):
            draw(key, (3,))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"block": -1}, "block must be a number from 0 to 4294967295, got -1"),
        ({"block": 2**32}, "block must be a number from 0 to 4294967295, got 4294967296"),
        ({"start": -1}, "start must be a number from 0 to 4294967293, got -1"),
        ({"start": 2**32 - 1}, "start must be a number from 0 to 4294967293, got 4294967295"),
        (
            {"start": np.uint32(2**32 - 2)},
            "start must be a number from 0 to 4294967293, got 4294967294",
        ),
    ],
)
def test_numbers_beyond_a_block_are_refused(settings, message):
    with pytest.raises(UserError) as error:
        normal(jax.random.key(0), (3,), **settings)
    assert str(error.value) == message


def test_the_last_numbers_of_the_last_block_can_be_drawn():
    found = normal(jax.random.key(2), (3,), block=2**32 - 1, start=2**32 - 3)
    assert jnp.isfinite(found).all()
    traced = jax.jit(lambda *at: normal(jax.random.key(2), (3,), block=at[0], start=at[1]))
    np.testing.assert_array_equal(traced(*np.uint32([2**32 - 1, 2**32 - 3])), found)


@pytest.mark.parametrize("of", [jnp.int32, jnp.uint32, np.int64, np.uint8])
def test_block_and_start_may_be_integers_of_any_width(of):
    key = jax.random.key(2)
    expected = normal(key, (3,), block=5, start=7)
    np.testing.assert_array_equal(normal(key, (3,), block=of(5), start=of(7)), expected)


@pytest.mark.parametrize("p", [2, -1, float("nan"), np.float32(1.5)])
def test_a_known_probability_outside_0_to_1_is_refused(p):
    with pytest.raises(UserError, match="p must be a number from 0 to 1, got "):
        bernoulli(jax.random.key(0), p, (3,))
