"""objectives.free: Algorithm 1 of [shafahi2019] in NumPy, and its single pass."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracles
import pytest

from adv_jax import models, objectives
from adv_jax.step import init_state, make_step, over_replays, over_replicas, over_steps
from adv_jax.types import Output, UserError

KEY, EPS, BOUNDS = jax.random.key(0), 0.3, (-1.0, 1.0)
MOMENTUM = optax.sgd(0.1, momentum=0.9)
RNG = np.random.default_rng(0)
X = RNG.uniform(-1, 1, size=(2, 6, 5)).astype("f")
Y, W = RNG.integers(0, 3, size=(2, 6)), RNG.normal(size=(5, 3)).astype("f")


def linear(variables, x, *, train=False, key=None):
    assert train and "perturbation" not in variables
    return Output(x @ variables["params"], {}, {"seen": x.sum()})


def state_of(w, r):
    return {"params": jnp.asarray(w), "seen": jnp.float32(0), "perturbation": {"r": jnp.asarray(r)}}


def numpy_step(w, r, x, y, rate):
    """A replay of Algorithm 1: the loss and both updates, from one gradient."""
    x_adv = np.clip(x + r, *BOUNDS)
    by_logits = (oracles.softmax(x_adv @ w) - np.eye(3)[y]) / len(y)
    moved = r + EPS * np.sign(by_logits @ w.T)
    loss = oracles.cross_entropies(x_adv @ w, y).mean()
    return loss, w - rate * x_adv.T @ by_logits, np.clip(moved, -EPS, EPS)


def test_replays_carry_the_perturbation_to_the_next_batch_as_in_algorithm_1():
    rate, replays = 0.2, 3
    objective = partial(objectives.free, linear, eps=EPS, bounds=BOUNDS)
    step = over_replays(make_step(objective, optax.sgd(rate)), replays)
    batches = {"x": jnp.asarray(X), "y": jnp.asarray(Y)}
    variables = state_of(W, np.zeros_like(X[0]))
    state = init_state(variables, optax.sgd(rate), seed=0)
    state, metrics = jax.jit(over_steps(step))(state, batches)
    w, r, losses = np.float64(W), np.zeros(X[0].shape), []
    for x, y in zip(np.float64(X), Y, strict=True):
        of_batch = []
        for _ in range(replays):
            loss, w, r = numpy_step(w, r, x, y, rate)
            of_batch.append(loss)
        losses.append(np.mean(of_batch))
    assert state.step == 2 * replays
    np.testing.assert_allclose(state.params, w, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(state.variables["perturbation"]["r"], r, atol=1e-6)
    assert np.abs(r).max() == pytest.approx(EPS) and np.abs(r).min() < EPS
    np.testing.assert_allclose(metrics["loss"], losses, rtol=1e-5)
    assert state.variables["seen"] != 0


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_weights_get_the_gradient_of_plain_training_on_the_perturbed_batch(norm):
    model = models.mlp(features=(6,), num_classes=3, activation="tanh", dropout=(0.0, 0.5))
    apply = models.apply_fn(model)
    variables = models.init(model, KEY, X[0])
    r = 0.05 * RNG.normal(size=X[0].shape).astype("f")
    batch = {"x": jnp.asarray(X[0]), "y": jnp.asarray(Y[0])}

    def updates(objective, batch, extra):
        loss = lambda params: objective(apply, {"params": params, **extra}, batch, key=KEY)
        return jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])

    free = partial(objectives.free, eps=EPS, norm=norm)
    (value, (state, _)), gradient = updates(free, batch, {"perturbation": {"r": jnp.asarray(r)}})
    moved = batch | {"x": batch["x"] + r}
    (expected, _), plain = updates(objectives.cross_entropy, moved, {})
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7)
    close(value, expected)
    jax.tree.map(close, gradient, plain)
    order = {"linf": np.inf, "l2": 2}[norm]
    lengths = np.linalg.norm(state["perturbation"]["r"], ord=order, axis=1)
    assert lengths.max() == pytest.approx(EPS, rel=1e-5)


def test_replicas_and_a_resumed_run_equal_a_single_run():
    step = over_replays(make_step(partial(objectives.free, linear, eps=EPS), MOMENTUM), 2)
    steps = jax.jit(over_steps(step))
    batches = {"x": jnp.asarray(X), "y": jnp.asarray(Y)}
    state = init_state(state_of(W, np.zeros_like(X[0])), MOMENTUM, seed=0)
    whole, _ = steps(state, batches)
    first, last = (jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], batches) for i in (0, 1))
    saved = jax.tree.map(np.array, steps(state, first)[0])
    resumed, _ = steps(jax.tree.map(jnp.asarray, saved), last)
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, resumed, whole)
    twice = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), (state, batches))
    replicas, _ = jax.jit(over_replicas(over_steps(step)))(*twice)
    jax.tree.map(lambda found, one: close(found[1], one), replicas, whole)


@pytest.mark.slow
def test_a_step_costs_one_pass_through_the_net_forwards_and_backwards():
    model = models.mlp(features=(64, 64), num_classes=3)
    x = np.zeros((32, 48), "f")
    batch = {"x": jnp.asarray(x), "y": jnp.zeros(32, jnp.int32)}
    variables = models.init(model, KEY, x)

    def flops(objective, extra):
        step = make_step(partial(objective, models.apply_fn(model)), optax.sgd(0.1))
        state = init_state({**variables, **extra}, optax.sgd(0.1), seed=0)
        return jax.jit(step).lower(state, batch).compile().cost_analysis()["flops"]

    plain = flops(objectives.cross_entropy, {})
    free = flops(
        partial(objectives.free, eps=EPS), objectives.free.state(None, variables, batch["x"])
    )
    by_x = 2 * 32 * 48 * 64  # The gradient of the first layer's input is new.
    assert plain < free < 1.05 * (plain + by_x)


def test_a_batch_of_other_rows_than_the_perturbation_is_refused():
    batch = {"x": jnp.asarray(X[0, :4]), "y": jnp.asarray(Y[0, :4])}
    allowed = r"float32\[6, 5\], as the perturbation is, got float32\[4, 5\]"
    with pytest.raises(UserError, match=f"^x must be {allowed}$"):
        objectives.free(linear, state_of(W, X[0]), batch, key=KEY, eps=EPS)


def test_a_norm_without_a_convex_ball_is_refused():
    batch = {"x": jnp.asarray(X[0]), "y": jnp.asarray(Y[0])}
    with pytest.raises(UserError, match="^norm must be .*, got 'l0'"):
        objectives.free(linear, state_of(W, X[0]), batch, key=KEY, eps=EPS, norm="l0")


def test_bounds_in_the_wrong_order_are_refused():
    batch = {"x": jnp.asarray(X[0]), "y": jnp.asarray(Y[0])}
    with pytest.raises(UserError, match=r"^bounds must be \(lo, hi\) with lo < hi, got"):
        objectives.free(linear, state_of(W, X[0]), batch, key=KEY, eps=EPS, bounds=(1.0, 0.0))


@pytest.mark.slow
def test_integer_inputs_are_perturbed_as_their_floats():
    x, y = jnp.asarray(RNG.integers(0, 9, size=(6, 5))), jnp.asarray(Y[0])
    step = lambda x: objectives.free(
        linear, state_of(W, np.zeros((6, 5), "f")), {"x": x, "y": y}, key=KEY, eps=EPS
    )
    (loss, (state, _)), (expected, (other, _)) = step(x), step(x.astype(jnp.float32))
    assert loss == expected
    r = state["perturbation"]["r"]
    np.testing.assert_array_equal(r, other["perturbation"]["r"])
    np.testing.assert_allclose(np.abs(r), EPS, rtol=1e-5)
