"""hoisted: the same function, without the operations that do not depend on x."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from adv_jax import attacks
from adv_jax.attacks._hoisting import hoisted

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(6, 5)), jnp.float32)
W = jnp.asarray(RNG.normal(size=(5, 4)), jnp.float32)
VARIANCE, BIAS = jnp.asarray(RNG.uniform(0.5, 2, (2, 1, 4)), jnp.float32)


def normalized(x, w=W):
    """Three operations that depend on x: product, scale and shift."""
    return x @ w.astype(jnp.bfloat16).astype(jnp.float32) * jax.lax.rsqrt(VARIANCE + 1e-5) + BIAS


def operations(fn, *args):
    """Returns the names of the operations of a function, those of jitted functions included."""

    def names(jaxpr):
        for eqn in jaxpr.eqns:
            if eqn.primitive.name in ("jit", "pjit"):
                yield from names(eqn.params["jaxpr"].jaxpr)
            else:
                yield eqn.primitive.name

    return [*names(jax.make_jaxpr(fn)(*args).jaxpr)]


FORMS = {"plain": normalized, "jitted": jax.jit(normalized), "partial": Partial(normalized)}


@pytest.mark.parametrize("form", FORMS)
def test_casts_and_roots_are_computed_once(form):
    before = operations(FORMS[form], X)
    assert {"convert_element_type", "rsqrt"} <= {*before}
    after = operations(hoisted(FORMS[form], X), X)
    assert {*after} == {"dot_general", "mul", "add"}


def test_values_and_derivatives_are_those_of_the_function():
    total = lambda fn: lambda x: jnp.sin(fn(x)).sum()
    found = jax.value_and_grad(total(hoisted(normalized, X)))(X)
    jax.tree.map(np.testing.assert_array_equal, found, jax.value_and_grad(total(normalized))(X))


def test_other_shapes_are_computed_as_a_whole():
    np.testing.assert_array_equal(hoisted(normalized, X)(X[:2]), normalized(X[:2]))


def test_the_derivative_by_the_weights_is_kept():
    total = lambda fn: lambda w: jnp.sin(fn(w)).sum()
    found = jax.grad(total(lambda w: hoisted(lambda x: normalized(x, w), X)(X)))(W)
    expected = jax.grad(total(lambda w: normalized(X, w)))(W)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_derivative_of_ones_own_is_kept():
    @jax.custom_vjp
    def clipped(x, w):
        return x @ w

    clipped.defvjp(lambda x, w: (x @ w, w), lambda w, g: (7 * g @ w.T, None))
    gradient = jax.grad(lambda x: hoisted(lambda x: clipped(x, 2 * W), X)(x).sum())(X)
    np.testing.assert_allclose(gradient, 7 * jnp.ones((6, 4)) @ (2 * W).T, rtol=1e-6)


def test_nothing_is_held_that_is_larger_than_what_it_comes_from():
    key = jax.random.key(0)

    def noisy(x):
        return x + jnp.tile(BIAS[:, :1], (6, 5)) + jax.random.normal(key, (6, 5))

    after = jax.make_jaxpr(hoisted(noisy, X))(X)
    held = [var.aval.size for var in after.jaxpr.constvars]
    assert max(held, default=0) <= 2
    np.testing.assert_array_equal(hoisted(noisy, X)(X), noisy(X))


def test_rows_beside_x_stay_with_it():
    shifted = Partial(lambda shift, x: x + jnp.exp(shift), X)
    some = jax.tree.map(lambda rows: rows[2:4], hoisted(shifted, X))
    np.testing.assert_array_equal(some(X[2:4]), X[2:4] + jnp.exp(X[2:4]))


def test_effects_stay(capfd):
    def printing(x):
        jax.debug.print("called")
        return 2 * x

    fn = hoisted(printing, X)
    fn(X)
    fn(X)
    jax.effects_barrier()
    assert capfd.readouterr().out.count("called") == 2


@pytest.mark.parametrize("attack", [attacks.pgd, attacks.apgd])
def test_the_loop_of_an_attack_is_without_them(attack):
    run = lambda x: attack(normalized, x, jnp.arange(6) % 4, eps=0.1, num_steps=3)
    loops = [eqn for eqn in jax.make_jaxpr(run)(X).jaxpr.eqns if eqn.primitive.name == "scan"]
    assert loops and not any("rsqrt" in f"{loop}" for loop in loops)
