"""Batch normalization in its forms for CPUs and for GPUs."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adv_jax.models import batch_norm
from adv_jax.models.batch_norm import EPS

RNG = np.random.default_rng(0)
FAR = RNG.normal(size=(5000, 3))
FAR[0] = 10  # in units of the standard deviation
CASES = {
    "normal": RNG.normal(size=(2, 100, 5)),
    "far from zero": 1e3 + RNG.normal(size=(1000, 3)),
    "first row far from the others": FAR,
    "constant": np.full((100, 3), 3.3),
}


@pytest.fixture(params=["cpu", "gpu"], autouse=True)
def _on(request, monkeypatch):
    """Takes the form of a platform, on a CPU."""
    if request.param == "gpu":
        monkeypatch.setattr(
            jax.lax, "platform_dependent", lambda *args, default, cpu: default(*args)
        )


@pytest.mark.parametrize("name", CASES)
def test_moments_are_those_in_double_precision(name):
    a = CASES[name].astype(np.float32)
    mean, var = batch_norm.batch_moments(jnp.asarray(a))
    exact, exact_var = np.float64(a).mean(-2, keepdims=True), np.float64(a).var(-2, keepdims=True)
    np.testing.assert_allclose(mean, exact, rtol=1e-6, atol=1e-4)
    np.testing.assert_allclose(var, exact_var, rtol=1e-3, atol=1e-9)


def test_derivatives_are_those_of_the_formula():
    a, g = (jnp.asarray(RNG.normal(size=(2, 9, 4)), jnp.float32) for _ in range(2))
    moments = tuple(jnp.asarray(RNG.uniform(0.5, 2, (2, 1, 4)), jnp.float32) for _ in range(2))
    by_formula = lambda a, mean, var: (a - mean) / jnp.sqrt(var + EPS)
    own = lambda a: by_formula(a, a.mean(-2, keepdims=True), a.var(-2, keepdims=True))
    found = jax.vjp(lambda a: batch_norm.batch_norm(a)[0], a)[1](g)
    np.testing.assert_allclose(found[0], jax.vjp(own, a)[1](g)[0], rtol=1e-4, atol=1e-5)
    found = jax.vjp(lambda a, *moments: batch_norm.normalize_by(a, moments), a, *moments)[1](g)
    expected = jax.vjp(by_formula, a, *moments)[1](g)
    for each, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(each, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("order", [1, 2])
def test_derivatives_of_the_scaled_form_are_those_of_the_formula_in_float64(order):
    shapes = [(9, 4), (4,), (4,), (9, 4), (1, 4), (1, 4)]

    def by_formula(a, scale, bias):
        mean, var = a.mean(0, keepdims=True), a.var(0, keepdims=True)
        return (a - mean) / jnp.sqrt(var + EPS) * scale[None] + bias[None], (mean, var)

    def pulled(fn, *args):
        (y, _), pull_back = jax.vjp(fn, *args)
        return pull_back((g * jnp.sin(y), tuple(by_moments)))

    def squares(fn, *args):
        return sum(jnp.sum(jnp.square(leaf)) for leaf in pulled(fn, *args))

    with jax.enable_x64(True):
        a, scale, bias, g, *by_moments = (jnp.asarray(RNG.normal(size=shape)) for shape in shapes)
        derivatives = pulled if order == 1 else jax.grad(squares, (1, 2, 3))
        of = lambda fn: jax.jit(partial(derivatives, fn))(a, scale, bias)
        own = of(lambda *args: batch_norm.scaled_batch_norm(*args, EPS))
        for found, expected in zip(own, of(by_formula), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9)


def test_derivatives_have_the_dtypes_of_what_they_are_of():
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        a, scale, bias = jnp.ones((3, 2), jnp.float64), *jnp.ones((2, 2), jnp.float32)
        total = lambda *args: batch_norm.scaled_batch_norm(*args, EPS)[0].sum()
        found = jax.eval_shape(jax.grad(total, (0, 1, 2)), a, scale, bias)
    assert [leaf.dtype for leaf in found] == [np.float64, np.float32, np.float32]


@pytest.mark.slow
def test_the_derivative_has_a_derivative():
    a, g = (jnp.asarray(RNG.normal(size=(9, 4)), jnp.float32) for _ in range(2))
    own = lambda a: (a - a.mean(0)[None]) / jnp.sqrt(a.var(0)[None] + EPS)
    squared = lambda fn: lambda a: jnp.sum(jax.vjp(fn, a)[1](g)[0] ** 2)
    found = jax.grad(squared(lambda a: batch_norm.batch_norm(a)[0]))(a)
    np.testing.assert_allclose(found, jax.grad(squared(own))(a), rtol=1e-3, atol=1e-4)
