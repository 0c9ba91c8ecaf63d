"""conv: against SciPy in float64, and XLA's own convolution and its gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from marks import exhaustive_after

from adv_jax.convolution import conv, max_pool_2x2
from adv_jax.types import UserError

B, H, W, C, MAPS = 3, 7, 6, 3, 5
every_padding = pytest.mark.parametrize("padding", ["VALID", "SAME", "FULL"])


def draw(*shapes, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes]


def operands(size, dtype=np.float32):
    return draw((B, H, W, C), (*size, C, MAPS), dtype=dtype)


def xla_conv(x, kernel, padding):
    if padding == "FULL":
        padding = [(k - 1, k - 1) for k in kernel.shape[:2]]
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def value_and_gradients(function, x, kernel, g_of):
    """Its value and what it pulls a cotangent back to, compiled."""

    @jax.jit
    def both(x, kernel):
        y, pull_back = jax.vjp(function, x, kernel)
        return y, *pull_back(g_of(y))

    return both(x, kernel)


def ramp(y):
    """A cotangent of which no two entries are equal."""
    return jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)


@pytest.mark.parametrize("size", [(5, 5), (3, 1)])
@every_padding
def test_it_is_the_correlation_of_scipy(size, padding):
    x, kernel = (np.asarray(a) for a in operands(size))
    # One image, one channel and one map at a time.
    expected = [
        sum(
            scipy.signal.correlate(
                np.float64(x[b, :, :, c]), np.float64(kernel[:, :, c, o]), padding.lower()
            )
            for c in range(C)
        )
        for b in range(B)
        for o in range(MAPS)
    ]
    y = jax.jit(lambda x, kernel: conv(x, kernel, padding=padding))(x, kernel)
    expected = np.reshape(expected, (B, MAPS, *y.shape[1:3])).transpose(0, 2, 3, 1)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("batch", "padding"), exhaustive_after(3, [(1, "SAME"), (6, "FULL"), (7, "VALID"), (8, "SAME")])
)
@pytest.mark.parametrize(
    ("channels", "maps"), [(32, 32), (40, 33), (31, 32), (1, 32), (3, 40), (4, 32), (5, 32)]
)
def test_of_many_channels_value_and_gradients_equal_those_of_xla(
    x64, batch, padding, channels, maps
):
    x, kernel = draw((batch, 5, 6, channels), (3, 2, channels, maps), dtype=np.float64)
    found = value_and_gradients(lambda *a: conv(*a, padding=padding), x, kernel, ramp)
    expected = value_and_gradients(lambda *a: xla_conv(*a, padding), x, kernel, ramp)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("channels", "maps"), [(3, 5), (3, 32)])
@pytest.mark.parametrize("size", [(5, 4), (6, 6), (6, 1)])
def test_of_a_kernel_about_as_large_as_the_image_they_equal_those_of_xla(x64, size, channels, maps):
    x, kernel = draw((4, 6, 6, channels), (*size, channels, maps), dtype=np.float64)
    found = value_and_gradients(lambda *a: conv(*a, padding="VALID"), x, kernel, ramp)
    expected = value_and_gradients(lambda *a: xla_conv(*a, "VALID"), x, kernel, ramp)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("channels", [2, 32])
def test_of_many_channels_second_derivatives_are_those_of_xla(x64, channels):
    x, kernel = draw((3, 4, 4, channels), (3, 3, channels, 32), dtype=np.float64)

    def slope(conv):
        first = lambda x: jnp.sin(conv(x, kernel)).sum()
        return jax.jit(jax.grad(lambda x: (jax.grad(first)(x) ** 2).sum()))(x)

    found = slope(lambda x, kernel: conv(x, kernel, padding="VALID"))
    expected = slope(lambda x, kernel: xla_conv(x, kernel, "VALID"))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_a_1x1_convolution_on_a_gpu_equals_that_of_xla(x64, monkeypatch):
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *args, default, cpu: default(*args))
    x, kernel = operands((1, 1), np.float64)
    found = value_and_gradients(lambda *a: conv(*a, padding="SAME"), x, kernel, ramp)
    expected = value_and_gradients(lambda *a: xla_conv(*a, "SAME"), x, kernel, ramp)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(5, 5), (1, 1), (2, 4)])
@every_padding
def test_value_and_gradients_equal_those_of_xla_in_float64(x64, size, padding):
    x, kernel = operands(size, np.float64)
    found = value_and_gradients(lambda *a: conv(*a, padding=padding), x, kernel, ramp)
    expected = value_and_gradients(lambda *a: xla_conv(*a, padding), x, kernel, ramp)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == np.float64
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_in_float32_they_are_equal_to_rounding():
    x, kernel = draw((4, 12, 12, 20), (5, 5, 20, 50))
    found = value_and_gradients(lambda *a: conv(*a, padding="VALID"), x, kernel, ramp)
    expected = value_and_gradients(lambda *a: xla_conv(*a, "VALID"), x, kernel, ramp)
    # Each is a sum of at most 1,250 products of about 1: of length 35.
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == np.float32
        np.testing.assert_allclose(a, b, atol=35 * 1e-5)


def test_gradients_of_gradients_equal_those_of_xla(x64):
    x, kernel = operands((3, 2), np.float64)

    def second(function):
        loss = lambda x, kernel: jnp.sum(jnp.sin(function(x, kernel)))
        inner = lambda x, kernel: sum(
            jnp.vdot(ramp(g), g) for g in jax.grad(loss, argnums=(0, 1))(x, kernel)
        )
        return jax.jit(jax.grad(inner, argnums=(0, 1)))(x, kernel)

    found = second(lambda *a: conv(*a, padding="SAME"))
    expected = second(lambda *a: xla_conv(*a, "SAME"))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.slow
def test_vmapped_replicas_are_the_single_calls():
    x, kernel = draw((2, B, H, W, C), (2, 3, 3, C, MAPS))
    both = lambda x, kernel: value_and_gradients(
        lambda *a: conv(*a, padding="SAME"), x, kernel, ramp
    )
    for axes in [(0, 0), (None, 0), (0, None)]:
        operand = [a if axis == 0 else a[0] for a, axis in zip((x, kernel), axes, strict=True)]
        mapped = jax.vmap(both, axes)(*operand)
        for i in range(2):
            singly = both(
                *(a[i] if axis == 0 else a for a, axis in zip(operand, axes, strict=True))
            )
            for a, b in zip(mapped, singly, strict=True):
                np.testing.assert_allclose(a[i], b, rtol=1e-5, atol=1e-4)


def test_vmap_and_scan_over_cotangents_are_the_single_pull_backs():
    x, kernel = operands((3, 3))
    function = lambda x: max_pool_2x2(conv(x, kernel, padding="SAME"))
    pull_back = lambda g: jax.vjp(function, x)[1](g)[0]
    (cotangents,) = draw((4, B, H // 2, W // 2, MAPS), seed=1)
    singly = np.stack([jax.jit(pull_back)(g) for g in cotangents])
    for mapped in (jax.jit(jax.vmap(pull_back)), lambda gs: jax.lax.map(pull_back, gs)):
        np.testing.assert_allclose(mapped(cotangents), singly, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_bfloat16_is_kept_and_sums_are_finer():
    # Sums of ones in bfloat16 stop at 256; 600 and 250 are bfloat16 numbers.
    one = lambda *shape: jnp.ones(shape, jnp.bfloat16)
    both = lambda x, kernel: value_and_gradients(
        lambda *a: conv(*a, padding="VALID"), x, kernel, jnp.ones_like
    )
    y, _, by_kernel = both(one(6, 10, 10, 600), one(1, 1, 600, 1))
    np.testing.assert_array_equal(np.float32(y), 600)
    np.testing.assert_array_equal(np.float32(by_kernel), 600)
    _, by_x, _ = both(one(1, 9, 9, 1), one(5, 5, 1, 10))
    assert float(by_x[0, 4, 4, 0]) == 250
    y, _, by_kernel = both(one(6, 10, 10, 600), one(1, 1, 600, 32))
    np.testing.assert_array_equal(np.float32(y), 600)
    np.testing.assert_array_equal(np.float32(by_kernel), 600)
    assert y.dtype == by_kernel.dtype == by_x.dtype == jnp.bfloat16
    assert (
        conv(one(1, 3, 3, 1), jnp.ones((1, 1, 1, 1), jnp.float32), padding="SAME").dtype
        == jnp.float32
    )


@pytest.mark.parametrize(
    ("x", "kernel", "padding", "words"),
    [
        (
            (2, 8, 8, 3),
            (3, 3, 3, 4),
            "same",
            "padding must be one of VALID, SAME, FULL, got",
        ),
        ((8, 8, 3), (3, 3, 3, 4), "SAME", r"x must be f\[B, H, W, C\], got float32\[8, 8, 3\]"),
        (
            (2, 8, 8, 3),
            (3, 3, 4),
            "SAME",
            r"kernel must be f\[kh, kw, C, O\], got float32\[3, 3, 4\]",
        ),
        (
            (2, 8, 8, 3),
            (3, 3, 1, 4),
            "SAME",
            r"got float32\[3, 3, 1, 4\] and float32\[2, 8, 8, 3\]",
        ),
        ((2, 8, 8, 3), (3, 3, 3, 0), "SAME", "kernel must have no axis of size 0, got float32"),
        (
            (2, 8, 2, 3),
            (3, 3, 3, 4),
            "VALID",
            r"kernel must fit into images \(8, 2\), got",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_words(x, kernel, padding, words):
    with pytest.raises(ValueError, match=words):
        conv(jnp.zeros(x), jnp.zeros(kernel), padding=padding)


def test_lists_are_arrays_and_what_is_no_array_is_refused_in_one_line():
    x, kernel = np.ones((1, 4, 4, 1), np.float32), np.ones((3, 3, 1, 1), np.float32)
    found = conv(x.tolist(), kernel.tolist(), padding="VALID")
    np.testing.assert_array_equal(found, np.full((1, 2, 2, 1), 9))
    with pytest.raises(UserError, match=r"^kernel must be f\[kh, kw, C, O\], got None$"):
        conv(x, None, padding="VALID")
    with pytest.raises(UserError, match=r"^x must be f\[B, H, W, C\], got None$"):
        max_pool_2x2(None)


def test_integers_whose_products_would_round_are_refused():
    x, kernel = np.full((1, 3, 3, 1), 2**24 + 1), np.ones((3, 3, 1, 1), np.float32)
    with pytest.raises(UserError, match=r"^x must be f\[B, H, W, C\], got int64\[1, 3, 3, 1\]$"):
        conv(x, kernel, padding="VALID")
