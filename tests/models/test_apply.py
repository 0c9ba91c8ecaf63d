"""models.apply_fn and models.init: Linen modules of users, as Flax' own `apply` runs them."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adv_jax import attacks, models
from adv_jax.types import UserError

X = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)
KEY = jax.random.key(1)


class Plain(nn.Module):
    """Returns logits and has no mode."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(nn.relu(nn.Dense(4)(x)))


class Training(nn.Module):
    """Batch normalization; `training` is the mode."""

    @nn.compact
    def __call__(self, x, training):
        return nn.Dense(3)(nn.BatchNorm(use_running_average=not training, momentum=0.5)(x))


class Deterministic(nn.Module):
    """Dropout; `deterministic` is the mode."""

    @nn.compact
    def __call__(self, x, *, deterministic):
        return nn.Dense(3)(nn.Dropout(0.5)(x, deterministic=deterministic))


class Wordy(nn.Module):
    @nn.compact
    def __call__(self, x):
        return {"logits": nn.Dense(3)(x)}


@pytest.mark.slow
def test_a_module_that_returns_only_logits_runs_as_in_flax():
    for model in (Plain(), nn.Sequential([nn.Dense(4), nn.relu, nn.Dense(3)])):
        variables = models.init(model, KEY, X)
        logits, extras, state = models.apply_fn(model)(variables, X)
        np.testing.assert_array_equal(logits, model.apply(variables, X))
        assert extras == {} and state == {}


@pytest.mark.slow
def test_training_updates_batch_statistics_and_testing_uses_stored_ones():
    model = Training()
    variables = models.init(model, KEY, X)
    apply = models.apply_fn(model)
    expected, changed = model.apply(variables, X, training=True, mutable=["batch_stats"])
    logits, _, state = apply(variables, X, train=True)
    np.testing.assert_array_equal(logits, expected)
    # momentum .5: half of the mean of the batch, from 0.
    mean = state["batch_stats"]["BatchNorm_0"]["mean"]
    np.testing.assert_allclose(mean, X.mean(axis=0) / 2, rtol=1e-5, atol=1e-7)
    logits, _, state = apply({**variables, **changed}, X)
    assert state == {}
    expected = model.apply({**variables, **changed}, X, training=False)
    np.testing.assert_array_equal(logits, expected)


def test_a_module_with_deterministic_gets_the_opposite_of_train():
    model = Deterministic()
    variables = models.init(model, KEY, X)
    apply = models.apply_fn(model)
    expected = model.apply(variables, X, deterministic=True)
    np.testing.assert_array_equal(apply(variables, X).logits, expected)
    noisy = model.apply(variables, X, deterministic=False, rngs={"noise": KEY, "dropout": KEY})
    found = apply(variables, X, train=True, key=KEY).logits
    np.testing.assert_array_equal(found, noisy)
    assert (found != expected).any()
    for off in (0, np.False_):
        np.testing.assert_array_equal(apply(variables, X, train=off).logits, expected)
    np.testing.assert_array_equal(apply(variables, X, train=1, key=KEY).logits, noisy)


def test_an_attack_takes_a_module_of_the_user():
    model = Plain()
    variables = models.init(model, KEY, X)
    apply = models.apply_fn(model)
    logits_fn = lambda x: apply(variables, x).logits
    x_adv = attacks.fgsm(logits_fn, jnp.asarray(X), None, eps=0.1)
    assert float(jnp.abs(x_adv - X).max()) == pytest.approx(0.1, rel=1e-5)


def test_a_module_with_another_output_is_refused_in_one_line():
    model = Wordy()
    message = r"Wordy must return logits f32\[B, K\] or \(logits, extras\), got a dict"
    with pytest.raises(UserError, match=message):
        models.apply_fn(model)(models.init(model, KEY, X), X)


def test_what_is_no_linen_module_is_refused_in_one_line():
    said = "^model must be a module of Flax Linen, got a function$"
    with pytest.raises(UserError, match=said):
        models.apply_fn(lambda x: x)
    with pytest.raises(UserError, match=said):
        models.init(lambda x: x, jax.random.key(0), jnp.ones((2, 3)))


def test_a_method_that_needs_more_is_refused_with_what_it_lacks():
    model = models.mlp(features=(4,), num_classes=2)
    apply, variables = models.apply_fn(model), models.init(model, KEY, X)
    lacks = r"got MLP\.represent: missing a required argument: 'layer'$"
    with pytest.raises(
        UserError, match=rf"^model must have a method represent\(x, train\), {lacks}"
    ):
        apply(variables, X, method="represent")
    assert apply(variables, X, method="represent", layer=1).logits.shape == (len(X), 4)
