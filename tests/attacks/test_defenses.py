"""expectation (EOT) and straight_through (BPDA)."""

from functools import partial

import jax
import jax.numpy as jnp
import nets
import numpy as np
import pytest
import zoo
from attack_table import TABLE
from attack_table import run as run_row
from compilations import counted
from hypothesis import given, settings
from hypothesis import strategies as st
from marks import exhaustive_after

from adv_jax import attacks
from adv_jax.attacks.defenses import declared
from adv_jax.types import UserError

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.uniform(0.2, 0.8, (6, 2, 3)), jnp.float32)
Y = jnp.asarray(RNG.integers(0, 4, 6))
W = jnp.asarray(RNG.normal(size=(6, 4)), jnp.float32)
every_dtype = pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])


def noise(x, key):
    """Logits that are the draws alone."""
    return jnp.zeros((len(x), 4), x.dtype) + jax.random.normal(key, (1, 4), x.dtype)


def noisy(x, key):
    x = x * (1 + jax.random.normal(key, x.shape, x.dtype))
    return jnp.tanh(x.reshape(len(x), -1)) @ W


@pytest.mark.slow
def test_value_and_gradient_are_the_means_over_the_draws():
    draws = []

    def kept(x, key):
        jax.debug.callback(draws.append, jax.random.key_data(key))
        return noisy(x, key)

    def summed(fn, row):
        return fn(row).sum()

    logits_fn = attacks.expectation(kept, num_samples=3)
    gradient = jax.grad(partial(summed, logits_fn))(X[:1])
    jax.effects_barrier()
    keys = {tuple(map(int, np.ravel(draw))) for draw in draws}
    assert len(keys) == 3
    fixed = [
        partial(noisy, key=jax.random.wrap_key_data(jnp.asarray(key, jnp.uint32))) for key in keys
    ]
    np.testing.assert_allclose(logits_fn(X[:1]), np.mean([fn(X[:1]) for fn in fixed], 0), rtol=1e-5)
    expected = np.mean([jax.grad(partial(summed, fn))(X[:1]) for fn in fixed], 0)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)


@pytest.mark.slow
@every_dtype
def test_a_change_of_one_bit_gives_fresh_draws(dtype):
    x = X.astype(dtype)
    logits_fn = attacks.expectation(noise, num_samples=2)
    found = logits_fn(x)
    np.testing.assert_array_equal(found, logits_fn(x))
    changed = x.at[:, 1, 2].set(jnp.nextafter(x[:, 1, 2], jnp.ones_like(x[:, 1, 2])))
    # Two rows share a value of bfloat16 by chance, but not all four.
    assert (logits_fn(changed) != found).any(axis=1).all()
    assert len(np.unique(np.asarray(found, np.float64), axis=0)) == len(x)


def test_a_second_call_compiles_nothing():
    for factor in jnp.array([1.0, 2.0]):
        with counted() as compiled:
            attacks.expectation(lambda x, key, a=factor: noise(a * x, key), 3)(X.tolist())
    assert compiled == []


def test_other_seeds_give_other_draws():
    found = [attacks.expectation(noise, 1, seed=seed)(X) for seed in (0, 1)]
    assert (found[0] != found[1]).any(axis=1).all()


@pytest.mark.slow
@settings(max_examples=5)
@given(st.permutations(range(6)), st.integers(1, 6))
def test_the_draws_of_a_row_do_not_depend_on_its_place_or_on_other_rows(order, count):
    logits_fn = attacks.expectation(noisy, num_samples=2)
    rows = jnp.asarray(order[:count])
    np.testing.assert_allclose(logits_fn(X[rows]), logits_fn(X)[rows], rtol=1e-5, atol=1e-6)


def test_binary_rows_have_draws_of_their_own():
    x = np.unique(np.random.default_rng(0).integers(0, 2, (1000, 54)), axis=0)
    one = lambda x, key: jax.random.normal(key, (1, 1)) + 0 * x[:, :1]
    found = attacks.expectation(one, 1)(jnp.asarray(x, jnp.float32))
    assert len(np.unique(found)) >= 998  # Of 2^23 values, two of 1,000 are equal in 6 of 100 cases.


def test_the_mean_of_many_draws_tends_to_the_expectation():
    # E cos(a + n) = cos(a) exp(-1/2) for a standard normal n; the deviation is .5 / 100.
    cosine = lambda x, key: jnp.cos(x + jax.random.normal(key, x.shape))
    x = jnp.array([[0.0, 1.0], [2.0, 3.0]])
    found = attacks.expectation(cosine, num_samples=10_000)(x)
    np.testing.assert_allclose(found, np.cos(x) * np.exp(-0.5), atol=0.03)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: attacks.expectation(noise, 0), "num_samples must be a whole number .* got 0$"),
        (
            lambda: attacks.expectation(noise, 1, seed="a"),
            "seed must be a whole number from -2147483648 to 2147483647, got 'a'$",
        ),
        (
            lambda: attacks.expectation(noise, 1, seed=2**32),
            "seed must be a whole number from -2147483648 to 2147483647, got 4294967296$",
        ),
        (lambda: attacks.expectation(None, 1), "stochastic_fn must be a function, got None$"),
        (
            lambda: attacks.expectation(lambda x: x, 1),
            r"stochastic_fn must be a function of \(x, key\) or \(x, aux, key\), got one of \(x\)$",
        ),
        (
            lambda: attacks.expectation(lambda x, *, key: x, 1),
            r"stochastic_fn must be a function of .*, got one of \(x, \*, key\)$",
        ),
        (
            lambda: attacks.expectation(noise, 1)(X, X),
            r"stochastic_fn must be a function of \(x, aux, key\), got one of \(x, key\)$",
        ),
        (
            lambda: attacks.fgsm(attacks.expectation(lambda x, aux, key: x, 1), X, Y, eps=0.1),
            r"stochastic_fn must be a function of \(x, key\), got one of \(x, aux, key\)$",
        ),
        *(
            (
                lambda of=of: attacks.expectation(lambda x, key: of(x), 2)(X),
                rf"stochastic_fn must return logits f\[1, K\], got {found}$",
            )
            for of, found in (
                (lambda x: {"logits": x}, r"{logits: float32\[1, 2, 3\]}"),
                (lambda x: (x,), r"\(float32\[1, 2, 3\],\)"),
                (lambda x: x[0], r"float32\[2, 3\]"),
            )
        ),
        (lambda: attacks.straight_through(jnp.round, 3), "backward must be a function, got 3$"),
        (
            lambda: attacks.straight_through(lambda x, y: x),
            r"preprocess must be a function of \(x\), got one of \(x, y\)$",
        ),
        (
            lambda: attacks.straight_through(jnp.round, lambda x, y: x),
            r"backward must be a function of \(x\), got one of \(x, y\)$",
        ),
    ],
)
def test_bad_arguments_of_the_wrappers_are_refused_in_one_line(call, message):
    with pytest.raises(UserError, match=f"^{message}"):
        call()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    exhaustive_after(1, ["pgd-linf", "square-linf", "deepfool-l2", "auto_attack", "fab-linf"]),
)
def test_an_attack_of_an_expectation_treats_rows_independently(name):
    logits_fn = attacks.expectation(noisy, num_samples=2)
    keys = jax.random.split(jax.random.key(0), 6)

    @jax.jit
    def run(x, y, keys):
        return run_row(TABLE[name], x, y, 0.1, logits_fn=logits_fn, keys=keys)

    order = jnp.array([3, 1, 5, 0, 2, 4])
    found = run(X[order], Y[order], keys[order])
    np.testing.assert_allclose(found, run(X, Y, keys)[order], atol=1e-5)


def test_straight_through_has_the_value_of_one_function_and_the_derivative_of_the_other():
    defended = attacks.straight_through(jnp.sign, jnp.sin)
    np.testing.assert_array_equal(defended(X), jnp.ones_like(X))
    found = jax.grad(lambda x: (defended(x) * jnp.arange(3.0)[None, None]).sum())(X)
    np.testing.assert_allclose(found, np.cos(X) * np.arange(3.0), rtol=1e-5)
    assert (jax.jit(jax.vmap(defended))(X) == 1).all()


def test_a_backward_of_another_shape_is_refused():
    defended = attacks.straight_through(lambda x: x[:, :1], lambda x: x)
    with pytest.raises(UserError, match="^backward must return the shape of preprocess, float32"):
        jax.grad(lambda x: defended(x).sum())(X)


def test_a_preprocessing_step_to_integers_has_no_gradient_and_is_refused():
    defended = attacks.straight_through(lambda x: jnp.round(x).astype(jnp.uint8))
    with pytest.raises(UserError, match="^preprocess must return floats, got uint8"):
        jax.grad(lambda x: defended(x).astype(float).sum())(X)


def test_a_compiled_model_is_not_confused_with_the_one_of_the_audit():
    defended = jax.jit(attacks.straight_through(jnp.sign, jnp.sin))
    with declared(True):
        np.testing.assert_allclose(defended(X), np.sin(X), rtol=1e-6)
    np.testing.assert_array_equal(defended(X), jnp.ones_like(X))


@pytest.mark.slow
def test_bpda_finds_more_on_a_net_behind_8_levels_than_pgd_without():
    net, levels = zoo.honest("relu"), zoo.in_levels(8)
    x, y = (array[:200] for array in nets.digits())
    model = lambda x: net(levels(x))
    declared_model = lambda x: net(attacks.straight_through(levels)(x))
    run = partial(attacks.pgd, eps=0.1, num_steps=10, bounds=nets.BOUNDS)
    # Without a derivative PGD stays at x, or at its random start.
    key = jax.random.key(0)
    plain, bpda = (
        nets.accuracy(model, run(fn, x, y, key=key), y) for fn in (model, declared_model)
    )
    assert bpda < plain - 0.3


@pytest.mark.slow
def test_an_expectation_takes_side_inputs_of_the_rows():
    x, aux = jnp.arange(6.0).reshape(3, 2), jnp.array([[1.0], [10.0], [100.0]])
    logits_fn = attacks.expectation(lambda x, aux, key: aux * x, num_samples=2)
    np.testing.assert_array_equal(logits_fn(x, aux), aux * x)
    found = attacks.fgsm(logits_fn, x, jnp.array([0, 0, 0]), eps=0.5, aux=aux)
    np.testing.assert_array_equal(found, x + jnp.array([[-0.5, 0.5]]))
