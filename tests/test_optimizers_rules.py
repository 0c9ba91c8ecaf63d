"""optimizers: the adaptive rules, the bold driver and the penalties, against loops in NumPy."""

import json
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adv_jax import optimizers
from adv_jax.runner.config.document import ConfigError
from adv_jax.runner.config.optimizer import optimizer

PROMOTION = partial(jax.numpy_dtype_promotion, "standard")  # as optax needs it
START = np.array([1.0, -2.0, 0.5])
GRADIENTS = np.random.default_rng(0).normal(size=(7, 3)) * [1, 10, 0.1]


def many_steps(spec, start, gradients, values=None, *, steps_per_epoch=1):
    """Returns the weights after each step: f32[T, *D]."""
    values = np.zeros(len(gradients)) if values is None else values
    with PROMOTION():
        run = steps_of(json.dumps(spec), steps_per_epoch)
        return np.asarray(run(*map(jnp.float32, (start, gradients, values))))


@cache
def steps_of(spec, steps_per_epoch):
    """The compiled loop of an optimizer, whose spec is JSON."""
    optim = optimizer(json.loads(spec), steps_per_epoch=steps_per_epoch)

    def step(carry, given):
        params, state = carry
        gradient, value = given
        updates, state = optim.update(gradient, state, params, value=value)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    def run(start, gradients, values):
        return jax.lax.scan(step, (start, optim.init(start)), (gradients, values))[1]

    return jax.jit(run)


def adagrad(gradients):
    """Duchi's rule: all squares so far count alike; optax begins their sum at .1."""
    squares = 0.1 + np.cumsum(gradients**2, axis=0)
    return -0.5 * gradients / np.sqrt(squares + 1e-7)


def rmsprop(gradients):
    """Hinton's rule: an average of squares with decay .9."""
    square, updates = np.zeros(3), []
    for g in gradients:
        square = 0.9 * square + 0.1 * g**2
        updates.append(-0.5 * g / np.sqrt(square + 1e-8))
    return np.array(updates)


def adadelta(gradients):
    """[zeiler2012], Algorithm 1, with rho .95 and eps 1e-6 and no learning rate."""
    square, moved, updates = np.zeros(3), np.zeros(3), []
    for g in gradients:
        square = 0.95 * square + 0.05 * g**2
        update = -np.sqrt(moved + 1e-6) / np.sqrt(square + 1e-6) * g
        moved = 0.95 * moved + 0.05 * update**2
        updates.append(update)
    return np.array(updates)


RULES = {
    "adagrad": (adagrad, {"learning_rate": 0.5}),
    "rmsprop": (rmsprop, {"learning_rate": 0.5}),
    "adadelta": (adadelta, {}),
}


@pytest.mark.parametrize("name", RULES)
def test_an_adaptive_rule_equals_the_loop_of_its_source(name):
    updates, settings = RULES[name]
    found = many_steps({"name": name, **settings}, START, GRADIENTS)
    expected = START + np.cumsum(updates(GRADIENTS), axis=0)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", RULES)
def test_an_adaptive_rule_descends_without_further_settings(name):
    _, settings = RULES[name]
    found = many_steps({"name": name, **settings}, START, np.sign([START] * 3))
    assert (np.sign(START - found) == np.sign(START)).all()


@pytest.mark.slow
@given(st.floats(1e-3, 1e3), st.sampled_from(["adagrad", "rmsprop"]))
def test_the_first_update_of_an_adaptive_rule_barely_depends_on_the_scale(scale, name):
    # Without the constants in the roots it is exactly independent.
    settings = {"initial_accumulator_value": 0.0} if name == "adagrad" else {}
    spec = {"name": name, "learning_rate": 1.0, "eps": 1e-20, **settings}
    once = lambda g: many_steps(spec, START, [g])[0] - START
    np.testing.assert_allclose(once(scale * GRADIENTS[0]), once(GRADIENTS[0]), rtol=1e-3)


def bold_driver(means, increase, decrease):
    """The factor in each epoch's last step: f64[epochs]."""
    scale, before, scales = 1.0, None, []
    for mean in means:
        if before is not None:
            scale *= increase if mean <= before else decrease
        before = mean
        scales.append(scale)
    return np.array(scales)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"increase": 0.5}, "increase must be a finite number of at least 1, got 0.5"),
        ({"decrease": 2.0}, "decrease must be a number from 0 to 1, got 2"),
        ({"accumulation_size": 0}, "accumulation_size must be a whole number of at least 1, got 0"),
    ],
)
def test_a_bold_driver_out_of_range_is_refused(settings, says):
    with pytest.raises(ValueError, match=says):
        optimizers.bold_driver(**settings)


def test_a_plateau_without_patience_is_refused_as_optax_would_reduce_after_gains():
    with pytest.raises(ValueError, match="patience must be a whole number of at least 1, got 0"):
        optimizers.PLATEAUS["reduce_on_plateau"](factor=0.5, patience=0)


@given(
    st.lists(st.integers(0, 5), min_size=6, max_size=6),
    st.sampled_from([(1.05, 0.5), (2.0, 0.25), (1.0, 1.0)]),
)
def test_the_bold_driver_compares_the_means_of_neighboring_epochs(means, factors):
    increase, decrease = factors
    driver = {"name": "bold_driver", "increase": increase, "decrease": decrease}
    spec = {"name": "sgd", "learning_rate": 1.0, "plateau": driver}
    # Losses within an epoch go up and down; sums of these numbers are exact.
    values = np.add.outer(means, [0.5, -1.0, 0.5]).ravel()
    found = many_steps(spec, 0.0, -np.ones(len(values)), values, steps_per_epoch=3)
    steps = np.diff(found, prepend=0).reshape(-1, 3)
    expected = bold_driver(means, increase, decrease)
    np.testing.assert_allclose(steps[:, 2], expected, rtol=1e-4)
    earlier = np.concatenate([[1], expected[:-1]])
    np.testing.assert_allclose(steps[:, :2], earlier[:, None].repeat(2, 1), rtol=1e-4)


def test_a_loss_of_nan_lowers_the_factor_once_and_the_next_epoch_keeps_it():
    spec = {"name": "sgd", "learning_rate": 1.0, "plateau": {"name": "bold_driver"}}
    found = many_steps(spec, 0.0, -np.ones(4), [1.0, np.nan, 5.0, 4.0])
    np.testing.assert_allclose(np.diff(found, prepend=0), [1, 0.5, 0.5, 0.525], rtol=1e-5)


@pytest.mark.slow
def test_the_bold_driver_finds_a_rate_for_a_bowl_that_its_first_one_crawls_in():
    # cost 9 p^2: the rate .001 multiplies p by .982 a step, 1/9 at most by 1.
    driver = {"name": "bold_driver", "increase": 1.1, "decrease": 0.5}

    @partial(jax.jit, static_argnums=0)
    def run(drives):
        spec = {"name": "sgd", "learning_rate": 0.001, "plateau": driver if drives else None}
        optim = optimizer(spec, steps_per_epoch=1)

        def step(carry, _):
            p, state = carry
            update, state = optim.update(18 * p, state, p, value=9 * p**2)
            return (p + update, state), None

        p = jnp.float32(1)
        return jax.lax.scan(step, (p, optim.init(p)), length=40)[0][0]

    def last(drives):
        with PROMOTION():
            return abs(float(run(drives)))

    assert last(False) == pytest.approx(0.982**40, rel=1e-3)
    assert last(True) < 0.1 * last(False)


def test_l1_adds_the_signs_of_weights_and_leaves_biases_alone():
    # W <- W - lr (g + l1 sign W), b <- b - lr g
    weights = {"kernel": np.array([[1.0, -2.0, 0.0]]), "bias": np.array([3.0, -1.0])}
    gradients = {"kernel": np.array([[0.5, 0.5, 0.0]]), "bias": np.array([0.5, 0.0])}
    with PROMOTION():
        optim = optimizer({"name": "sgd", "learning_rate": 0.1, "l1": 2.0}, steps_per_epoch=1)
        params, g = jax.tree.map(jnp.float32, (weights, gradients))
        updates, _ = optim.update(g, optim.init(params), params)
    np.testing.assert_allclose(updates["kernel"], [[-0.25, 0.15, 0.0]], rtol=1e-6)
    np.testing.assert_allclose(updates["bias"], [-0.05, 0.0], rtol=1e-6)


@pytest.mark.slow
def test_l1_and_weight_decay_have_the_gradient_of_their_loss_terms():
    rng = np.random.default_rng(3)
    w = jnp.float32(rng.normal(size=(4, 3)))
    penalty = lambda w: 0.3 * jnp.abs(w).sum() + 0.5 * 0.2 * jnp.square(w).sum()
    spec = {"name": "sgd", "learning_rate": 1.0, "l1": 0.3, "weight_decay": 0.2}
    [found] = many_steps(spec, w, [np.zeros((4, 3))])
    np.testing.assert_allclose(found, w - jax.grad(penalty)(w), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_annealing_schedules_count_epochs():
    cosine = {"name": "cosine_decay_schedule", "init_value": 0.1, "decay_steps": 2}
    power = {
        "name": "polynomial_schedule",
        "init_value": 0.1,
        "end_value": 0.0,
        "power": 2,
        "transition_steps": 2,
    }
    for schedule, expected in ((cosine, [0.1, 0.05, 0.0]), (power, [0.1, 0.025, 0.0])):
        spec = {"name": "sgd", "learning_rate": schedule}
        found = many_steps(spec, 0.0, -np.ones(6), steps_per_epoch=2)
        rates = np.diff(found, prepend=0).reshape(3, 2)
        np.testing.assert_allclose(rates, np.repeat(expected, 2).reshape(3, 2), atol=1e-7)


def test_a_schedule_without_its_length_is_refused_in_one_line():
    spec = {"name": "cosine_decay_schedule", "init_value": 0.1}
    with pytest.raises(ConfigError, match="optimizer.learning_rate.decay_steps must be given") as e:
        optimizer({"name": "adagrad", "learning_rate": spec}, steps_per_epoch=1)
    assert "\n" not in str(e.value)
