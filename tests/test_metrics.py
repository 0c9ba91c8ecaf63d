"""mean_over_rows: every row counts once, whatever the batches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adv_jax.metrics import mean_over_rows

sizes = st.tuples(st.integers(1, 23), st.integers(1, 30))


@settings(max_examples=20)
@given(sizes=sizes, seed=st.integers(0, 1000))
def test_the_mean_counts_exactly_n_rows_whatever_the_batch_size(sizes, seed):
    size, batch_size = sizes
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(size, 3)).astype(np.float32)
    y = rng.integers(0, 4, size=size)

    def fn(x, y, key):
        assert x.shape == (batch_size, 3) and key is None
        return {"product": x.sum(axis=1) * y, "hit": y == 2, "curve": jnp.stack([x[:, 0], 2.0 * y])}

    found = mean_over_rows(fn, jnp.asarray(x), jnp.asarray(y), batch_size=batch_size)
    expected = {
        "product": (np.float64(x).sum(axis=1) * y).mean(),
        "hit": (y == 2).mean(),
        "curve": [x[:, 0].mean(dtype=np.float64), 2 * y.mean()],
    }
    assert found["curve"].shape == (2,)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6)


@settings(max_examples=20)
@given(sizes=sizes)
def test_a_count_of_rows_is_exactly_one(sizes):
    size, batch_size = sizes
    ones = mean_over_rows(lambda x, key: jnp.ones_like(x), jnp.zeros(size), batch_size=batch_size)
    assert float(ones) == 1


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -1e30])
@pytest.mark.parametrize(("size", "batch_size"), [(5, 8), (9, 4), (1, 3)])
def test_what_fn_gives_for_the_filling_does_not_leak(size, batch_size, garbage):
    def fn(x, key):
        # The filling repeats row 0, which otherwise stands first in the first batch.
        filling = (x == 0) & (jnp.arange(batch_size) > 0)
        return jnp.stack([jnp.where(filling, garbage, x), jnp.where(filling, garbage, 1.0)])

    found = mean_over_rows(fn, jnp.arange(size, dtype=jnp.float32), batch_size=batch_size)
    np.testing.assert_allclose(found, [(size - 1) / 2, 1], rtol=1e-6)


def test_a_nan_in_a_row_that_counts_is_seen():
    x = jnp.array([1.0, jnp.nan, 2.0])
    assert np.isnan(mean_over_rows(lambda x, key: x, x, batch_size=2))


def test_a_batch_has_the_key_of_its_number():
    key = jax.random.key(4)
    found = mean_over_rows(
        lambda x, key: jax.random.normal(key, x.shape), jnp.zeros(5), batch_size=2, key=key
    )
    draws = [jax.random.normal(jax.random.fold_in(key, i), (2,)) for i in range(3)]
    expected = np.float64(np.concatenate(draws)[:5]).mean()
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_compiled_and_vmapped_it_gives_the_same_means():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32))
    scales = jnp.array([1.0, 2.0, -3.0])

    def mean(scale):
        return mean_over_rows(lambda x, key: scale * x.sum(axis=1), x, batch_size=4)

    expected = np.float64(scales) * np.float64(x).sum(axis=1).mean()
    np.testing.assert_allclose(jax.jit(jax.vmap(mean))(scales), expected, rtol=1e-5)
