"""optimizers: the papers' schedules and update rules, epoch by epoch, against loops in NumPy."""

import runpy
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from adv_jax.config import ConfigError
from adv_jax.optimizers import optimizer


def spec_of(config):
    path = Path(__file__).parents[1] / "configs" / f"{config}.py"
    return runpy.run_path(str(path))["get_config"]().to_dict()["optimizer"]


# Sec. 8.6 of settings_maronas.md: 150 epochs, decay .67; 150 (1 - .67) = 49.5.
LADDER_RATE = spec_of("ladder_mnist")["learning_rate"]
# The shallow-net thesis, p. 42: momentum .5 in epoch 1, .99 from epoch 10 on.
THESIS = spec_of("shallow_mnist")


def rates(spec, *, steps_per_epoch, steps):
    """The step sizes of plain SGD in each step: the update of a gradient of -1."""
    optim = optimizer(spec, steps_per_epoch=steps_per_epoch)

    def step(state, _):
        update, state = optim.update(jnp.float32(-1), state)
        return state, update

    _, updates = jax.lax.scan(step, optim.init(jnp.float32(0)), None, length=steps)
    return np.asarray(updates)


def test_the_ladders_rate_is_held_within_an_epoch_and_falls_as_designed():
    steps_per_epoch = 3
    found = rates(
        {"name": "sgd", "learning_rate": LADDER_RATE},
        steps_per_epoch=steps_per_epoch,
        steps=150 * steps_per_epoch,
    ).reshape(150, steps_per_epoch)
    np.testing.assert_array_equal(found, found[:, :1].repeat(steps_per_epoch, axis=1))
    epochs = np.arange(1, 151)
    expected = np.where(epochs <= 101, 1, (151 - epochs) / 49.5)
    np.testing.assert_allclose(found[:, 0] / 0.002, expected, rtol=1e-5, atol=1e-6)
    printed = {101: 1, 102: 0.990, 150: 0.020}
    for epoch, factor in printed.items():
        assert found[epoch - 1, 0] / 0.002 == pytest.approx(factor, abs=0.0005)


def test_momentum_rises_over_ten_epochs_by_the_rule_of_pylearn2():
    # v <- m v - lr g, p <- p + v, with m of the epoch: clip((epoch - 1) / 9, 0, 1) from .5 to .99.
    steps_per_epoch, epochs = 4, 13
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(epochs * steps_per_epoch, 2))
    p, v, expected = np.array([1.0, -2.0]), np.zeros(2), []
    for step, g in enumerate(gradients):
        epoch = 1 + step // steps_per_epoch
        m = 0.5 + 0.49 * np.clip((epoch - 1) / 9, 0, 1)
        v = m * v - 0.01 * g
        p = p + v
        expected.append(p)

    optim = optimizer(THESIS, steps_per_epoch=steps_per_epoch)

    def step(carry, g):
        p, state = carry
        update, state = optim.update(g, state, p)
        p = optax.apply_updates(p, update)
        return (p, state), p

    start = jnp.array([1.0, -2.0])
    _, found = jax.lax.scan(step, (start, optim.init(start)), jnp.float32(gradients))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_adam_has_the_papers_constants_and_the_scheduled_rate():
    # Kingma & Ba 2015, algorithm 1: beta1 .9, beta2 .999, eps 1e-8.
    schedule = LADDER_RATE | {"transition_begin": 1, "transition_steps": 2}
    optim = optimizer({"name": "adam", "learning_rate": schedule}, steps_per_epoch=2)
    gradients = np.random.default_rng(0).normal(size=(8, 3))
    p = jnp.zeros(3)
    state = optim.init(p)
    m, v, expected = np.zeros(3), np.zeros(3), np.zeros(3)
    for t, g in enumerate(gradients, start=1):
        update, state = optim.update(jnp.float32(g), state, p)
        p = optax.apply_updates(p, update)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        rate = 0.002 * np.clip(1 - ((t - 1) // 2 - 1) / 2, 0, 1)  # Epochs 0 to 3: 1, 1, .5, 0.
        expected -= rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        np.testing.assert_allclose(p, expected, rtol=1e-4, atol=1e-7)


def test_other_schedules_count_epochs_too():
    halved = {
        "name": "piecewise_constant",
        "values": (0.1, 0.05),
        "boundaries": (2,),
    }
    decayed = {
        "name": "exponential_decay",
        "init_value": 0.1,
        "transition_steps": 1,
        "decay_rate": 0.5,
    }
    for schedule, expected in (
        (decayed, [0.1, 0.1, 0.05, 0.05, 0.025, 0.025]),
        (halved, [0.1, 0.1, 0.1, 0.1, 0.05, 0.05]),
    ):
        found = rates({"name": "sgd", "learning_rate": schedule}, steps_per_epoch=2, steps=6)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_rate_may_be_traced_so_that_replicas_differ_in_it():
    def moved(rate):
        optim = optimizer({"name": "sgd", "learning_rate": rate}, steps_per_epoch=2)
        return optim.update(jnp.float32(-1), optim.init(jnp.float32(0)))[0]

    found = jax.jit(jax.vmap(moved))(jnp.array([0.1, 0.2]))
    np.testing.assert_allclose(found, [0.1, 0.2], rtol=1e-6)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"name": "adagrad", "learning_rate": 0.1}, "optimizer.name is 'adagrad'.*adam, sgd"),
        ({"learning_rate": 0.1}, "optimizer.name is missing; allowed are adam, sgd"),
        ({"name": "adam", "learning_rat": 0.1}, "optimizer.adam has no setting 'learning_rat'"),
        ({"name": "sgd"}, "optimizer.learning_rate is missing; sgd needs it"),
        ({"name": "adam", "learning_rate": 0.1, "momentum": 0.9}, "'momentum'"),
        (
            {"name": "sgd", "learning_rate": {"name": "linear", "init_value": 1}},
            "optimizer.learning_rate.name is 'linear'.*linear_schedule",
        ),
        (
            {"name": "sgd", "learning_rate": LADDER_RATE | {"begin": 3}},
            "optimizer.learning_rate.linear_schedule has no setting 'begin'",
        ),
        (
            {"name": "sgd", "learning_rate": 0.1, "momentun": LADDER_RATE},
            "optimizer.sgd has no setting 'momentun'.*momentum",
        ),
    ],
)
def test_an_unknown_name_or_keyword_is_refused_by_its_field(spec, words):
    with pytest.raises(ConfigError, match=words) as caught:
        optimizer(spec, steps_per_epoch=10)
    assert "\n" not in str(caught.value)
