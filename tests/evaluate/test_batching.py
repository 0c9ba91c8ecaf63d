"""over_rows and over_batches: every row counts once, whatever the batches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adv_jax.evaluate.batching import over_batches, over_rows
from adv_jax.step import over_devices

DEVICES = jax.local_device_count()

sizes = st.tuples(st.integers(1, 23), st.integers(1, 30))


def over_rows_on_devices(fn, arrays, **options):
    return over_batches(over_devices(fn), arrays, **options)


both = pytest.mark.parametrize("over", [over_rows, over_rows_on_devices])


@pytest.mark.slow
@both
@settings(max_examples=8)
@given(sizes=sizes, seed=st.integers(0, 1000))
def test_each_row_is_returned_once_and_in_order_for_any_batch_size(over, sizes, seed):
    size, batch_size = sizes
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(size, 3)).astype(np.float32)
    y = rng.integers(0, 4, size=size)

    def fn(x, y, key):
        assert len(x) <= batch_size and key is None
        y_ = y.astype(x.dtype)
        return {"product": x.sum(axis=1) * y_, "hit": y == 2, "curve": jnp.stack([x[:, 0], 2 * y_])}

    found = over(fn, (jnp.asarray(x), jnp.asarray(y), None), batch_size=batch_size)
    np.testing.assert_allclose(found["product"], np.float64(x).sum(axis=1) * y, atol=1e-5)
    np.testing.assert_array_equal(found["hit"], y == 2)
    np.testing.assert_allclose(found["curve"], [x[:, 0], 2.0 * y], rtol=1e-6)


@pytest.mark.parametrize(("size", "batch_size", "rows"), [(10, 6, 5), (9, 4, 3), (3, 500, 3)])
@pytest.mark.parametrize(
    ("over", "parts"), [(over_rows, 1), (over_rows_on_devices, DEVICES)], ids=["rows", "devices"]
)
def test_batches_have_one_size_and_the_least_padding(over, parts, size, batch_size, rows):
    shapes = set()

    def fn(x):
        shapes.add(x.shape)
        return x

    over(fn, (jnp.zeros((parts * size, 2, 2)),), batch_size=batch_size)
    assert shapes == {(rows, 2, 2)}


@both
def test_results_of_the_padding_rows_do_not_leak(over):
    def fn(x):
        # The filling repeats row 0, which otherwise stands first in the first batch.
        filling = (x == 0) & (jnp.arange(len(x)) > 0)
        return jnp.where(filling, jnp.nan, x)

    found = over(fn, (jnp.arange(7, dtype=jnp.float32),), batch_size=3)
    np.testing.assert_array_equal(found, np.arange(7))


@both
def test_each_row_keeps_the_key_given_for_the_row(over):
    keys = jax.random.split(jax.random.key(4), 5)
    found = over(jax.vmap(jax.random.normal), (keys,), batch_size=2)
    np.testing.assert_array_equal(found, [jax.random.normal(key) for key in keys])


def test_over_rows_compiled_and_vmapped_equals_a_plain_call():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32))
    scales = jnp.array([1.0, 2.0, -3.0])

    def rows(scale):
        return over_rows(lambda x: scale * x.sum(axis=1), (x,), batch_size=4)

    expected = np.float64(scales)[:, None] * np.float64(x).sum(axis=1)
    np.testing.assert_allclose(jax.jit(jax.vmap(rows))(scales), expected, rtol=1e-5)


def test_progress_wraps_the_batches_and_gets_the_description():
    seen = []

    def progress(batches, description):
        seen.append((description, len(batches)))
        yield from batches

    over_batches(
        lambda x: x,
        (jnp.zeros(7 * DEVICES),),
        batch_size=2,
        progress=progress,
        description="a pass",
    )
    assert seen == [("a pass", 4)]
