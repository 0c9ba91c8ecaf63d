"""The greedy start of a deep Boltzmann machine: exact sums over all states of 4-3-2 units."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, logsumexp

from adv_jax import generative, models
from adv_jax.generative import boltzmann

KEY = jax.random.key(0)


def states(units):
    return np.array(list(itertools.product([0.0, 1.0], repeat=units)))


V, H1 = states(4), states(3)


def drawn(units=(4, 3, 2)):
    """Weights and biases of two RBMs: (W_1, b of v, b of h1), (W_2, b of h1, b of h2)."""
    rng = np.random.default_rng(0)
    return [
        (rng.normal(size=(below, above)), rng.normal(size=below), rng.normal(size=above))
        for below, above in itertools.pairwise(units)
    ]


def params_of(rbms):
    """Parameters of a `dbn`."""
    f32 = lambda values: jnp.asarray(values, jnp.float32)
    layers = {f"hidden{n}": rbm for n, rbm in enumerate(rbms, start=1)}
    encoder = {name: {"kernel": f32(w), "bias": f32(c)} for name, (w, _, c) in layers.items()}
    return {"encoder": encoder, "decoder": {name: f32(b) for name, (_, b, _) in layers.items()}}


def machine_of(rbms):
    """The deep machine that starts from the RBMs."""
    features = tuple(len(c) for _, _, c in rbms)
    model = generative.models.boltzmann(shape=(4,), features=features)
    start = model.converted(params_of(rbms))
    x = jnp.asarray(V, jnp.float32)
    extras = models.apply_fn(model)({"params": start}, x, key=KEY, method="machines").extras
    (machine,) = extras["machines"]
    return machine


def log_prior_below(rbm):
    """log p(h1) of the first RBM, which has two copies of v, up to a constant: f[8]."""
    w, b, c = rbm
    return H1 @ c + 2 * np.logaddexp(0, H1 @ w.T + b).sum(axis=1)


def log_prior_above(rbm):
    """log p(h1) of the last RBM, which has two copies of h2, normalized: f[8]."""
    w, b, c = rbm
    found = H1 @ b + 2 * np.logaddexp(0, H1 @ w + c).sum(axis=1)
    return found - logsumexp(found)


def log_joint(machine):
    """log p(v, h1) of the deep machine by the energy of every state: f[16, 8]."""
    cells = [*itertools.product(V, H1, states(len(machine.biases[1])))]
    v, h1, h2 = (jnp.asarray(np.stack(layer), jnp.float32) for layer in zip(*cells, strict=True))
    found = -np.float64(boltzmann.energy(machine, (v, h2), (h1,))).reshape(16, 8, -1)
    return logsumexp(found, axis=2) - logsumexp(found)


@pytest.mark.slow
def test_the_prior_of_the_inner_layer_is_the_geometric_mean_of_those_of_the_rbms():
    first, last = drawn()
    found = logsumexp(log_joint(machine_of([first, last])), axis=0)
    expected = (log_prior_below(first) + log_prior_above(last)) / 2
    np.testing.assert_allclose(found, expected - logsumexp(expected), atol=1e-5)


@pytest.mark.slow
def test_a_start_from_the_first_rbm_turned_over_is_that_rbm_with_a_second_copy_of_v():
    (w, b, c), _ = drawn()
    found = logsumexp(log_joint(machine_of([(w, b, c), (w.T, c, b)])), axis=1)
    # Of the second copy only the sum over its states remains.
    joint = V @ b[:, None] + H1 @ c + V @ w @ H1.T + np.logaddexp(0, H1 @ w.T + b).sum(axis=1)
    np.testing.assert_allclose(found, logsumexp(joint, axis=1) - logsumexp(joint), atol=1e-5)


@pytest.mark.slow
def test_a_better_second_rbm_does_not_lower_the_bound_of_the_start():
    first, _ = drawn()
    w, b, c = first
    data = np.random.default_rng(1).dirichlet(np.ones(16))
    q = expit(2 * V @ w + c)  # of h1 = 1, which sees both copies of v
    posterior = np.prod(np.where(H1[None] == 1, q[:, None], 1 - q[:, None]), axis=2)

    def bound(machine):
        entropy = -np.sum(posterior * np.log(posterior), axis=1)
        return data @ (np.sum(posterior * log_joint(machine), axis=1) + entropy)

    def rbm_of(flat):
        return flat[:12].reshape(3, 4), flat[12:15], flat[15:]

    loss = lambda flat: -(data @ posterior) @ log_prior_above(rbm_of(flat))
    turned = np.concatenate([w.T.ravel(), c, b])
    better = minimize(loss, turned, options={"maxiter": 20}).x
    gained = loss(turned) - loss(better)
    start, after = (bound(machine_of([first, rbm_of(flat)])) for flat in (turned, better))
    assert gained > 0.01
    # The prior is normalized by a Bhattacharyya coefficient of at most 1.
    assert after >= start + gained / 2 - 1e-5


@pytest.mark.slow
def test_an_rbm_or_a_machine_stays_as_it_is():
    model = generative.models.boltzmann(shape=(4,), features=(3, 2))
    params = models.init(model, KEY, jnp.zeros((2, 4)))["params"]
    jax.tree.map(np.testing.assert_array_equal, model.converted(params), params)


def test_a_doubled_stack_of_one_layer_is_refused():
    model = generative.models.dbn(shape=(4,), features=(3,), doubled=True)
    with pytest.raises(ValueError, match="model.features must have at least two layers"):
        models.init(model, KEY, jnp.zeros((2, 4)))
