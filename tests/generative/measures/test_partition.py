"""log Z: exact sums against NumPy and integrals, and annealed importance sampling against them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import slow_after
from scipy.special import logsumexp

from adv_jax import generative
from adv_jax.generative import boltzmann
from adv_jax.generative.boltzmann import ODD, Machine
from adv_jax.types import UserError

KEY = jax.random.key(3)
BETAS = jnp.linspace(0, 1, 201)


def machine_of(sizes, visible="binary", scale=1.0):
    rng = np.random.default_rng(1)
    normal = lambda *shape: jnp.asarray(scale * rng.normal(size=shape), jnp.float32)
    kernels = tuple(normal(a, b) for a, b in itertools.pairwise(sizes))
    return Machine(normal(sizes[0]), kernels, tuple(map(normal, sizes[1:])), visible=visible)


def states(count):
    return np.array(list(itertools.product([0, 1], repeat=count)), np.float32)


def exact(machine):
    """log Z by the energy of every state of a binary machine."""
    sizes = [len(machine.visible_bias), *map(len, machine.biases)]
    layers = np.split(states(sum(sizes)), np.cumsum(sizes)[:-1], axis=1)
    energies = boltzmann.energy(machine, tuple(layers[::2]), tuple(layers[1::2]))
    return logsumexp(-np.float64(energies))


@pytest.mark.parametrize(
    "sizes", [(4, 3), *(pytest.param(more, marks=pytest.mark.slow) for more in ((3, 5), (2, 4, 3)))]
)
def test_the_exact_sum_over_one_side_is_that_over_all_states(sizes):
    machine = machine_of(sizes)
    np.testing.assert_allclose(
        generative.measures.log_partition(machine), exact(machine), rtol=1e-6
    )


@pytest.mark.slow
def test_the_sum_over_blocks_of_states_is_that_over_all():
    machine = machine_of((20, 14), scale=0.3)
    energies = boltzmann.free_energy(machine, (jnp.asarray(states(14)),), ODD)
    np.testing.assert_allclose(
        generative.measures.log_partition(machine), logsumexp(-np.float64(energies)), rtol=1e-6
    )


def test_a_gaussian_machine_without_connections_has_a_known_partition_function():
    machine = machine_of((3, 2), visible="gaussian")
    machine = machine.replace(kernels=(jnp.zeros((3, 2)),))
    expected = 1.5 * np.log(2 * np.pi) + np.logaddexp(0, np.float64(machine.biases[0])).sum()
    np.testing.assert_allclose(generative.measures.log_partition(machine), expected, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sizes", "visible"),
    slow_after(1, [((6, 4), "binary"), ((5, 4, 3), "binary"), ((3, 4), "gaussian")]),
)
def test_annealed_importance_sampling_finds_the_exact_value_within_its_error(sizes, visible):
    machine = machine_of(sizes, visible)
    found = generative.measures.annealed_log_partition(machine, BETAS, key=KEY, num_chains=500)
    assert 0 < found.standard_error < 0.2
    assert abs(found.value - generative.measures.log_partition(machine)) < 3 * found.standard_error


@pytest.mark.slow
def test_the_base_has_any_biases_of_the_even_layers():
    machine = machine_of((5, 4, 3))
    expected = generative.measures.log_partition(machine)
    for scale in (0.0, 1.0, 2.0):
        biases = (jnp.full(5, scale), jnp.full(3, -scale))
        settings = {"key": KEY, "num_chains": 500, "base_biases": biases}
        found = generative.measures.annealed_log_partition(machine, BETAS, **settings)
        assert abs(found.value - expected) < 3 * found.standard_error < 0.3


@pytest.mark.slow
def test_a_machine_without_connections_needs_no_annealing():
    machine = machine_of((4, 3, 2))
    kernels = tuple(map(jnp.zeros_like, machine.kernels))
    machine = machine.replace(kernels=kernels, biases=(jnp.zeros(3), machine.biases[1]))
    found = generative.measures.annealed_log_partition(machine, jnp.array([0.0, 1.0]), key=KEY)
    np.testing.assert_allclose(found.value, exact(machine), rtol=1e-6)
    assert found.standard_error < 1e-6


@pytest.mark.slow
def test_the_standard_error_is_the_spread_of_repeated_estimates():
    machine, keys = machine_of((6, 4)), jax.random.split(KEY, 60)
    betas = jnp.linspace(0, 1, 21)
    of_key = lambda key: generative.measures.annealed_log_partition(
        machine, betas, key=key, num_chains=200
    )
    found = jax.jit(jax.vmap(of_key))(keys)
    # The spread of 60 estimates has a relative error of 1 / sqrt(118).
    spread = float(np.std(found.value, ddof=1))
    assert spread == pytest.approx(float(np.mean(found.standard_error)), rel=0.3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"betas": "ab"}, r"betas must be f\[T \+ 1\] with T at least 1, got 'ab'"),
        ({"betas": jnp.array([0.0, 0.5])}, "betas must rise from 0 to 1, got \\[0.0, 0.5\\]"),
        ({"betas": jnp.array([0.0, 0.7, 0.3, 1.0])}, "betas must rise from 0 to 1"),
        (
            {"betas": [0.0, float("nan"), 1.0]},
            r"betas must rise from 0 to 1, got \[0.0, nan, 1.0\]",
        ),
        ({"betas": jnp.zeros(1)}, r"betas must be f\[T \+ 1\] with T at least 1, got float32\[1\]"),
        ({"num_chains": 1}, "num_chains must be at least 2 for a standard error, got 1"),
        (
            {"base_biases": (jnp.zeros(4), jnp.zeros(3))},
            r"base_biases must be \(f\[4\]\), one for each even layer, got \(float32\[4\], ",
        ),
        ({"base_biases": jnp.zeros(4)}, r"base_biases must be \(f\[4\]\), .* got float32\[4\]"),
        ({"key": 0}, "key must be one key of jax.random, got 0"),
    ],
)
def test_a_wrong_argument_is_refused(arguments, message):
    arguments = {"betas": BETAS, "key": KEY, **arguments}
    with pytest.raises(UserError, match=message):
        generative.measures.annealed_log_partition(machine_of((4, 3)), **arguments)


@pytest.mark.parametrize("kernels", [(), (jnp.zeros((3, 4)),), (jnp.zeros((4, 3)),) * 2])
def test_a_machine_whose_kernels_do_not_fit_is_refused(kernels):
    machine = machine_of((4, 3)).replace(kernels=kernels)
    for estimate in (
        generative.measures.log_partition,
        lambda machine: generative.measures.annealed_log_partition(machine, BETAS, key=KEY),
    ):
        with pytest.raises(UserError, match=r"of the shapes \[\(4, 3\)\], got"):
            estimate(machine)


def test_a_machine_with_too_many_units_is_refused():
    with pytest.raises(UserError, match="a side of at most 25 binary units .* got 30; annealed"):
        generative.measures.log_partition(machine_of((40, 30)))
    with pytest.raises(UserError, match="got 30"):
        generative.measures.log_partition(machine_of((3, 30), visible="gaussian"))


@pytest.mark.slow
def test_a_gaussian_machine_in_x64_needs_no_promotion():
    machine = machine_of((3, 2), visible="gaussian")
    expected = generative.measures.log_partition(machine)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), machine)
        key, betas = jax.random.key(0), jnp.linspace(0, 1, 200)
        found = generative.measures.annealed_log_partition(wide, betas, key=key)
        assert found.value.dtype == float
        assert float(found.value) == pytest.approx(
            float(expected), abs=5 * float(found.standard_error)
        )


@pytest.mark.slow
def test_machines_of_16_bits_are_summed_in_32():
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), machine_of((12, 8), scale=0.5))
    same = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), half)
    found = generative.measures.log_partition(half)
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, generative.measures.log_partition(same))
    both = [generative.measures.annealed_log_partition(m, BETAS, key=KEY) for m in (half, same)]
    np.testing.assert_array_equal(*both)
    assert abs(both[0].value - found) < 5 * both[0].standard_error


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_a_machine_that_is_not_finite_is_refused(bad):
    machine = machine_of((4, 3))
    machine = machine.replace(visible_bias=machine.visible_bias.at[1].set(bad))
    with pytest.raises(UserError, match=f"^machine must be of finite parameters, got {bad}"):
        generative.measures.log_partition(machine)
