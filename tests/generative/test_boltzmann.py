"""Boltzmann machines against sums over all states in NumPy, scikit-learn and integrals."""

import itertools
import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import dblquad
from sklearn.neural_network import BernoulliRBM

from adv_jax.generative import boltzmann
from adv_jax.generative.boltzmann import EVEN, ODD, Machine
from adv_jax.generative.measures import log_partition
from adv_jax.types import UserError

KEY = jax.random.key(0)
DEEP = (3, 4, 2, 2)


@partial(jax.jit, static_argnames="steps")
def bound_after(machine, v, steps):
    return boltzmann.bound(machine, boltzmann.mean_field(machine, v, steps))


def machine_of(sizes, seed=0, visible="binary", scale=1.0):
    rng = np.random.default_rng(seed)
    normal = lambda *shape: jnp.asarray(scale * rng.normal(size=shape), jnp.float32)
    kernels = tuple(normal(a, b) for a, b in itertools.pairwise(sizes))
    return Machine(normal(sizes[0]), kernels, tuple(map(normal, sizes[1:])), visible=visible)


def states(count):
    return np.array(list(itertools.product([0, 1], repeat=count)), float)


def split(values, sizes):
    """All layers of a machine, from rows f[n, sum(sizes)]."""
    return np.split(values, np.cumsum(sizes)[:-1], axis=1)


def numpy_energy(machine, layers):
    """E of float64 layers, by its definition."""
    biases = [np.float64(b) for b in (machine.visible_bias, *machine.biases)]
    kernels = [np.float64(w) for w in machine.kernels]
    total = -sum(h @ b for h, b in zip(layers, biases, strict=True))
    if machine.visible == "gaussian":
        total += layers[0] @ biases[0] + ((layers[0] - biases[0]) ** 2).sum(axis=1) / 2
    for below, w, above in zip(layers[:-1], kernels, layers[1:], strict=True):
        total -= np.einsum("bi,ij,bj->b", below, w, above)
    return total


def sides(layers):
    as_jax = lambda part: tuple(jnp.asarray(h, jnp.float32) for h in part)
    return as_jax(layers[::2]), as_jax(layers[1::2])


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(3, 2), DEEP])
def test_energies_are_those_of_the_definition(sizes):
    layers = split(states(sum(sizes)), sizes)
    even, odd = sides(layers)
    for visible in ("binary", "gaussian"):
        machine = machine_of(sizes, visible=visible)
        found = boltzmann.energy(machine, even, odd)
        np.testing.assert_allclose(found, numpy_energy(machine, layers), rtol=1e-5, atol=1e-5)


def test_an_unknown_kind_of_visible_units_is_refused():
    machine = machine_of((3, 2), visible="Gaussian")
    with pytest.raises(UserError, match="machine.visible must be one of binary, gaussian, got 'Ga"):
        boltzmann.free_energy(machine, (jnp.zeros((1, 3)),))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"kernels": (jnp.zeros((2, 3)),)}, r"the shapes \[\(3, 2\)\], got \[\(2, 3\)\]"),
        ({"kernels": ()}, r"a kernel from each layer to the next, of the shapes .* got \[\]"),
        (
            {"biases": (jnp.zeros((1, 2)),)},
            r"a bias f\[D\] .* got the shapes \[\(3,\), \(1, 2\)\]",
        ),
        ({"biases": (), "kernels": ()}, "of one hidden layer or more"),
        ({"biases": ([0.0, 0.0],)}, r"machine must have arrays .*, got \[0.0, 0.0\]"),
        (
            {"biases": (jnp.zeros(2, int),)},
            r"machine must have arrays of floats .*int32\[2\]",
        ),
        ({"visible_bias": [0.0, 0.0, 0.0]}, r"machine must have arrays .*, got \[0.0, 0.0, 0.0\]"),
    ],
)
def test_a_machine_of_other_shapes_is_refused(changes, says):
    machine = machine_of((3, 2)).replace(**changes)
    for compute in (boltzmann.free_energy, boltzmann.means):
        with pytest.raises(UserError, match=says):
            compute(machine, (jnp.zeros((1, 3)),))


def test_layers_of_other_shapes_are_refused():
    machine = machine_of(DEEP)
    says = r"the even layers must be f\[B, 3\], f\[B, 2\], got the shapes"
    other_rows = (jnp.zeros((1, 3)), jnp.zeros((2, 2)))
    other_units = (jnp.zeros((1, 4)), jnp.zeros((1, 2)))
    for even in ((), (jnp.zeros((1, 3)),), other_units, other_rows, (jnp.zeros(3),) * 2):
        with pytest.raises(UserError, match=says):
            boltzmann.free_energy(machine, even)
    with pytest.raises(UserError, match="the odd layers must be"):
        boltzmann.means(machine, (jnp.zeros((1, 3)),), ODD)


@pytest.mark.parametrize("v", [jnp.zeros((1, 4)), jnp.zeros(3), jnp.zeros((1, 3, 1))])
def test_mean_field_refuses_inputs_of_another_shape(v):
    with pytest.raises(UserError, match=r"v must be f\[B, 3\], got float32\["):
        boltzmann.mean_field(machine_of(DEEP), v, 1)


@pytest.mark.parametrize("known", [EVEN, ODD])
def test_the_free_energy_sums_over_all_states_of_the_other_side(known):
    machine, layers = machine_of(DEEP), split(states(sum(DEEP)), DEEP)
    energies = numpy_energy(machine, layers)
    rows = np.concatenate(layers[known::2], axis=1)
    unique, inverse = np.unique(rows, axis=0, return_inverse=True)
    weights = np.bincount(inverse.ravel(), np.exp(-energies))
    own = DEEP[known::2]
    side = tuple(jnp.asarray(h, jnp.float32) for h in split(unique, own))
    found = boltzmann.free_energy(machine, side, known)
    np.testing.assert_allclose(found, -np.log(weights), rtol=1e-5, atol=1e-5)


def test_probabilities_and_free_energies_equal_those_of_scikit_learn():
    machine = machine_of((5, 4))
    peer = BernoulliRBM(n_components=4)
    peer.components_ = np.float64(machine.kernels[0]).T
    peer.intercept_hidden_ = np.float64(machine.biases[0])
    peer.intercept_visible_ = np.float64(machine.visible_bias)
    v = states(5)
    (hidden,) = boltzmann.means(machine, (jnp.asarray(v, jnp.float32),))
    np.testing.assert_allclose(hidden, peer.transform(v), rtol=1e-5)
    free = boltzmann.free_energy(machine, (jnp.asarray(v, jnp.float32),))
    np.testing.assert_allclose(free, peer._free_energy(v), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_gaussian_units_are_integrated():
    machine, h = machine_of((2, 3), visible="gaussian", scale=0.7), states(3)

    def integrand(b, a, row):
        layers = [np.array([[a, b]]), row[None]]
        return np.exp(-numpy_energy(machine, layers)[0])

    expected = [-np.log(dblquad(integrand, -12, 12, -12, 12, args=(row,))[0]) for row in h[[0, 5]]]
    found = boltzmann.free_energy(machine, (jnp.asarray(h[[0, 5]], jnp.float32),), ODD)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(2, 2), (2, 2, 1)])
def test_gibbs_chains_visit_states_as_often_as_their_probability(sizes):
    machine, rows = machine_of(sizes), 20_000
    even = tuple(jnp.zeros((rows, units)) for units in machine.units(EVEN))
    found = np.concatenate(boltzmann.gibbs(machine, even, KEY, 30), axis=1)
    values = states(found.shape[1])
    split_values = tuple(map(jnp.asarray, split(values, machine.units(EVEN))))
    expected = np.exp(-np.float64(boltzmann.free_energy(machine, split_values)))
    shares = (found[:, None] == values).all(axis=2).mean(axis=0)
    expected /= expected.sum()
    errors = np.sqrt(expected * (1 - expected) / rows)
    assert np.all(np.abs(shares - expected) < 4 * errors)


@pytest.mark.slow
def test_gaussian_units_are_drawn_around_their_mean_with_variance_one():
    machine = machine_of((2, 3), visible="gaussian")
    h = jnp.tile(jnp.array([[1.0, 0.0, 1.0]]), (20_000, 1))
    (v,) = boltzmann.sample(machine, (h,), KEY, ODD)
    mean = machine.visible_bias + machine.kernels[0][:, 0] + machine.kernels[0][:, 2]
    np.testing.assert_allclose(v.mean(axis=0), mean, atol=4 / np.sqrt(20_000))
    np.testing.assert_allclose(np.cov(v, rowvar=False), np.eye(2), atol=0.05)


@pytest.mark.slow
def test_mean_field_ends_at_a_fixed_point_and_never_raises_the_bound():
    machine, v = machine_of(DEEP), jnp.asarray(states(3), jnp.float32)
    bounds = [bound_after(machine, v, steps) for steps in range(4)]
    assert np.all(np.diff(np.stack(bounds), axis=0) <= 1e-6)
    even = boltzmann.mean_field(machine, v, 200)
    odd = boltzmann.means(machine, even)
    np.testing.assert_allclose(boltzmann.means(machine, odd, ODD)[1], even[1], atol=1e-6)


@pytest.mark.slow
@settings(max_examples=20)
@given(st.integers(0, 1000))
def test_the_bound_lies_above_the_free_energy_of_the_visible_units(seed):
    machine, layers = machine_of(DEEP, seed), split(states(sum(DEEP)), DEEP)
    free = -np.log(np.exp(-numpy_energy(machine, layers)).reshape(8, -1).sum(axis=1))
    v = jnp.asarray(states(3), jnp.float32)
    found = bound_after(machine, v, 10)
    assert np.all(np.asarray(found) >= free - 1e-4)


@pytest.mark.slow
def test_the_bound_is_the_expected_energy_less_the_entropy():
    # A factorial posterior over all hidden units, summed over all their states.
    machine, v = machine_of((2, 2, 2)), jnp.asarray([[1.0, 0.0]])
    even = boltzmann.mean_field(machine, v, 3)
    mu = np.concatenate([boltzmann.means(machine, even)[0], even[1]], axis=1)[0].astype(float)
    h = states(4)
    q = np.prod(np.where(h == 1, mu, 1 - mu), axis=1)
    energies = numpy_energy(machine, [np.tile(np.asarray(v), (16, 1)), *split(h, (2, 2))])
    expected = q @ (energies + np.log(q))
    np.testing.assert_allclose(boltzmann.bound(machine, even), [expected], rtol=1e-5)


def test_the_bound_of_a_restricted_machine_is_its_free_energy():
    machine, v = machine_of((3, 2)), jnp.asarray(states(3), jnp.float32)
    even = boltzmann.mean_field(machine, v, 5)
    np.testing.assert_array_equal(
        boltzmann.bound(machine, even), boltzmann.free_energy(machine, even)
    )


def test_binary_units_of_16_bits_are_drawn_with_their_probabilities():
    p = jnp.full(100_000, 0.998, jnp.bfloat16)
    drawn = boltzmann.draw(p, KEY)
    assert drawn.dtype == jnp.bfloat16
    # Within four standard errors.
    assert float(drawn.astype(jnp.float32).mean()) == pytest.approx(float(p[0]), abs=6e-4)


def test_draws_without_a_key_and_an_unknown_side_are_refused():
    machine, v = machine_of((3, 2)), (jnp.ones((2, 3)),)
    for draw in (boltzmann.sample, partial(boltzmann.gibbs, steps=1)):
        with pytest.raises(UserError, match="^key must be one key of jax.random, got None$"):
            draw(machine, v, None)
    with pytest.raises(UserError, match="^given must be one of 0, 1, got 2$"):
        boltzmann.means(machine, v, given=2)


@pytest.mark.parametrize(
    ("machine", "known", "says"),
    [
        (None, (jnp.ones((2, 3)),), "^machine must be a boltzmann.Machine, got None$"),
        ((3, 2), None, r"^the even layers must be f\[B, 3\], got None$"),
        ((3, 2), ([[1.0, 0, 1], [1.0]],), r"^the even layers must be f\[B, 3\], got \(\["),
        ((3, 2), (jnp.ones((2, 3), complex),), r"^the even layers must be .*, got \(complex64"),
    ],
)
def test_what_is_no_machine_or_no_array_of_numbers_is_refused(machine, known, says):
    machine = machine and machine_of(machine)
    for compute in (boltzmann.free_energy, boltzmann.means):
        with pytest.raises(UserError, match=says):
            compute(machine, known)


@pytest.mark.parametrize("sizes", [(3, 2), DEEP])
def test_steps_below_0_are_refused_and_0_steps_keep_the_start(sizes):
    machine = machine_of(sizes)
    even = tuple(jnp.ones((2, units)) for units in machine.units(EVEN))
    says = "^steps must be a whole number of at least 0, got -1$"
    with pytest.raises(UserError, match=says):
        boltzmann.gibbs(machine, even, KEY, -1)
    with pytest.raises(UserError, match=says):
        boltzmann.mean_field(machine, even[0], -1)
    jax.tree.map(np.testing.assert_array_equal, boltzmann.gibbs(machine, even, KEY, 0), even)


@pytest.mark.parametrize("rows", [(1, 2), (2, 1), (2, 3)])
def test_an_energy_of_sides_of_other_rows_is_refused(rows):
    machine, (even, odd) = machine_of((3, 2)), (jnp.zeros((rows[0], 3)), jnp.zeros((rows[1], 2)))
    says = f"^the odd layers must have B = {rows[0]} rows, as the even ones, got {rows[1]}$"
    with pytest.raises(UserError, match=says):
        boltzmann.energy(machine, (even,), (odd,))


@pytest.mark.parametrize(
    ("rbms", "says"),
    [
        ([machine_of((3, 2))], "rbms must be two machines or more, got 1"),
        ([machine_of((3, 2)), machine_of((2, 2, 2))], "one hidden layer each, got 2"),
        ([machine_of((3, 2)), machine_of((3, 2))], "an RBM, 2 binary ones, .* got 3 binary ones"),
        (
            [machine_of((3, 2)), machine_of((2, 2), visible="gaussian")],
            "an RBM, 2 binary ones, .* got 2 gaussian ones",
        ),
    ],
)
def test_rbms_that_do_not_stack_are_refused(rbms, says):
    with pytest.raises(UserError, match=says):
        boltzmann.doubled(rbms)


def test_parameters_of_float64_in_numpy_have_the_energies_of_the_definition_without_a_warning():
    machine = jax.tree.map(np.float64, machine_of(DEEP))
    layers = split(states(sum(DEEP))[::37], DEEP)
    even, odd = tuple(layers[::2]), tuple(layers[1::2])
    with warnings.catch_warnings(action="error"):
        found = boltzmann.energy(machine, even, odd)
        boltzmann.mean_field(machine, even[0], 1)
        log_partition(machine)
    np.testing.assert_allclose(found, numpy_energy(machine, layers), rtol=1e-5, atol=1e-5)
