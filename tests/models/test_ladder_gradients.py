"""Gradients of the cost of models.ladder, against differences of the NumPy version."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from ladders import (
    cost_and_gradient,
    fix_noise,
    nets,
    oracle_of,
    random_batch,
    random_variables,
    total_cost,
)

from adv_jax.models.ladder_layers import gauss


class FrozenTargets(oracles.Ladder):
    """A ladder with a stop-gradient on the clean pass: its z and moments are constants."""

    frozen = None

    def __call__(self, labeled, labels, unlabeled, noise, **kwargs):
        self.frozen = self.frozen or self.encode([labeled, unlabeled])
        return super().__call__(labeled, labels, unlabeled, noise, **kwargs)

    def target(self, clean, layer):
        return super().target(self.frozen, layer)


class FrozenStatistics(FrozenTargets):
    """A ladder that differentiates the targets, but not the statistics that renormalize z_hat."""

    def target(self, clean, layer):
        return oracles.Ladder.target(self, clean, layer)

    def __call__(self, *args, **kwargs):
        self.layer = self.top
        return super().__call__(*args, **kwargs)

    def renormalized(self, z_hat, clean_moments):
        layer, self.layer = self.layer, self.layer - 1
        return self.normalize(z_hat, self.frozen.moments[layer][1])


def numerical_gradients(kind, variables, batch, net, only=""):
    """d cost / d parameter, by central differences of the NumPy version: {name: f64[...]}.

    only: prefix of the parameters' names.
    """
    oracle = oracle_of(variables, net, kind)
    params = oracle.params
    total_cost(oracle, batch, net)  # What is frozen is frozen here.
    gradients = {}

    def gradient(name, holder, index):
        if not name.startswith(only):
            return

        def cost(value):
            before, holder[index] = holder[index], value
            result = total_cost(oracle, batch, net)
            holder[index] = before
            return result

        gradients[name] = oracles.numerical_gradient(cost, holder[index])

    for layer in range(1, net.top + 1):
        for name in ("W", "V", "beta"):
            if vars(params)[name][layer - 1] is not None:
                gradient(f"{name}{layer}", vars(params)[name], layer - 1)
    if net.scale_softmax:
        gradient("gamma", vars(params), "gamma")
    for layer, g in enumerate(params.g):
        for name in g or ():
            gradient(f"g{layer}.{name}", g, name)
    return gradients


@pytest.mark.slow
@nets("fc", slow=["small", "large-gamma"])
def test_gradients_flow_into_the_targets_and_their_statistics(x64, monkeypatch, net):
    variables, batch = random_variables(net), random_batch(net)
    fix_noise(monkeypatch, net)
    _, gradient = cost_and_gradient(net, variables, batch)
    found = {}
    for name, value in (gradient["encoder"] | gradient["decoder"]).items():
        if name.startswith("g") and isinstance(value, dict):
            found |= {f"{name}.{a}": g for a, g in value.items()}
        else:
            found[name] = value["kernel"] if isinstance(value, dict) else value
    expected = numerical_gradients(oracles.Ladder, variables, batch, net)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-6, err_msg=name)
    for frozen in (FrozenTargets, FrozenStatistics):
        for name, value in numerical_gradients(frozen, variables, batch, net, "W1").items():
            assert np.abs(value - found[name]).max() > 0.01 * np.abs(found[name]).max()


@pytest.mark.parametrize("rows", [1, 7])
def test_the_derivative_of_the_denoising_function_is_that_of_autodiff(x64, rows):
    rng = np.random.default_rng(0)
    z, u, t = rng.normal(size=(3, rows, 4))
    a = rng.normal(size=(10, 1, 4))

    def formula(z, u, *a):
        def line(c):  # c1 sigmoid(c2 u + c3) + c4 u + c5
            return c[0] / (1 + jnp.exp(-c[1] * u - c[2])) + c[3] * u + c[4]

        mu = line(a[:5])
        return (z - mu) * line(a[5:]) + mu

    def twice(fn):
        gradient = lambda *inputs: jax.vjp(fn, *inputs)[1](t)
        found, pull = jax.vjp(gradient, z, u, *a)
        return found, pull(found)

    for one, other in zip(
        jax.tree.leaves(twice(gauss)), jax.tree.leaves(twice(formula)), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)
