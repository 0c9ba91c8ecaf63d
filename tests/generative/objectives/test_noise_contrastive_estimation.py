"""Noise-contrastive estimation: a NumPy version, finite differences, and log Z by enumeration."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import approx_fprime

from adv_jax import generative, models
from adv_jax.generative import boltzmann
from adv_jax.generative.boltzmann import ODD
from adv_jax.generative.objectives import noise_contrastive_estimation
from adv_jax.types import UserError

KEY = jax.random.key(0)
MODEL = generative.models.normalized_rbm(shape=(2, 2, 1), features=(3,))


def built(rows):
    """The apply function, random variables with chains, and a batch."""
    rng = np.random.default_rng(1)
    x = jnp.asarray(rng.uniform(size=(rows, 2, 2, 1)), jnp.float32)
    variables = models.init(MODEL, jax.random.key(1), x)
    move = lambda leaf: leaf + jnp.asarray(0.5 * rng.normal(size=leaf.shape), jnp.float32)
    start = (jnp.asarray(rng.integers(0, 2, (rows, 4)), jnp.float32),)
    params = jax.tree.map(move, variables["params"])
    variables = {"params": params, "chains": {"machine01": start}}
    return models.apply_fn(MODEL), variables, {"x": x, "y": jnp.zeros(rows, jnp.int32)}


def flat(params):
    """W, the hidden and the visible biases and log Z of parameters or of a gradient: f64[20]."""
    layer = params["encoder"]["hidden1"]
    leaves = layer["kernel"], layer["bias"], params["decoder"]["hidden1"], params["log_normalizer"]
    return np.concatenate([np.ravel(np.float64(leaf)) for leaf in leaves])


def numpy_loss(theta, v, q):
    """The loss and the metrics for five rows of data, then ten of noise, and their density q."""
    w, hidden, visible, log_z = theta[:12].reshape(4, 3), theta[12:15], theta[15:19], theta[19]
    ratio = np.exp(v @ visible - log_z) * np.prod(1 + np.exp(hidden + v @ w), axis=1) / q
    h = ratio / (ratio + 2)
    guessed = (np.mean(h[:5] > 0.5) + np.mean(h[5:] < 0.5)) / 2
    metrics = np.log(ratio[:5]).mean(), np.log(ratio[5:]).mean(), guessed
    return -np.log(h[:5]).mean() - 2 * np.log(1 - h[5:]).mean(), metrics


def numpy_density(v, images, own):
    """The density of the mixture of both levels, by products of probabilities."""
    images = np.concatenate([images, own])
    parts = [level * images + (1 - level) * images.mean(axis=0) for level in (0.3, 1.0)]
    means = 0.1 + 0.8 * np.concatenate(parts)
    return np.prod(np.where(v[:, None] == 1, means, 1 - means), axis=2).mean(axis=1)


@pytest.mark.slow
def test_loss_and_gradient_are_those_of_numpy_and_of_finite_differences():
    apply, variables, batch = built(5)
    seen = []

    def recording(*inputs, method, **options):
        if method == "log_density":
            seen.append(inputs[1])
        return apply(*inputs, method=method, **options)

    @jax.jit
    def step(params):
        def loss(params):
            state = {**variables, "params": params}
            settings = {"key": KEY, "levels": (0.3, 1.0), "floor": 0.1, "ratio": 2}
            found, aux = noise_contrastive_estimation(recording, state, batch, **settings)
            return found, (*aux, seen[-1])

        return jax.value_and_grad(loss, has_aux=True)(params)

    (found, (state, metrics, images)), gradient = step(variables["params"])
    v = np.float64(images).reshape(15, 4)  # Five rows of data, four and six of noise.
    assert set(np.unique(v)) == {0, 1}
    machine = apply(variables, batch["x"], key=KEY, method="machines").extras["machines"][0]
    odd = boltzmann.sample(machine, state["chains"]["machine01"], jax.random.split(KEY, 5)[2])
    own, x = np.float64(boltzmann.means(machine, odd, ODD)[0]), np.float64(batch["x"]).reshape(5, 4)
    # Each part of data and noise is compared with the images of the other half.
    parts = (v[:2], x[2:]), (v[2:5], x[:2]), (v[5:9], x[2:]), (v[9:], x[:2])
    q = np.concatenate([numpy_density(part, others, own) for part, others in parts])
    theta = flat(variables["params"])
    expected, numbers = numpy_loss(theta, v, q)
    assert found == pytest.approx(expected, rel=1e-4)
    np.testing.assert_allclose([metrics[m] for m in ("data", "noise", "guessed")], numbers, 1e-4)
    slopes = approx_fprime(theta, lambda theta: numpy_loss(theta, v, q)[0], 1e-6)
    np.testing.assert_allclose(flat(gradient), slopes, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_with_much_noise_log_normalizer_becomes_log_z_of_the_machine_that_drew_the_data():
    apply, variables, batch = built(1000)
    machine = apply(variables, batch["x"], key=KEY, method="machines").extras["machines"][0]
    v = boltzmann.gibbs(machine, variables["chains"]["machine01"], jax.random.key(2), 50)[0]
    batch["x"] = v.reshape(batch["x"].shape)

    @jax.jit
    def fitted(log_z):
        """Gradient descent on log_normalizer alone; the slope of the loss is at most 1 + ratio."""

        def loss(log_z):
            state = {**variables, "params": {**variables["params"], "log_normalizer": log_z}}
            return noise_contrastive_estimation(apply, state, batch, key=KEY, ratio=5)[0]

        step = lambda log_z, _: (log_z - jax.grad(loss)(log_z), None)
        return jax.lax.scan(step, log_z, length=20)[0]

    exact = generative.measures.log_partition(machine)
    assert abs(fitted(exact + 2.0) - exact) < 0.1


@pytest.mark.slow
def test_a_batch_of_one_row_is_refused():
    apply, variables, batch = built(1)
    with pytest.raises(UserError, match="batch must have at least two rows, got 1"):
        noise_contrastive_estimation(apply, variables, batch, key=KEY)


@pytest.mark.parametrize("setting", [{"levels": (2.0,)}, {"floor": 0.7}, {"ratio": 0}])
def test_a_setting_outside_its_range_is_refused(setting):
    (name,) = setting
    with pytest.raises(UserError, match=f"^{name} must be a .*number .*, got "):
        noise_contrastive_estimation(*built(2), key=KEY, **setting)


def test_a_mixture_without_levels_is_refused():
    with pytest.raises(UserError, match=r"^levels must have one entry or more, got \(\)$"):
        noise_contrastive_estimation(*built(2), key=KEY, levels=())
