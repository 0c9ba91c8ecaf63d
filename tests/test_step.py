"""Identities of a step: scan, replicas and devices do not change the result."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from adv_jax import models, objectives
from adv_jax.runner.host.devices import Layout
from adv_jax.step import (
    TrainState,
    init_state,
    make_step,
    mean_over_shards,
    over_devices,
    over_replays,
    over_replicas,
    over_steps,
    shard_index,
)
from adv_jax.types import UserError

FEATURES, STEPS, BATCH = 3, 5, 8
# The same sums in another order or fusion: a few float32 roundings.
same = partial(np.testing.assert_allclose, rtol=2e-5, atol=1e-6)


def assert_same(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(same, found, expected)


def cut(tree, i):
    return jax.tree.map(lambda leaf: leaf[i], tree)


def stack(trees):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


@pytest.fixture(scope="module")
def batches():
    """STEPS batches of a linear problem, f32[S, B, D] and f32[S, B]."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(STEPS, BATCH, FEATURES)).astype(np.float32)
    y = (x @ [1.0, -2.0, 0.5] + 0.1 * rng.normal(size=(STEPS, BATCH))).astype(np.float32)
    return {"x": x, "y": y}


@pytest.fixture
def devices():
    """Returns four devices, which conftest.py requests."""
    if jax.local_device_count() < 4:
        pytest.skip("XLA_FLAGS gives fewer than four devices")
    return jax.local_devices()[:4]


def regression(variables, batch, *, key):
    """Squared error; model state and metrics are means over the batch."""
    del key
    error = batch["x"] @ variables["params"]["w"] + variables["params"]["b"] - batch["y"]
    metrics = {"absolute": jnp.mean(jnp.abs(error))}
    return jnp.mean(error**2), ({"stats": {"mean": batch["x"].mean(0)}}, metrics)


def noisy_regression(variables, batch, *, key, noise=0.5):
    """Squared error on inputs with noise of the step's key."""
    x = batch["x"] + noise * jax.random.normal(key, batch["x"].shape, jnp.float32)
    return regression(variables, {**batch, "x": x}, key=key)


def draw(variables, batch, *, key):
    """An objective without a gradient; its metric is a random number of the key."""
    del batch
    return jnp.sum(variables["params"]["w"]), ({}, {"draw": jax.random.uniform(key)})


MOMENTUM = optax.sgd(0.05, momentum=0.9)


def start(seed, hyper=None, optimizer=MOMENTUM):
    """Fresh weights that depend on the seed; traceable."""
    w = jax.random.normal(jax.random.key(seed), (FEATURES,), jnp.float32)
    params = {"w": w, "b": jnp.float32(0)}
    variables = {"params": params, "stats": {"mean": jnp.zeros(FEATURES, jnp.float32)}}
    return init_state(variables, optimizer, seed=seed, hyper=hyper)


def test_an_objective_that_leaves_out_batch_statistics_is_named():
    def stateless(variables, batch, *, key):
        return apply(variables, batch["x"], train=True, key=key).logits.mean(), ({}, {})

    def frozen(variables, batch, *, key):
        value, _ = stateless(variables, batch, key=key)
        return value, ({"batch_stats": variables["batch_stats"]}, {})

    net, batch = models.preact_resnet(stages=(4,), blocks=1, stem=4), {"x": jnp.ones((2, 8, 8, 1))}
    apply, variables = models.apply_fn(net), models.init(net, jax.random.key(0), batch["x"])
    state = init_state(variables, MOMENTUM, seed=0)
    with pytest.warns(UserWarning, match="^stateless returns no batch_stats, so that they stay as"):
        jax.eval_shape(make_step(stateless, MOMENTUM), state, batch)
    jax.eval_shape(make_step(frozen, MOMENTUM), state, batch)  # A warning is an error here.


def test_a_metric_called_loss_does_not_replace_the_loss():
    def named(variables, batch, *, key):
        loss, (model_state, metrics) = regression(variables, batch, key=key)
        return loss, (model_state, {**metrics, "loss": 7.0})

    batch = {"x": jnp.ones((2, FEATURES)), "y": jnp.ones(2)}
    for objective in (regression, named):
        _, metrics = make_step(objective, MOMENTUM)(start(0), batch)
        assert metrics["loss"] == regression(start(0).variables, batch, key=None)[0]


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        (lambda v, loss, state, metrics: (loss, (v, metrics)), r"\(float32\[\], \({params: "),
        (lambda v, loss, state, metrics: (loss[None], (state, metrics)), r"\(float32\[1\], "),
        (lambda v, loss, state, metrics: (loss.astype(int), (state, metrics)), r"\(.*int32"),
        (lambda v, loss, state, metrics: (loss, (state, None)), r"\(float32\[\], .*None"),
        (lambda v, loss, state, metrics: (loss, metrics), r"\(float32\[\], {absolute"),
        (lambda v, loss, state, metrics: loss, r"float32\[\]"),
    ],
)
def test_results_of_another_form_are_refused_with_the_name_of_the_objective(changed, found):
    def own(variables, batch, *, key):
        loss, (model_state, metrics) = regression(variables, batch, key=key)
        return changed(variables, loss, model_state, metrics)

    batch = {"x": jnp.ones((2, FEATURES)), "y": jnp.ones(2)}
    with pytest.raises(UserError, match=rf"^objective must return \(loss f32.*, got own: {found}"):
        make_step(own, MOMENTUM)(start(0), batch)


def test_one_sgd_step_equals_the_arithmetic_by_hand():
    def objective(variables, batch, *, key):
        del key
        loss = (variables["params"] * batch["x"] - batch["y"]) ** 2
        return loss, ({"count": variables["count"] + 1}, {"weight": variables["params"]})

    optimizer = optax.sgd(0.1)
    variables = {"params": jnp.float32(2), "count": jnp.int32(0), "fixed": jnp.float32(7)}
    state = init_state(variables, optimizer, seed=3)
    state, metrics = make_step(objective, optimizer)(state, {"x": 3.0, "y": 5.0})
    # (2 * 3 - 5)^2 = 1; its derivative is 2 * (6 - 5) * 3 = 6; 2 - .1 * 6 = 1.4.
    assert set(metrics) == {"loss", "weight"}
    assert metrics["loss"] == 1
    assert metrics["weight"] == 2
    np.testing.assert_allclose(state.params, 1.4, rtol=1e-6)
    assert state.step == 1
    assert state.seed == 3
    # The returned model state is updated, the rest is kept.
    assert state.variables["count"] == 1
    assert state.variables["fixed"] == 7


def test_momentum_and_weights_continue_from_the_last_step():
    def objective(variables, batch, *, key):
        del batch, key
        return 3 * variables["params"], ({}, {})

    optimizer = optax.sgd(0.1, momentum=0.5)
    state = init_state({"params": jnp.float32(1)}, optimizer, seed=0)
    for _ in range(3):
        state, _ = make_step(objective, optimizer)(state, {})
    # The gradient is 3; velocities 3, 1.5 + 3, 2.25 + 3 sum to 12.75; 1 - .1 * 12.75.
    np.testing.assert_allclose(state.params, -0.275, rtol=1e-5)


def test_k_single_steps_equal_one_scan_of_k(batches):
    step = make_step(noisy_regression, MOMENTUM)
    single, metrics = start(1), []
    for i in range(STEPS):
        single, measured = jax.jit(step)(single, cut(batches, i))
        metrics.append(measured)
    scanned, measured = jax.jit(over_steps(step))(start(1), batches)
    assert scanned.step == STEPS
    assert measured["loss"].shape == (STEPS,)
    assert_same(scanned, single)
    assert_same(measured, stack(metrics))


def test_the_key_of_a_step_is_a_function_of_seed_and_step():
    state = start(11)
    steps = jax.jit(over_steps(make_step(draw, MOMENTUM)))
    _, metrics = steps(state, jnp.zeros(4))
    keys = [jax.random.fold_in(jax.random.key(11), t) for t in range(4)]
    expected = [float(jax.random.uniform(key)) for key in keys]
    assert metrics["draw"].tolist() == expected
    assert len(set(expected)) == 4
    _, other = steps(start(12), jnp.zeros(4))
    assert not set(other["draw"].tolist()) & set(expected)


def test_a_resumed_run_repeats_the_draws_of_a_whole_run_bit_for_bit(batches):
    steps = jax.jit(over_steps(make_step(noisy_regression, MOMENTUM)))
    one_step = lambda state, i: steps(state, cut(batches, slice(i, i + 1)))
    whole = start(5)
    for i in range(STEPS):
        whole, _ = one_step(whole, i)
        if i == 2:
            saved = jax.tree.map(np.array, whole)
    resumed = jax.tree.map(jnp.asarray, saved)
    assert isinstance(resumed, TrainState)
    for i in range(3, STEPS):
        resumed, _ = one_step(resumed, i)
    jax.tree.map(np.testing.assert_array_equal, resumed, whole)


def with_hyper(state, batches):
    """Returns steps with the learning rate and noise of the replica."""
    objective = partial(noisy_regression, noise=state.hyper["noise"])
    return over_steps(make_step(objective, optax.sgd(state.hyper["rate"])))(state, batches)


@pytest.mark.slow
def test_a_replica_equals_a_single_run_with_the_same_seed(batches):
    steps = over_steps(make_step(noisy_regression, MOMENTUM))
    states, repeated = stack([start(s) for s in (3, 4, 9)]), stack([batches] * 3)
    alone = stack([jax.jit(steps)(start(s), batches) for s in (3, 4, 9)])
    assert len(np.unique(alone[0].params["w"][:, 0])) == 3
    for platform in ("cpu", "gpu", None):  # One after another, vectorized, that of the program.
        together = over_replicas(steps, platform=platform)
        assert_same(jax.jit(together)(states, repeated), alone)


@pytest.mark.slow
def test_a_traced_grid_value_equals_the_same_constant(batches):
    grid = [{"rate": r, "noise": n} for r in (0.01, 0.1) for n in (0.0, 0.7)]
    initial = partial(start, optimizer=optax.sgd(0.0))
    states = stack(
        [initial(2, {name: jnp.float32(v) for name, v in point.items()}) for point in grid]
    )
    expected = []
    for point in grid:
        objective = partial(noisy_regression, noise=point["noise"])
        steps = over_steps(make_step(objective, optax.sgd(point["rate"])))
        expected.append(jax.jit(steps)(initial(2), batches))
    assert len({float(state.params["w"][0]) for state, _ in expected}) == 4
    for platform in ("cpu", "gpu", None):
        together = over_replicas(with_hyper, platform=platform)
        found, metrics = jax.jit(together)(states, stack([batches] * 4))
        assert_same(found.params, stack([state.params for state, _ in expected]))
        assert_same(metrics, stack([metrics for _, metrics in expected]))


@pytest.mark.parametrize("platform", ["cpu", "gpu", None])
@pytest.mark.parametrize("count", [1, 2])
def test_replicas_may_return_numbers_of_python(platform, count):
    mapped = over_replicas(lambda x: (2 * x, 3.0), platform=platform)
    doubled, constant = mapped(jnp.arange(float(count)))
    np.testing.assert_array_equal(doubled, 2.0 * np.arange(count))
    np.testing.assert_array_equal(constant, np.full(count, 3.0))


@pytest.mark.parametrize(("platform", "loops"), [("cpu", 1), ("cuda", 0), ("tpu", 0)])
def test_replicas_form_a_loop_in_programs_for_cpus_only(platform, loops):
    traced = jax.jit(over_replicas(jnp.sin)).trace(jnp.zeros(3))
    program = traced.lower(lowering_platforms=(platform,)).as_text()
    assert program.count("stablehlo.while") == loops


def test_other_hyper_parameters_and_seeds_do_not_recompile(batches):
    traces = []

    def counted(state, batches):
        traces.append(1)
        return with_hyper(state, batches)

    run = jax.jit(over_replicas(counted))
    results = []
    for seed, rate in ((1, 0.01), (1, 0.2), (7, 0.2)):
        hyper = {"rate": jnp.float32(rate), "noise": jnp.float32(0.1)}
        state, _ = run(stack([start(seed, hyper, optax.sgd(0.0))]), stack([batches]))
        results.append(float(state.params["w"][0, 0]))
    assert len(traces) == 2  # The forms of both platforms, in one program.
    assert run._cache_size() == 1
    assert len(set(results)) == 3


@pytest.mark.slow
@pytest.mark.parametrize("used", [2, 4])
def test_replicas_spread_over_devices_equal_single_runs(used, batches, devices):
    steps = over_steps(make_step(noisy_regression, MOMENTUM))
    seeds = [3, 1, 4, 8]
    place = Layout(devices[:used], 1)
    run = over_devices(over_replicas(steps), place.devices)
    spread = place.spread((stack([start(s) for s in seeds]), stack([batches] * 4)))
    state, metrics = run(*spread)
    assert state.params["w"].shape == (used, 4 // used, FEATURES)
    assert state.params["w"].devices() == set(devices[:used])
    alone = stack([jax.jit(steps)(start(s), batches) for s in seeds])
    assert_same(place.gather((state, metrics)), alone)


def shards_of(batches, shards):
    """[S, B, ...] -> [shards, S, B / shards, ...]: neighboring rows stay together."""

    def cut_rows(leaf):
        parts = leaf.reshape(leaf.shape[0], shards, -1, *leaf.shape[2:])
        return np.swapaxes(parts, 0, 1)

    return jax.tree.map(cut_rows, batches)


@pytest.mark.slow
@pytest.mark.parametrize("shards", [2, 4])
def test_shards_of_a_batch_equal_one_device_with_the_whole_batch(shards, batches, devices):
    place = Layout(devices[:shards], shards)
    steps = over_steps(make_step(regression, MOMENTUM, shards=shards))
    states = place.spread(stack([start(6)]))
    state, metrics = over_devices(over_replicas(steps), place.devices)(
        states, jax.tree.map(lambda leaf: leaf[:, None], shards_of(batches, shards))
    )
    expected = jax.jit(over_steps(make_step(regression, MOMENTUM)))(start(6), batches)
    assert_same(cut(place.gather((state, metrics)), 0), expected)
    # Every device holds the same weights, so that it can go on alone.
    for leaf in jax.tree.leaves((state, metrics)):
        np.testing.assert_array_equal(leaf, np.broadcast_to(leaf[:1], leaf.shape))


@pytest.mark.parametrize("parts", [2, 4])
def test_microbatches_equal_the_whole_batch(parts, batches):
    whole, accumulated = (
        jax.jit(over_steps(make_step(regression, MOMENTUM, microbatches=count)))(start(6), batches)
        for count in (1, parts)
    )
    assert_same(accumulated, whole)


def test_microbatches_that_do_not_divide_the_batch_are_refused_in_one_line(batches):
    step = make_step(regression, MOMENTUM, microbatches=7)
    rows = len(batches["x"][0])
    with pytest.raises(ValueError, match=f"^microbatches must divide the {rows} rows .* got 7$"):
        step(start(6), jax.tree.map(lambda leaf: leaf[0], batches))


def test_microbatches_of_arrays_of_different_rows_are_refused(batches):
    batch = jax.tree.map(lambda leaf: leaf[0], batches)
    rows = len(batch["x"])
    batch["y"] = jnp.concatenate([batch["y"]] * 2)
    step = make_step(regression, MOMENTUM, microbatches=rows)
    with pytest.raises(ValueError, match="^batch .* equally many rows, got 8, 16 in {x: "):
        step(start(6), batch)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make_step(3, MOMENTUM), "objective must be a function, got 3"),
        (lambda: over_steps(3), "step must be a function, got 3"),
        (lambda: over_replicas(3), "fn must be a function, got 3"),
        (lambda: over_devices(3), "fn must be a function, got 3"),
        (lambda: over_devices(jnp.sum, []), "devices must be at least one device, got none"),
        (lambda: shard_index(0), "shards must be a whole number of at least 1, got 0"),
        (lambda: mean_over_shards(1.0, -2), "shards must be a whole number of at least 1, got -2"),
        (
            lambda: make_step(regression, MOMENTUM, microbatches=0),
            "microbatches must be a whole number of at least 1, got 0",
        ),
        (
            lambda: make_step(partial(objectives.free, None, eps=0.1), MOMENTUM, shards=2),
            "shards must be 1 for free, which keeps a state of whole batches, got 2",
        ),
        (
            lambda: make_step(partial(objectives.free, None, eps=0.1), MOMENTUM, microbatches=4),
            "microbatches must be 1 for free, which keeps a state of whole batches, got 4",
        ),
        (
            lambda: init_state({"params": {}}, MOMENTUM, seed=0.5),
            "seed must be a whole number from -2147483648 to 2147483647, got 0.5",
        ),
        (
            lambda: init_state({"params": {}}, MOMENTUM, seed=2**31),
            f"seed must be a whole number from -2147483648 to 2147483647, got {2**31}",
        ),
        (
            lambda: init_state({"params": {}}, MOMENTUM, seed=jax.random.PRNGKey(0)),
            r"seed must be a whole number from -2147483648 to 2147483647, got uint32\[2\]",
        ),
        (
            lambda: init_state({"params": {}}, MOMENTUM, seed=jnp.uint32(2**31)),
            "seed must be a whole number from -2147483648 to 2147483647, got "
            r"Array\(2147483648, dtype=uint32\)",
        ),
        (
            lambda: over_replicas(jnp.add, platform="gpu")(jnp.ones(1), jnp.ones(3)),
            r"arguments must be arrays of equally many replicas, got 1, 3 in .*",
        ),
        (
            lambda: over_replicas(jnp.add, platform="cpu")(jnp.ones(3), 1.0),
            r"arguments must be arrays of equally many replicas, got a scalar, 3 in .*",
        ),
        (
            lambda: over_steps(make_step(regression, MOMENTUM))(
                start(1), {"x": jnp.ones((3, 2)), "y": jnp.ones(2)}
            ),
            r"batches .* equally many steps, got 2, 3 in {x: float32\[3, 2\], y: f.*",
        ),
        (
            lambda: over_steps(make_step(regression, MOMENTUM))(start(1), None),
            "batches must be arrays of equally many steps, got None",
        ),
        (
            lambda: make_step(regression, MOMENTUM, shards=2)(start(1), {"x": jnp.ones((2, 2))}),
            "shards must be 1 outside over_devices, got 2",
        ),
        (
            lambda: make_step(objectives.trades, MOMENTUM),
            r"objective must be a function \(variables, batch, \*, key\), got one of \(apply, "
            r"variables, batch, key, attack, beta\): bind apply and attack with functools.partial",
        ),
        (
            lambda: make_step(lambda v, b, *, rng: 0, MOMENTUM),
            r"objective must be a function \(variables, batch, \*, key\), got one of \(v, b, rng\)"
            ": the key must be named key",
        ),
        (
            lambda: make_step(lambda v, b, c, *rest, key, beta, **more: 0, MOMENTUM),
            r"objective must be .* \(v, b, c, rest, key, beta, more\): bind c and beta with .*",
        ),
        (
            lambda: make_step(lambda variables: 0, MOMENTUM),
            r"objective must be a function \(variables, batch, \*, key\), got one of \(variables\)"
            ": the key must be named key",
        ),
        (
            lambda: make_step(regression, MOMENTUM)({"w": jnp.ones(2)}, {}),
            "state must be a TrainState of step.init_state, got a dict",
        ),
        (
            lambda: make_step(regression, MOMENTUM)(optax.sgd(0.1).init({}), {}),
            "state must be a TrainState of step.init_state, got a tuple",
        ),
        (
            lambda: objectives.cross_entropy(
                models.apply_fn(nn.Dense(2)),
                {"w": jnp.ones(2)},
                {"x": jnp.ones((1, 2)), "y": jnp.zeros(1, int)},
                key=None,
            ),
            r"variables must be a dict with params, got {w: float32\[2\]}",
        ),
        (
            lambda: init_state({"w": jnp.ones(2)}, MOMENTUM, seed=0),
            r"variables must be a dict with params, got {w: float32\[2\]}",
        ),
        (
            lambda: make_step(regression, "sgd"),
            r"optimizer must be an optax transformation such as optax.sgd\(0.1\), got 'sgd'",
        ),
        (
            lambda: init_state({"params": {}}, optax.sgd, seed=0),
            r"optimizer must be an optax transformation such as .*, got the function sgd",
        ),
        (lambda: over_replays(jnp.sin, 0), "times must be a whole number of at least 1, got 0"),
        (
            lambda: over_devices(jnp.sin, by="shardmap"),
            r"by must be one of pmap, shard_map, got 'shardmap'; did you mean 'shard_map'\?",
        ),
    ],
)
def test_bad_arguments_of_a_step_are_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        call()


def counting(variables, batch, *, key):
    del key
    state = {"steps": {"n": variables["steps"]["n"] + 1}}
    metrics = {"weight": 0.5, "rows": len(batch["x"])}
    return jnp.mean(batch["x"] @ variables["params"]["w"]), (state, metrics)


def test_microbatches_keep_the_dtype_of_a_state():
    # Neither twice the number nor its float32 would give it back.
    variables = {"params": {"w": jnp.ones(2)}, "steps": {"n": jnp.uint32(2**31 + 5)}}
    step = over_steps(make_step(counting, MOMENTUM, microbatches=2))
    state, metrics = step(init_state(variables, MOMENTUM, seed=0), {"x": jnp.ones((3, 4, 2))})
    count = state.model_state["steps"]["n"]
    assert (int(count), count.dtype) == (2**31 + 8, "uint32") and metrics["weight"].tolist() == [
        0.5
    ] * 3
    assert metrics["rows"].tolist() == [2.0] * 3


def test_many_microbatches_of_bfloat16_have_the_gradient_of_the_batch():
    """Each row's loss is w x with x = 1.34375, exact in bfloat16; a sum in it stops at 256."""

    def objective(variables, batch, *, key):
        return (variables["params"]["w"] * batch["x"]).mean(), ({}, {})

    state = init_state({"params": {"w": jnp.bfloat16(1)}}, optax.sgd(1.0), seed=0)
    step = make_step(objective, optax.sgd(1.0), microbatches=512)
    state, metrics = jax.jit(step)(state, {"x": jnp.full(1024, 1.34375, jnp.bfloat16)})
    assert (float(metrics["loss"]), metrics["loss"].dtype) == (1.34375, jnp.bfloat16)
    assert (float(state.params["w"]), state.params["w"].dtype) == (-0.34375, jnp.bfloat16)


def test_shards_and_microbatches_keep_keys_in_a_state(devices):
    def objective(variables, batch, *, key):
        state = {"key": jax.random.split(variables["rng"]["key"])[0], "drawn": key}
        return (variables["params"]["w"] * batch["x"]).mean(), ({"rng": state}, {})

    rng = {"key": jax.random.key(3), "drawn": jax.random.key(0)}
    variables = {"params": {"w": jnp.ones(1)}, "rng": rng}
    state, batch = init_state(variables, MOMENTUM, seed=0), {"x": jnp.ones(2)}
    split = jax.random.key_data(jax.random.split(jax.random.key(3))[0])
    in_parts, _ = make_step(objective, MOMENTUM, microbatches=2)(state, batch)
    sharded = over_devices(make_step(objective, MOMENTUM, shards=2), devices[:2])
    on_devices, _ = sharded(stack([state] * 2), stack([batch] * 2))
    for key in (in_parts.model_state["rng"]["key"], *on_devices.model_state["rng"]["key"]):
        np.testing.assert_array_equal(jax.random.key_data(key), split)
    # The key of a step differs between shards, whose states are the same.
    one, other = jax.random.key_data(on_devices.model_state["rng"]["drawn"])
    np.testing.assert_array_equal(one, other)


def test_shards_keep_the_dtype_of_a_state_and_must_divide_the_devices(devices):
    variables = {"params": {"w": jnp.ones(2)}, "steps": {"n": jnp.uint32(2**31 + 5)}}
    states = stack([init_state(variables, MOMENTUM, seed=0)] * 4)
    batches = {"x": jnp.ones((4, 1, 2))}
    run = lambda shards: over_devices(make_step(counting, MOMENTUM, shards=shards), devices[:4])
    state, metrics = run(2)(states, batches)
    counts = state.model_state["steps"]["n"]
    assert counts.dtype == "uint32" and counts.tolist() == [2**31 + 6] * 4
    assert metrics["weight"].tolist() == [0.5] * 4
    with pytest.raises(UserError, match="^shards must divide the 4 devices of over_devices, got 3"):
        run(3)(states, batches)


def test_microbatches_draw_different_numbers():
    def drawn(variables, batch, *, key):
        del batch
        first = jax.random.uniform(key)
        return jnp.sum(variables["params"]["w"]), ({}, {"draw": first, "square": first**2})

    step = make_step(drawn, MOMENTUM, microbatches=2)
    _, metrics = jax.jit(step)(start(6), {"x": jnp.zeros((2, 1))})
    # The mean of squares exceeds the square of the mean unless both numbers are equal.
    assert metrics["square"] > metrics["draw"] ** 2 + 1e-6


@pytest.mark.slow
def test_two_replicas_of_two_shards_do_not_mix(batches, devices):
    place = Layout(devices, 2)
    steps = over_steps(make_step(regression, MOMENTUM, shards=2))
    other = jax.tree.map(lambda leaf: -3 * leaf[::-1], batches)
    halves = np.concatenate  # Devices 0 and 1 take the first replica, 2 and 3 the second.
    parts = jax.tree.map(lambda *p: halves(p)[:, None], shards_of(batches, 2), shards_of(other, 2))
    states = place.spread(stack([start(6), start(7)]))
    found = place.gather(over_devices(over_replicas(steps), devices)(states, parts))
    whole = jax.jit(over_steps(make_step(regression, MOMENTUM)))
    assert_same(cut(found, 0), whole(start(6), batches))
    assert_same(cut(found, 1), whole(start(7), other))


@pytest.mark.slow
def test_shards_of_a_replica_draw_different_numbers(devices):
    place = Layout(devices, 2)
    steps = over_steps(make_step(draw, MOMENTUM, shards=2))
    states = place.spread(stack([start(6), start(7)]))
    _, metrics = over_devices(over_replicas(steps), devices)(states, jnp.zeros((4, 1, 2)))
    for found, seed in zip(place.gather(metrics)["draw"], (6, 7), strict=True):
        for t in range(2):
            key = jax.random.fold_in(jax.random.key(seed), t)
            draws = [jax.random.uniform(jax.random.fold_in(key, shard)) for shard in (0, 1)]
            assert draws[0] != draws[1]
            same(found[t], np.mean(draws))


def test_over_devices_deletes_donated_buffers(devices):
    add = over_devices(lambda a, b: a + b, devices[:2], donate=(0,))
    a, b = (jax.pmap(lambda x: 2 * x, devices=devices[:2])(jnp.ones((2, 3))) for _ in range(2))
    np.testing.assert_array_equal(add(a, b), 4 * np.ones((2, 3)))
    assert a.is_deleted()
    assert not b.is_deleted()


@pytest.mark.slow
@pytest.mark.parametrize("shards", [1, 2])
def test_shard_map_gives_the_numbers_of_pmap(shards, batches, devices):
    place = Layout(devices, shards)
    steps = over_steps(make_step(noisy_regression, MOMENTUM, shards=shards))
    states = place.spread(stack([start(seed) for seed in range(4 // shards)]))
    train = over_replicas(steps, platform="cpu")

    def on_device(state, data):
        return train(state, jax.tree.map(lambda leaf: leaf[None], data))

    forms = [
        over_devices(on_device, devices, in_axes=(0, None), by=by)(states, batches)
        for by in ("pmap", "shard_map")
    ]
    assert_same(*forms)
    assert len(np.unique(forms[0][0].params["w"][:, 0, 0])) == 4 // shards


def test_shard_map_takes_the_axes_of_pmap(devices):
    a, b = jnp.zeros((2, 2)), jnp.arange(4.0).reshape(2, 2)
    forms = [
        over_devices(jnp.add, devices[:2], in_axes=(0, 1), by=by)(a, b)
        for by in ("pmap", "shard_map")
    ]
    np.testing.assert_array_equal(*forms)
    np.testing.assert_array_equal(forms[1], b.T)


def test_shard_map_of_more_entries_than_devices_is_refused(devices):
    fn = over_devices(jnp.sin, devices[:2], by="shard_map")
    allowed = "arrays with one entry for each of 2 devices"
    with pytest.raises(ValueError, match=rf"^arguments must be {allowed}, got float32\[4, 3\]"):
        fn(jnp.ones((4, 3)))


def test_shard_map_deletes_donated_buffers(devices):
    add = over_devices(lambda a, b: a + b, devices[:2], donate=(0,), by="shard_map")
    a, b = (jax.pmap(lambda x: 2 * x, devices=devices[:2])(jnp.ones((2, 3))) for _ in range(2))
    np.testing.assert_array_equal(add(a, b), 4 * np.ones((2, 3)))
    assert a.is_deleted()
    assert not b.is_deleted()
