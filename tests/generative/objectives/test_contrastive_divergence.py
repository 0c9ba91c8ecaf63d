"""Contrastive divergence: exact gradients by enumeration, and a step of scikit-learn's PCD."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.neural_network import BernoulliRBM

from adv_jax import generative, models
from adv_jax.generative import boltzmann
from adv_jax.generative.objectives.contrastive_divergence import chains
from adv_jax.step import init_state, make_step, over_steps

KEY = jax.random.key(0)
SLOW = optax.sgd(0.1)
X = jnp.asarray(np.random.default_rng(0).integers(0, 2, (6, 4)), jnp.float32)
BATCH = {"x": X, "y": jnp.zeros(6, jnp.int32)}


def states(count):
    return jnp.asarray(list(itertools.product([0, 1], repeat=count)), jnp.float32)


def perturbed(variables, scale=0.5):
    """The variables with other parameters, as biases start at 0."""
    rng = np.random.default_rng(1)
    draw = lambda leaf: jnp.asarray(scale * rng.normal(size=leaf.shape), jnp.float32)
    return {"params": jax.tree.map(draw, variables["params"])}


def built(model):
    variables = perturbed(models.init(model, jax.random.key(1), X))
    return models.apply_fn(model), variables


RBM = generative.models.boltzmann(shape=(4,), features=(3,))


def negative_log_likelihood(apply, params):
    machine = apply({"params": params}, X, key=KEY, method="machines").extras["machines"][0]
    return jnp.mean(boltzmann.free_energy(machine, (X,))) + generative.measures.log_partition(
        machine
    )


@pytest.mark.slow
def test_the_expectation_over_the_model_gives_the_gradient_of_the_log_likelihood():
    apply, variables = built(RBM)
    machine = apply(variables, X, key=KEY, method="machines").extras["machines"][0]
    v = states(4)
    p = jnp.exp(-boltzmann.free_energy(machine, (v,)) - generative.measures.log_partition(machine))

    def expected_contrast(params):
        machine = apply({"params": params}, X, key=KEY, method="machines").extras["machines"][0]
        data = jnp.mean(boltzmann.free_energy(machine, (X,)))
        return data - p @ boltzmann.free_energy(machine, (v,))

    params = variables["params"]
    exact = jax.jit(jax.grad(partial(negative_log_likelihood, apply)))(params)
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5),
        jax.jit(jax.grad(expected_contrast))(params),
        exact,
    )


@pytest.mark.slow
def test_long_chains_give_the_exact_gradient_on_average():
    apply, variables = built(RBM)
    batch = jax.tree.map(lambda leaf: jnp.concatenate([leaf] * 1000), BATCH)

    def loss(params):
        settings = {"key": KEY, "steps": 50}
        return generative.objectives.contrastive_divergence(
            apply, {"params": params}, batch, **settings
        )[0]

    exact = jax.grad(partial(negative_log_likelihood, apply))(variables["params"])
    close = partial(np.testing.assert_allclose, atol=0.03)  # 4 errors of 6,000 samples
    jax.tree.map(close, jax.grad(loss)(variables["params"]), exact)


def test_a_persistent_step_is_that_of_scikit_learn_with_the_same_samples():
    apply, variables = built(RBM)
    start = (jnp.asarray(np.random.default_rng(2).integers(0, 2, (6, 4)), jnp.float32),)
    variables["chains"] = {"machine01": start}

    def loss(params):
        state = {**variables, "params": params}
        return generative.objectives.persistent_contrastive_divergence(apply, state, BATCH, key=KEY)

    gradient, (state, _) = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
    (v_neg,) = state["chains"]["machine01"]
    assert not np.array_equal(v_neg, start[0])
    machine = apply(variables, X, key=KEY, method="machines").extras["machines"][0]
    peer = BernoulliRBM(n_components=3, learning_rate=1.0, batch_size=6)
    before = np.float64(machine.kernels[0]).T
    peer.components_ = before.copy()
    peer.intercept_hidden_ = np.float64(machine.biases[0])
    peer.intercept_visible_ = np.float64(machine.visible_bias)
    peer.h_samples_ = np.zeros((6, 3))
    peer._sample_visibles = lambda h, rng: np.float64(v_neg)
    peer._fit(np.float64(X), np.random.RandomState(0))
    layer = gradient["encoder"]["hidden1"]
    close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    close(-layer["kernel"], (peer.components_ - before).T)
    close(-layer["bias"], peer.intercept_hidden_ - np.float64(machine.biases[0]))
    close(
        -gradient["decoder"]["hidden1"], peer.intercept_visible_ - np.float64(machine.visible_bias)
    )


@pytest.mark.slow
def test_the_gradient_of_a_deep_machine_is_that_of_its_energies():
    model = generative.models.boltzmann(shape=(4,), features=(3, 2), mean_field_steps=100)
    apply, variables = built(model)
    variables["chains"] = chains(apply, variables, X)["chains"]

    def loss(params):
        state = {**variables, "params": params}
        step = generative.objectives.persistent_contrastive_divergence
        return step(apply, state, BATCH, key=KEY)

    gradient, (state, _) = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
    machine = apply(variables, X, key=KEY, method="machines").extras["machines"][0]
    even = boltzmann.mean_field(machine, X, 100)
    (odd,) = boltzmann.means(machine, even)
    v, h2 = state["chains"]["machine01"]
    (h1,) = boltzmann.means(machine, (v, h2))
    pairs = lambda a, b: np.einsum("bi,bj->ij", a, b) / len(a)
    close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    encoder = gradient["encoder"]
    close(encoder["hidden1"]["kernel"], pairs(v, h1) - pairs(even[0], odd))
    close(encoder["hidden2"]["kernel"], pairs(h1, h2) - pairs(odd, even[1]))
    close(encoder["hidden2"]["bias"], np.mean(h2, axis=0) - np.mean(even[1], axis=0))
    close(gradient["decoder"]["hidden1"], np.mean(v, axis=0) - np.mean(X, axis=0))


@pytest.mark.slow
def test_each_layer_of_a_stack_has_the_gradient_of_its_own_machine():
    model = generative.models.dbn(shape=(4,), features=(3, 2))
    apply, variables = built(model)
    loss = lambda params: generative.objectives.contrastive_divergence(
        apply, {"params": params}, BATCH, key=KEY, steps=2
    )[0]
    found = jax.jit(jax.grad(loss))(variables["params"])
    key_data, key_chains = jax.random.split(KEY)
    extras = apply(variables, X, key=key_data, method="machines").extras

    def alone(number, machine):
        """The loss of one machine, with the samples of the stack."""
        data, key = extras["data"][number], jax.random.split(key_chains, 2)[number]
        end = boltzmann.gibbs(extras["machines"][number], data, key, 2)
        free = partial(boltzmann.free_energy, machine)
        return jnp.mean(free(data)) - jnp.mean(free(end))

    for number, machine in enumerate(extras["machines"]):
        expected = jax.jit(jax.grad(partial(alone, number)))(machine)
        layer = found["encoder"][f"hidden{number + 1}"]
        close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
        close(layer["kernel"], expected.kernels[0])
        close(layer["bias"], expected.biases[0])
        close(found["decoder"][f"hidden{number + 1}"], expected.visible_bias)


@pytest.mark.slow
def test_chains_go_on_from_step_to_step():
    apply, variables = built(RBM)
    variables |= chains(apply, variables, X)
    assert not np.any(variables["chains"]["machine01"][0])
    step = make_step(partial(generative.objectives.persistent_contrastive_divergence, apply), SLOW)
    state, _ = jax.jit(step)(init_state(variables, SLOW, seed=0), BATCH)
    (once,) = state.model_state["chains"]["machine01"]
    machine = apply(variables, X, key=KEY, method="machines").extras["machines"][0]
    _, key_chains = jax.random.split(state.replace(step=jnp.int32(0)).key)
    (expected,) = boltzmann.gibbs(
        machine, (jnp.zeros((6, 4)),), jax.random.split(key_chains, 1)[0], 1
    )
    np.testing.assert_array_equal(once, expected)


CHAINED = {
    "persistent_contrastive_divergence": "boltzmann",
    "noise_contrastive_estimation": "normalized_rbm",
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "model"), CHAINED.items())
def test_steps_on_images_of_16_bits_are_those_on_float32(name, model):
    objective = getattr(generative.objectives, name)
    apply, variables = built(getattr(generative.models, model)(shape=(4,), features=(3,)))

    def after_steps(x):
        state = init_state({**variables, **objective.state(apply, variables, x)}, SLOW, seed=0)
        run = over_steps(make_step(partial(objective, apply), SLOW))
        return run(state, {"x": jnp.stack([x] * 3), "y": jnp.zeros((3, 6), jnp.int32)})

    found, expected = after_steps(X.astype(jnp.bfloat16)), after_steps(X)
    parts = lambda state, metrics: (state.params, state.model_state, metrics)
    jax.tree.map(np.testing.assert_array_equal, parts(*found), parts(*expected))
