"""Objectives of models that compute in bfloat16: their losses are those of float32 logits."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from linear_net import linear

from adv_jax import objectives, step
from adv_jax.types import Output

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
W = jnp.asarray(RNG.normal(size=(5, 3)), jnp.bfloat16)
X = jnp.asarray(RNG.normal(size=(300, 5)), jnp.bfloat16)
BATCH = {"x": X, "y": jnp.asarray(RNG.integers(0, 3, 300)), "unlabeled": X, "second": 2 * X}


def in_float32(variables, x, *, train=False, key=None):
    """The same model, whose logits are float32 already."""
    return Output(linear(variables, x).logits.astype(jnp.float32), {}, {})


def moved(logits_fn, x, y, *, key=None):
    return x + jnp.asarray(0.5, x.dtype)


def teacher_fn(x):
    return x @ (2 * W)


# They need other models, or a state.
NOT_OF_LOGITS = {"certified", "denoising", "free", "ladder", "lwa_rep"}
SETTINGS = {
    "awp": {"objective": objectives.lwa},
    "tempered_cross_entropy": {"temperature": jnp.float32(3)},
    "distillation": {"temperature": 3.0, "teacher_fn": teacher_fn},
}


def objective_of(name):
    """Returns the objective with the settings that it needs."""
    whole = getattr(objectives, name)
    takes_attack = "attack" in inspect.signature(whole).parameters
    return partial(whole, **SETTINGS.get(name, {}), **({"attack": moved} if takes_attack else {}))


@pytest.mark.parametrize("name", sorted({*objectives.__all__} - NOT_OF_LOGITS))
def test_the_loss_is_that_of_float32_logits_and_its_gradient_in_bfloat16(name):
    def found(apply):
        loss = lambda params: objective_of(name)(apply, {"params": params}, BATCH, key=KEY)[0]
        return jax.value_and_grad(loss)(W)

    (loss, gradient), (expected, of_float32) = found(linear), found(in_float32)
    assert loss.dtype == jnp.float32
    assert float(loss) == float(expected) != float(expected.astype(jnp.bfloat16))
    assert gradient.dtype == jnp.bfloat16
    # Two losses of the same logits may add their gradients in bfloat16.
    np.testing.assert_allclose(*map(jnp.float32, (gradient, of_float32)), rtol=0.01, atol=2e-3)


@pytest.mark.slow
def test_the_perturbation_of_free_stays_in_float32_in_a_scan():
    params = {"params": W, **objectives.free.state(linear, {"params": W}, X)}
    state = step.init_state(params, optax.sgd(0.0), seed=0)
    run = step.over_steps(step.make_step(partial(objectives.free, linear, eps=0.1), optax.sgd(0.0)))
    batches = {name: jnp.stack([BATCH[name]] * 2) for name in ("x", "y")}
    state, metrics = run(state, batches)
    # Of a linear model the signs of the gradient are those of W (p - one-hot), mostly all along.
    w, x = np.float64(W), np.float64(X)
    p = np.float64(jax.nn.softmax(x @ w)) - np.eye(3)[np.asarray(BATCH["y"])]
    r = state.model_state["perturbation"]["r"]
    assert r.dtype == metrics["loss"].dtype == jnp.float32
    assert float(jnp.abs(r).max()) == np.float32(0.1)
    assert (np.asarray(r) == np.float32(0.1 * np.sign(p @ w.T))).mean() > 0.95
