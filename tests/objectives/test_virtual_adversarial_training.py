"""objectives.virtual_adversarial_training: the divergence in NumPy, and its constants."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from adv_jax import attacks, models, objectives
from adv_jax.types import Output

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
X, U = RNG.normal(size=(4, 5)).astype("f"), RNG.normal(size=(6, 5)).astype("f")
Y, W = RNG.integers(0, 3, size=4), RNG.normal(size=(5, 3)).astype("f")
R = RNG.normal(size=5).astype("f")
BATCH = {"x": jnp.asarray(X), "y": jnp.asarray(Y), "unlabeled": jnp.asarray(U)}


def linear(variables, x, *, train=False, key=None):
    return Output(x @ variables["params"], {}, {"seen": x.sum()})


def vat(w, *, apply=linear, batch=BATCH, key=KEY, **settings):
    return objectives.virtual_adversarial_training(apply, {"params": w}, batch, key=key, **settings)


def by_r(logits_fn, x, y, *, key):
    assert y is None
    return x + R[None].astype(x.dtype)


def expected(w, p, weight):
    """Returns the cost with p of the unlabeled rows as a constant."""
    log_q = np.log(oracles.softmax((np.float64(U) + R) @ w))
    divergence = (p * (np.log(p) - log_q)).sum(axis=1).mean()
    return oracles.cross_entropies(np.float64(X) @ w, Y).mean() + weight * divergence, divergence


@pytest.mark.parametrize("weight", [0.0, 1.0, 2.5])
def test_vat_and_its_gradient_equal_the_numpy_version(weight):
    loss = partial(vat, attack=by_r, weight=weight)
    (value, (state, metrics)), gradient = jax.value_and_grad(loss, has_aux=True)(jnp.asarray(W))
    p = oracles.softmax(np.float64(U) @ W)
    cost, divergence = expected(W, p, weight)
    assert float(value) == pytest.approx(cost, rel=1e-5)
    assert float(metrics["divergence"]) == pytest.approx(divergence, rel=1e-5)
    numerical = oracles.numerical_gradient(lambda w: expected(w, p, weight)[0], W)
    np.testing.assert_allclose(gradient, numerical, rtol=1e-4, atol=1e-6)
    assert float(state["seen"]) == pytest.approx(X.sum(), rel=1e-5)


@pytest.mark.slow
def test_the_attack_of_vat_gets_the_current_model_without_dropout():
    model = models.mlp(features=(6,), num_classes=3, dropout=(0.5, 0.5))
    variables = models.init(model, jax.random.key(1), BATCH["x"])
    apply = models.apply_fn(model)

    def attack(logits_fn, x, y, *, key):
        np.testing.assert_array_equal(logits_fn(x), apply(variables, x).logits)
        return x

    _, (_, metrics) = vat(variables["params"], apply=apply, attack=attack)
    # Both passes drop the same units: without a perturbation there is no divergence.
    assert float(metrics["divergence"]) == 0


@pytest.mark.slow
def test_a_virtual_adversarial_perturbation_has_more_divergence_than_noise():
    attack = partial(attacks.virtual_adversarial, eps=0.5, num_steps=2)
    noise = partial(attacks.uniform_noise, eps=0.5, norm="l2")
    divergences = [
        float(vat(jnp.asarray(W), attack=attack)[1][1]["divergence"]) for attack in (attack, noise)
    ]
    assert divergences[0] > 1.5 * divergences[1] > 0


@pytest.mark.parametrize(
    "objective",
    [
        partial(objectives.virtual_adversarial_training, attack=by_r),
        partial(objectives.ladder, weights=(1.0,)),
    ],
)
def test_vat_refuses_a_batch_without_unlabeled_inputs(objective):
    batch = {name: BATCH[name] for name in ("x", "y")}
    with pytest.raises(ValueError) as error:
        objective(linear, {"params": W}, batch, key=KEY)
    assert str(error.value) == "batch must have unlabeled, got x, y"
