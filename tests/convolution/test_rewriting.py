"""fast_in_loops: values and derivatives of rewritten functions, and what compiles of them."""

import re
from functools import partial

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st
from jax.lax import ConvDimensionNumbers
from marks import exhaustive_after

from adv_jax import attacks
from adv_jax.convolution import fast_in_loops

X = jax.random.uniform(jax.random.key(0), (4, 12, 12, 3))
Y = jnp.array([0, 1, 2, 0])


@pytest.fixture(autouse=True)
def _promotion_of_other_libraries():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def derivatives(fn, *args):
    """The value of fn, its gradients, and the gradients of a function of those."""

    def first(*args):
        # Cotangents of which no two entries are equal.
        wave = lambda tree: sum(
            jnp.sum(leaf * jnp.cos(jnp.arange(leaf.size, dtype=leaf.dtype)).reshape(leaf.shape))
            for leaf in jax.tree.leaves(tree)
        )
        order = tuple(range(len(args)))
        gradients = jax.grad(lambda *args: wave(fn(*args)), order)(*args)
        return wave(jax.tree.map(jnp.sin, gradients)), gradients

    second = jax.grad(first, tuple(range(len(args))), has_aux=True)
    return jax.jit(lambda *args: (fn(*args), *second(*args)))(*args)


def assert_same(fn, *args, **tolerance):
    """fn and its rewritten form have the same value and derivatives of first and second order."""
    found, expected = derivatives(fast_in_loops(fn), *args), derivatives(fn, *args)
    jax.tree.map(partial(np.testing.assert_allclose, **tolerance), found, expected)


@st.composite
def convolutions(draw):
    """Operands' shapes and the parameters of any `conv_general_dilated`."""
    space = draw(st.integers(1, 3))
    every = lambda low, high: tuple(draw(st.integers(low, high)) for _ in range(space))
    groups, batch_groups = draw(st.sampled_from([(1, 1), (1, 1), (2, 1), (3, 1), (1, 2)]))
    kernel, strides = every(1, 3), every(1, 2)
    x_dilation, kernel_dilation = every(1, 2), every(1, 2)
    size = tuple(
        k * d + draw(st.integers(0, 3)) for k, d in zip(kernel, kernel_dilation, strict=True)
    )
    padding = tuple((draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in range(space))
    if draw(st.booleans()):  # The kind of `conv` itself.
        strides = x_dilation = kernel_dilation = (1,) * space
        groups = batch_groups = 1
    channels, maps = draw(st.integers(1, 3)) * groups, draw(st.integers(1, 3)) * groups
    maps *= batch_groups
    orders = [tuple(draw(st.permutations(range(space + 2)))) for _ in range(3)]
    placed = lambda order, sizes: tuple(n for _, n in sorted(zip(order, sizes, strict=True)))
    return (
        placed(orders[0], (2 * batch_groups, channels, *size)),
        placed(orders[1], (maps, channels // groups, *kernel)),
        {
            "window_strides": strides,
            "padding": padding,
            "lhs_dilation": x_dilation,
            "rhs_dilation": kernel_dilation,
            "dimension_numbers": ConvDimensionNumbers(*orders),
            "feature_group_count": groups,
            "batch_group_count": batch_groups,
        },
    )


@pytest.mark.slow
@given(convolutions())
def test_any_convolution_keeps_its_value_and_derivatives(drawn):
    x_shape, kernel_shape, params = drawn
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        x, kernel = (jnp.asarray(rng.normal(size=shape)) for shape in (x_shape, kernel_shape))
        assert_same(partial(jax.lax.conv_general_dilated, **params), x, kernel, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("window", "strides", "padding"),
    [
        ((1, 2, 2, 1), (1, 2, 2, 1), "VALID"),
        ((1, 1, 2, 2), (1, 1, 2, 2), "VALID"),
        ((1, 2, 1, 2), (1, 2, 1, 2), "VALID"),
        ((1, 3, 3, 1), (1, 2, 2, 1), "SAME"),
        ((1, 2, 2, 1), (1, 1, 1, 1), "VALID"),
        ((2, 2, 2, 1), (2, 2, 2, 1), "VALID"),
        ((1, 2, 2, 1), (1, 2, 2, 1), "SAME"),
    ],
)
def test_max_pooling_keeps_its_value_and_derivative_where_pixels_tie(window, strides, padding):
    x = jnp.float32(np.random.default_rng(0).integers(0, 3, size=(4, 6, 7, 6)))
    pool = lambda x: jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, strides, padding)
    pulled = lambda pool: jax.jit(lambda x: jax.vjp(pool, x)[1](jnp.sin(pool(x) + 1))[0])
    np.testing.assert_array_equal(fast_in_loops(pool)(x), pool(x))
    np.testing.assert_array_equal(pulled(fast_in_loops(pool))(x), pulled(pool)(x))


class Residual(nn.Module):
    """The parts of nets of today: strides, groups, normalization, a skip, average pooling."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(8, (3, 3), strides=2, padding="SAME")(x)
        skip = nn.Conv(8, (1, 1))(x)
        x = nn.BatchNorm(use_running_average=False)(nn.relu(x))
        x = nn.tanh(nn.Conv(8, (3, 3), feature_group_count=8, kernel_dilation=2)(x)) + skip
        x = nn.ConvTranspose(5, (3, 3), strides=(2, 2))(x)
        x = nn.avg_pool(nn.max_pool(x, (2, 2), (2, 2)), (2, 2), (2, 2))
        return nn.Dense(3)(x.reshape(len(x), -1))


class Scanned(nn.Module):
    """Blocks in `scan`, `checkpoint` and `jit`."""

    @nn.compact
    def __call__(self, x):
        block = nn.remat(lambda conv, x, _: (nn.tanh(conv(x)), None))
        scan = nn.scan(block, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
        x, _ = scan(nn.Conv(3, (3, 3), name="conv"), x, None)
        return nn.Dense(3)(nn.jit(nn.Conv)(2, (3, 3))(x).reshape(len(x), -1))


def linen(module):
    variables = module.init(jax.random.key(1), X)
    run = lambda x: module.apply(variables, x, mutable=["batch_stats"])[0]
    return run


def of_nnx():
    conv, dense = nnx.Conv(3, 4, (5, 5), rngs=nnx.Rngs(0)), nnx.Linear(576, 3, rngs=nnx.Rngs(1))
    return lambda x: dense(nnx.relu(conv(x)).reshape(len(x), -1))


def of_equinox():
    """One image, channels first, at a time, as Equinox has it."""
    keys = jax.random.split(jax.random.key(2), 2)
    conv, pool = eqx.nn.Conv2d(3, 4, 3, key=keys[0]), eqx.nn.MaxPool2d(2, 2)
    dense = eqx.nn.Linear(100, 3, key=keys[1])
    one = lambda x: dense(jax.nn.relu(pool(conv(jnp.transpose(x, (2, 0, 1))))).ravel())
    return jax.vmap(one)


def of_branches():
    """A convolution in each branch of a `cond`."""
    kernels = jax.random.normal(jax.random.key(3), (2, 3, 3, 3, 3)) / 300
    conv = lambda kernel: (
        lambda x: jax.lax.conv(
            x.transpose(0, 3, 1, 2), kernel.transpose(3, 2, 0, 1), (1, 1), "SAME"
        )
    )
    return lambda x: jax.lax.cond(x[0, 0, 0, 0] > 0.5, *map(conv, kernels), x).sum((2, 3))


NETS = {
    "residual": lambda: linen(Residual()),
    "equinox": of_equinox,
    "scanned": lambda: linen(Scanned()),
    "nnx": of_nnx,
    "branches": of_branches,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", exhaustive_after(2, NETS))
def test_nets_of_other_libraries_keep_their_logits_and_derivatives(name):
    assert_same(NETS[name](), X, rtol=2e-4, atol=2e-5)


@pytest.mark.slow
def test_gradients_reach_the_arrays_that_a_function_closes_over():
    kernel = jax.random.normal(jax.random.key(0), (3, 3, 3, 2))
    axes = ("NHWC", "HWIO", "NHWC")
    fn = lambda kernel: (
        lambda x: jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=axes)
    )
    expected = jax.grad(lambda kernel: jnp.sin(fn(kernel)(X)).sum())(kernel)
    found = jax.grad(lambda kernel: jnp.sin(fast_in_loops(fn(kernel))(X)).sum())(kernel)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_a_derivative_of_ones_own_is_left_alone():
    @jax.custom_vjp
    def straight(x):
        return nn.max_pool(x, (2, 2), (2, 2))

    straight.defvjp(lambda x: (straight(x), x), lambda x, g: (7 * jnp.ones_like(x),))
    found = jax.grad(lambda x: fast_in_loops(straight)(x).sum())(X)
    np.testing.assert_array_equal(found, jnp.full_like(X, 7))


def test_random_draws_stay_the_same():
    def dropped(x):
        key = jax.random.fold_in(jax.random.key(0), x.sum().astype(int))
        return jnp.where(jax.random.bernoulli(key, 0.5, x.shape), x, 0)

    np.testing.assert_array_equal(fast_in_loops(dropped)(X), dropped(X))


def test_trees_and_options_go_in_and_trees_come_out():
    fn = fast_in_loops(lambda tree, *, train: {"sum": tree["a"] + (2 if train else 0)})
    assert fn({"a": jnp.ones(2)}, train=True)["sum"].tolist() == [3, 3]


def layouts(compiled):
    """The layouts of the convolutions in a program with a loop, without XLA's slow pooling."""
    text = compiled.as_text()
    assert "while(" in text and "select-and-scatter" not in text
    return set(re.findall(r"dim_labels=(\S+?)[,\s]", text))


@pytest.mark.slow
@pytest.mark.parametrize("name", exhaustive_after(2, NETS))
def test_in_loops_attacks_run_convolutions_in_the_layout_that_xla_runs_fast(name):
    logits_fn = NETS[name]()

    def attack(x):
        return attacks.pgd(logits_fn, x, Y, eps=0.1, num_steps=3)

    assert layouts(jax.jit(attack).lower(X).compile()) <= {"b01f_01io->b01f"}


@pytest.mark.slow
@pytest.mark.parametrize("name", exhaustive_after(2, NETS))
def test_attacks_outside_jit_and_inside_equal_steps_by_hand(name):
    logits_fn = NETS[name]()

    @jax.jit
    def signs(x):
        log_p = lambda x: jax.nn.log_softmax(logits_fn(x))
        return jnp.sign(jax.grad(lambda x: -log_p(x)[jnp.arange(4), Y].sum())(x))

    expected = X + 0.1 * signs(X)
    for found in (
        attacks.fgsm(logits_fn, X, Y, eps=0.1),
        jax.jit(partial(attacks.fgsm, logits_fn, eps=0.1))(X, Y),
    ):
        close = np.isclose(found, expected, atol=1e-6)
        assert close.mean() > 0.999  # A gradient of 1e-9 may have either sign.
