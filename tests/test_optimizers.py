"""optimizers: the papers' schedules and update rules, epoch by epoch, against loops in NumPy."""

import runpy
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from adv_jax import optimizers
from adv_jax.runner.config.optimizer import optimizer
from adv_jax.types import UserError


@pytest.fixture(autouse=True)
def _promotion_as_optax_needs():
    with jax.numpy_dtype_promotion("standard"):
        yield


def spec_of(config):
    path = Path(__file__).parents[1] / "configs" / f"{config}.py"
    return runpy.run_path(str(path))["get_config"]().to_dict()["optimizer"]


# The program of [rasmus2015], run.py: 150 epochs, decay .67; 150 (1 - .67) = 49.5.
LADDER_RATE = spec_of("ladder_mnist")["learning_rate"]
# The shallow-net thesis, p. 42: momentum .5 in epoch 1, .99 from epoch 10 on.
SHALLOW = spec_of("shallow_mnist")


def rates(spec, *, steps_per_epoch, steps):
    """Returns the step sizes of plain SGD: the updates for a gradient of -1."""
    optim = optimizer(spec, steps_per_epoch=steps_per_epoch)

    def step(state, _):
        update, state = optim.update(jnp.float32(-1), state)
        return state, update

    _, updates = jax.lax.scan(step, optim.init(jnp.float32(0)), None, length=steps)
    return np.asarray(updates)


def test_the_learning_rate_of_the_ladder_is_constant_within_an_epoch_and_decays():
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


def test_momentum_rises_over_ten_epochs_as_in_pylearn2():
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

    optim = optimizer(SHALLOW, steps_per_epoch=steps_per_epoch)

    def step(carry, g):
        p, state = carry
        update, state = optim.update(g, state, p)
        p = optax.apply_updates(p, update)
        return (p, state), p

    start = jnp.array([1.0, -2.0])
    _, found = jax.lax.scan(step, (start, optim.init(start)), jnp.float32(gradients))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_adam_has_the_constants_of_the_paper_and_the_scheduled_rate():
    # [kingma2015], Algorithm 1: beta1 .9, beta2 .999, eps 1e-8.
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


def test_piecewise_and_exponential_schedules_count_epochs():
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


def test_the_learning_rate_may_be_traced():
    def moved(rate):
        optim = optimizer({"name": "sgd", "learning_rate": rate}, steps_per_epoch=2)
        return optim.update(jnp.float32(-1), optim.init(jnp.float32(0)))[0]

    found = jax.jit(jax.vmap(moved))(jnp.array([0.1, 0.2]))
    np.testing.assert_allclose(found, [0.1, 0.2], rtol=1e-6)


def many_steps(spec, params, gradients, values=None, *, steps_per_epoch=1):
    """Returns the weights after each step, a list of trees."""
    optim = optimizer({"name": "sgd", **spec}, steps_per_epoch=steps_per_epoch)

    @jax.jit
    def step(params, state, gradient, value):
        updates, state = optim.update(gradient, state, params, value=value)
        return optax.apply_updates(params, updates), state

    state, found = optim.init(params), []
    for i, gradient in enumerate(gradients):
        value = 0.0 if values is None else values[i]
        params, state = step(params, state, gradient, jnp.float32(value))
        found.append(params)
    return found


def layers(count, *, seed=0, scale=1.0):
    """Trees like the weights of a convolution and of a full layer, with biases."""
    rng = np.random.default_rng(seed)
    shapes = {"conv": {"kernel": (3, 3, 2, 4), "bias": (4,)}, "full": {"kernel": (6, 3)}}
    draw = lambda shape: (scale * rng.normal(size=shape)).astype(np.float32)
    is_shape = lambda leaf: isinstance(leaf, tuple)
    return [jax.tree.map(draw, shapes, is_leaf=is_shape) for _ in range(count)]


def test_weight_decay_momentum_and_max_norm_equal_a_numpy_loop():
    # g <- grad + lambda W of weights, v <- m v + g, W <- W - lr v, and each unit's weights are
    # scaled down into the ball; biases decay not and are free.
    rate, decay, momentum, largest = 0.5, 0.1, 0.9, 2.0
    [start], gradients = layers(1), layers(6, seed=1)
    spec = {
        "learning_rate": rate,
        "momentum": momentum,
        "weight_decay": decay,
        "max_norm": largest,
    }
    found = many_steps(spec, start, gradients)
    w = jax.tree.map(np.float64, start)
    v = jax.tree.map(np.zeros_like, w)
    scaled = 0
    for gradient, after in zip(gradients, found, strict=True):
        for layer, part in (("conv", "kernel"), ("conv", "bias"), ("full", "kernel")):
            is_weight = part == "kernel"
            g = gradient[layer][part] + (decay * w[layer][part] if is_weight else 0)
            v[layer][part] = momentum * v[layer][part] + g
            w[layer][part] = w[layer][part] - rate * v[layer][part]
            for unit in range(w[layer][part].shape[-1]) if is_weight else ():
                norm = np.sqrt((w[layer][part][..., unit] ** 2).sum())
                scaled += norm > largest
                w[layer][part][..., unit] *= min(1, largest / norm)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), after, w)
    assert 7 < scaled < 42  # Some of the seven units in some of the six steps.


@pytest.mark.parametrize("rate", [0.01, 1.0, 100.0])
def test_the_weights_of_each_unit_stay_inside_max_norm(rate):
    [start], largest = layers(1, scale=0.01), 4.0
    found = many_steps({"learning_rate": rate, "max_norm": largest}, start, layers(20, seed=2))
    for after in found:
        for kernel in (after["conv"]["kernel"], after["full"]["kernel"]):
            norms = np.sqrt(np.square(np.float64(kernel)).sum(tuple(range(kernel.ndim - 1))))
            assert (norms <= largest * (1 + 1e-6)).all()
    # Biases may grow, and where nothing grows so far the ball is not felt.
    bias = np.abs(found[-1]["conv"]["bias"])
    assert (bias > largest).any() == (rate >= 1)
    if rate == 0.01:
        free = many_steps({"learning_rate": rate}, start, layers(20, seed=2))
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5), found[-1], free[-1])


def test_nesterov_without_momentum_is_refused():
    with pytest.raises(ValueError, match=r"^momentum must be .* with nesterov=True, got None$"):
        optimizers.sgd(0.1, nesterov=True)


def test_the_convolution_scale_reduces_the_rate_of_convolutions_only():
    [start], gradients = layers(1), layers(6, seed=1)
    spec = {"learning_rate": 0.5, "momentum": 0.9, "weight_decay": 0.1}
    found = many_steps(spec | {"convolution_scale": 0.05}, start, gradients)[-1]
    slow = many_steps(spec | {"learning_rate": 0.025}, start, gradients)[-1]
    fast = many_steps(spec, start, gradients)[-1]
    close = partial(jax.tree.map, partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6))
    close(found, {"conv": slow["conv"], "full": fast["full"]})


PLATEAU = {"name": "reduce_on_plateau", "factor": 0.5, "patience": 3}


def test_the_rate_is_halved_after_three_epochs_without_a_new_minimum():
    # Means of the epochs: a new minimum counts if it is lower by a ten-thousandth at least.
    script = [
        (2.0, 1.0),
        (1.0, 1.0),
        (1.5, 1.0),
        (0.99995, 1.0),  # not low enough
        (1.2, 0.5),  # the third without: halved
        (1.1, 0.5),
        (0.9, 0.5),  # a new minimum, the count begins anew
        (0.95, 0.5),
        (0.9, 0.5),
        (0.91, 0.25),
        (0.92, 0.25),
        (0.93, 0.25),
        (0.94, 0.125),
    ]
    # Losses within an epoch go up and down; the mean is the script's.
    values = [mean + swing for mean, _ in script for swing in (0.6, -0.9, 0.3)]
    spec = {"learning_rate": 2.0, "plateau": PLATEAU}
    gradients = [jnp.float32(-1)] * len(values)
    weights = many_steps(spec, jnp.float32(0), gradients, values, steps_per_epoch=3)
    rates = np.diff([0, *weights]).reshape(-1, 3) / 2
    # An epoch's last step is the first with the rate that its own mean has led to.
    expected = [scale for _, scale in script]
    np.testing.assert_allclose(rates[:, 2], expected, rtol=1e-4)
    np.testing.assert_allclose(rates[1:, :2], np.repeat(expected[:-1], 2).reshape(-1, 2), rtol=1e-4)


def test_eight_halvings_of_the_rate_are_exact_in_the_optimizer_state():
    # The stopping rule compares this scale: powers of .5 are exact.
    spec = {"name": "sgd", "learning_rate": 0.1, "momentum": 0.9, "max_norm": 4.0}
    optim = optimizer(spec | {"plateau": PLATEAU | {"patience": 1}}, steps_per_epoch=1)
    params = jnp.ones((2, 2))
    state = optim.init(params)
    update = jax.jit(lambda state: optim.update(params, state, params, value=jnp.float32(1))[1])
    scales = []
    for _ in range(9):
        state = update(state)
        scales.append(float(optax.tree.get(state, "scale")))
    assert scales == [0.5**n for n in range(9)]


@pytest.mark.parametrize(
    ("make", "missing"),
    [
        (lambda: optimizers.averaged(optimizers.sgd(0.1), optimizers.ema(0.5)), "params"),
        (lambda: optimizers.sgd(0.1, l1=0.1), "params"),
        (lambda: optimizers.sgd(0.1, max_norm=1.0), "params"),
        (optimizers.bold_driver, "value"),
        (lambda: optimizers.sgd(0.1, plateau=optimizers.bold_driver()), "value"),
    ],
)
def test_an_update_without_an_argument_that_it_needs_is_refused(make, missing):
    params, optim = {"w": jnp.ones((2, 2))}, make()
    with pytest.raises(UserError, match=f"^{missing} must be given to update, got None$"):
        optim.update(params, optim.init(params))


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda found: optimizers.sgd(0.1, plateau=found), "plateau"),
        (lambda found: optimizers.averaged(found, optimizers.ema(0.5)), "optimizer"),
        (lambda found: optimizers.players(conv=found), "conv"),
        (lambda found: optimizers.players(conv={"kernel": found}), "conv.kernel"),
    ],
)
@pytest.mark.parametrize("found", [3, "sgd"])
def test_an_argument_that_is_not_an_optimizer_is_refused(make, name, found):
    allowed = "an optax transformation such as .*"
    with pytest.raises(UserError, match=f"^{name} must be {allowed}, got {found!r}$"):
        make(found)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_the_mean_of_many_parameters_of_16_bits_is_that_of_numpy(dtype):
    values = jnp.asarray(np.random.default_rng(0).uniform(1, 2, 600), dtype)
    optim = optimizers.averaged(optax.identity(), optimizers.swa(1, 1))
    still = lambda value: {"w": jnp.zeros_like(value)}
    step = lambda state, value: (optim.update(still(value), state, {"w": value})[1], None)
    state, _ = jax.lax.scan(step, optim.init({"w": values[0]}), values)
    assert state.average["w"].dtype == jnp.float32
    np.testing.assert_allclose(state.average["w"], np.float64(values).mean(), rtol=1e-5)


def test_weights_of_an_average_that_are_not_a_function_are_refused():
    with pytest.raises(UserError, match="^weight must be a function such as ema.*, got 0.5$"):
        optimizers.averaged(optimizers.sgd(0.1), 0.5)


SCHEDULES = optimizers.SCHEDULES


@pytest.mark.parametrize(
    "make",
    [
        partial(SCHEDULES["linear_schedule"], 0.1, 0.01),
        partial(SCHEDULES["polynomial_schedule"], 0.1, 0.01, 1),
        partial(SCHEDULES["exponential_decay"], 0.1, decay_rate=0.5),
    ],
)
@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"transition_steps": -3}, "transition_steps must be a finite number above 0, got -3"),
        ({"transition_steps": 0}, "transition_steps must be a finite number above 0, got 0"),
        (
            {"transition_steps": 3, "transition_begin": -5},
            "transition_begin must be a finite number of at least 0, got -5",
        ),
    ],
)
def test_a_transition_of_no_length_or_before_the_first_epoch_is_refused(make, settings, says):
    with pytest.raises(UserError, match=f"^{says}$"):
        make(**settings)


def test_an_exponential_decay_to_zero_at_once_is_refused():
    # optax would keep the initial value.
    with pytest.raises(UserError, match="^decay_rate must be a finite number above 0, got 0$"):
        SCHEDULES["exponential_decay"](0.1, 3, 0)


@pytest.mark.parametrize("steps", [0, -2, 2.5])
def test_epochs_without_a_whole_number_of_steps_are_refused(steps):
    says = f"^steps_per_epoch must be a whole number of at least 1, got {steps}$"
    with pytest.raises(UserError, match=says):
        optimizers.in_epochs(optax.constant_schedule(0.1), steps)


@pytest.mark.parametrize("array", [tuple, np.array, jnp.array])
def test_the_boundaries_of_a_piecewise_schedule_may_be_an_array(array):
    schedule = SCHEDULES["piecewise_constant"]((0.3, 0.2, 0.1), array([1, 3]))
    np.testing.assert_allclose([schedule(t) for t in range(4)], [0.3, 0.2, 0.2, 0.1], rtol=1e-6)
    for boundaries in ([3, 1], [3, 3]):
        with pytest.raises(UserError, match="^boundaries must increase, got "):
            SCHEDULES["piecewise_constant"]((0.3, 0.2, 0.1), array(boundaries))


@pytest.mark.parametrize(
    ("values", "boundaries", "says"),
    [
        ([], [], "values must have at least 1 entry, got 0"),
        ((0.1, 0.2), (1, 2), "boundaries must have 1 entries, one less than values, got 2"),
    ],
)
def test_values_and_boundaries_that_do_not_fit_are_refused(values, boundaries, says):
    with pytest.raises(UserError, match=f"^{says}$"):
        SCHEDULES["piecewise_constant"](values, boundaries)
