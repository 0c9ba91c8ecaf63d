"""objectives.awp: the perturbation in NumPy, one call of the attack, and no perturbation at 0."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from marks import slow_after

from adv_jax import attacks, models, objectives
from adv_jax.types import Output

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(6, 5)).astype("f"), RNG.integers(0, 3, size=6)
W, B = RNG.normal(size=(5, 3)).astype("f"), RNG.normal(size=3).astype("f")
BATCH = {"x": jnp.asarray(X), "y": jnp.asarray(Y)}
PARAMS = {"kernel": jnp.asarray(W), "bias": jnp.asarray(B)}
GAMMA = 0.1


def affine(variables, x, *, train=False, key=None):
    params = variables["params"]
    return Output(x @ params["kernel"] + params["bias"][None], {}, {})


def awp(params, *, apply=affine, key=KEY, **settings):
    return objectives.awp(apply, {"params": params}, BATCH, key=key, **settings)


def clean(logits_fn, x, y, *, key):
    return x


def loss_at(w, x=X):
    return oracles.cross_entropies(np.float64(x) @ w + B, Y).mean()


def perturbed(w, x=X):
    """w + gamma |w| g / |g|, g the gradient of the loss by w."""
    g = oracles.numerical_gradient(partial(loss_at, x=x), w)
    return w + GAMMA * np.linalg.norm(w) * g / np.linalg.norm(g)


@pytest.mark.slow
def test_awp_is_the_loss_and_its_gradient_at_perturbed_weights():
    loss = partial(awp, attack=clean, objective=objectives.lwa, gamma=GAMMA)
    (value, _), gradient = jax.value_and_grad(loss, has_aux=True)(PARAMS)
    w = perturbed(W)
    assert float(value) == pytest.approx(loss_at(w), rel=1e-5)
    assert loss_at(w) > loss_at(W)
    # The bias is not perturbed; its gradient is the mean of p - y at w + v.
    np.testing.assert_allclose(
        gradient["kernel"], oracles.numerical_gradient(loss_at, w), rtol=1e-4, atol=1e-6
    )
    errors = oracles.softmax(np.float64(X) @ w + B) - np.eye(3)[Y]
    np.testing.assert_allclose(gradient["bias"], errors.mean(axis=0), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_awp_crafts_once_at_the_unperturbed_weights():
    calls = []

    def attack(logits_fn, x, y, *, key):
        calls.append(None)
        return attacks.fgsm(logits_fn, x, y, eps=0.3)

    loss, _ = awp(PARAMS, attack=attack, objective=objectives.lwa, gamma=GAMMA)
    assert len(calls) == 1
    p = oracles.softmax(np.float64(X) @ W + B)
    x_adv = X + 0.3 * np.sign((p - np.eye(3)[Y]) @ W.T)
    assert float(loss) == pytest.approx(loss_at(perturbed(W, x_adv), x_adv), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "objective", slow_after(1, [objectives.lwa, objectives.trades, objectives.mart])
)
def test_awp_with_gamma_0_is_the_objective(objective):
    model = models.mlp(features=(6,), num_classes=3, dropout=(0.0, 0.5))
    apply, variables = models.apply_fn(model), models.init(model, jax.random.key(1), BATCH["x"])
    attack = partial(attacks.pgd, eps=0.3, num_steps=3)

    def updates(objective):
        loss = lambda params: objective(apply, {"params": params}, BATCH, key=KEY, attack=attack)[0]
        return jax.jit(jax.value_and_grad(loss))(variables["params"])

    found = updates(partial(objectives.awp, objective=objective, gamma=0.0))
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7), found, updates(objective)
    )


@pytest.mark.slow
def test_weights_without_a_gradient_are_not_perturbed():
    params = {"kernel": jnp.zeros((5, 3)), "bias": jnp.zeros(3)}
    batch = BATCH | {"x": jnp.zeros((6, 5))}
    loss, _ = objectives.awp(
        affine, {"params": params}, batch, key=KEY, attack=clean, objective=objectives.lwa
    )
    assert float(loss) == pytest.approx(np.log(3))


@pytest.mark.parametrize("slope", [1e-30, 1e-20, 1.0, 1e25])
def test_the_length_of_the_perturbation_does_not_depend_on_that_of_the_gradient(slope):
    """L = slope sum(w), whose v is gamma |w| / 2 in each of the four weights of 1."""

    def total(apply, variables, batch, *, key, attack):
        return slope * variables["params"]["kernel"].sum(), ({}, {})

    params = {"kernel": jnp.ones((2, 2))}
    loss, _ = awp(params, attack=clean, objective=total, gamma=0.01)
    assert float(loss) / (4 * slope) == pytest.approx(1.01, rel=1e-5)
