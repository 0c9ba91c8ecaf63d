"""Attacks on a mesh of four devices equal attacks on one device."""

import functools

import attack_table
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attack_table import TABLE, K, marked
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from marks import exhaustive_after

from adv_jax import attacks, programs

P = PartitionSpec
# The specs of the weights.
REPLICATED = (P(), P())
BY_HIDDEN_UNITS = (P(None, "model"), P("model", None))
ROWS = 8
# The loops of these start from every kind of state.
FEW = ("jsma", "apgd-linf", "fab-linf", "square-linf", "carlini_wagner", "auto_attack")
each_attack = pytest.mark.parametrize("name", [marked(name, FEW[:1]) for name in TABLE])
# What holds for loops of all kinds in `shard_map`, and outside jit, holds in the other ways too.
REST = [name for name in TABLE if name not in FEW]
few_attacks = pytest.mark.parametrize("name", exhaustive_after(len(FEW), [*FEW, *REST]))
# The same sums in another order.
same = functools.partial(np.testing.assert_allclose, rtol=0, atol=2e-6)


def mesh(kind=AxisType.Auto):
    """Two groups of rows, by two parts of the hidden units."""
    return jax.make_mesh((2, 2), ("data", "model"), axis_types=(kind, kind))


@functools.cache
def problem():
    """Returns weights, x f32[8, 2, 3], y and a key for each row."""
    rng = np.random.default_rng(0)
    d = int(np.prod(attack_table.SHAPE))
    weights = jnp.float32(rng.normal(size=(d, 8))), jnp.float32(rng.normal(size=(8, K)))
    x = jnp.float32(rng.uniform(0.2, 0.8, (ROWS, *attack_table.SHAPE)))
    y = jnp.asarray(rng.integers(K, size=ROWS), jnp.int32)
    return weights, x, y, jax.random.split(jax.random.key(1), ROWS)


def logits_of(weights, x):
    hidden = jnp.tanh(x.reshape(len(x), -1) @ weights[0])
    return hidden @ weights[1]


def explicit_logits_of(weights, x):
    """The same net for weights that are sharded over the hidden units."""
    hidden = jnp.tanh(x.reshape(len(x), -1) @ weights[0])
    return jnp.einsum("bh,hk->bk", hidden, weights[1], out_sharding=P("data"))


def attacked(name, weights, x, y, keys, logits_of=logits_of):
    logits_fn = functools.partial(logits_of, weights)
    return attack_table.run(TABLE[name], x, y, 0.1, logits_fn=logits_fn, keys=keys)


def on_one_device(name):
    return jax.jit(functools.partial(attacked, name))(*problem())


def placed(mesh, weights=REPLICATED):
    """Returns the problem with its rows sharded over the axis "data"."""
    specs = tuple(NamedSharding(mesh, spec) for spec in weights)
    return jax.device_put(problem(), (specs, *(NamedSharding(mesh, P("data")),) * 3))


@pytest.mark.slow
@each_attack
def test_an_attack_in_shard_map_equals_the_attack_on_one_device(name):
    mapped = jax.shard_map(
        functools.partial(attacked, name),
        mesh=mesh(),
        in_specs=(P(), P("data"), P("data"), P("data")),
        out_specs=P("data"),
    )
    same(jax.jit(mapped)(*problem()), on_one_device(name))


@pytest.mark.slow
@few_attacks
def test_an_attack_with_explicit_axes_equals_the_attack_on_one_device(name):
    explicit = mesh(AxisType.Explicit)
    arrays = placed(explicit, weights=BY_HIDDEN_UNITS)
    run = functools.partial(attacked, name, logits_of=explicit_logits_of)
    with jax.set_mesh(explicit):
        found = jax.jit(run)(*arrays)
    same(found, on_one_device(name))
    # The result can be attacked again, or be the state of a loop.
    assert jax.typeof(found) == jax.typeof(arrays[1])


@pytest.mark.slow
@few_attacks
@pytest.mark.parametrize(
    "how", ["by hidden units", pytest.param("replicated", marks=pytest.mark.exhaustive)]
)
def test_an_attack_of_sharded_rows_with_automatic_axes_equals_the_attack_on_one_device(name, how):
    weights = REPLICATED if how == "replicated" else BY_HIDDEN_UNITS
    found = jax.jit(functools.partial(attacked, name))(*placed(mesh(), weights))
    same(found, on_one_device(name))


@each_attack
@pytest.mark.parametrize("kind", exhaustive_after(1, [AxisType.Explicit, AxisType.Auto]))
def test_a_call_outside_jit_follows_the_placement_of_its_arrays(name, kind):
    arrays = placed(mesh(kind))
    with jax.set_mesh(mesh(kind)):
        found = attacked(name, *arrays)
    same(found, on_one_device(name))


@pytest.mark.slow
def test_calls_outside_jit_share_a_program_over_placements():
    programs._programs.clear()
    weights, x, y, _ = problem()
    run = functools.partial(attacks.pgd, num_steps=3, eps=0.1)
    alone = run(lambda x: logits_of(weights, x), x, y)
    for parts in (REPLICATED, BY_HIDDEN_UNITS):
        there, x, y, _ = placed(mesh(), parts)
        found = run(lambda x, there=there: logits_of(there, x), x, y)
        same(found, alone)
        assert found.sharding.is_equivalent_to(x.sharding, x.ndim)
    # One without a mesh, one with it.
    assert len(programs._programs) == 2


@pytest.mark.slow
@few_attacks
def test_pmap_equals_the_attack_on_one_device(name):
    weights, *rows = problem()
    parts = [array.reshape(4, -1, *array.shape[1:]) for array in rows]
    mapped = jax.pmap(functools.partial(attacked, name), in_axes=(None, 0, 0, 0))
    same(mapped(weights, *parts).reshape(rows[0].shape), on_one_device(name))


@pytest.mark.parametrize("name", exhaustive_after(1, ["deepfool-l2", "pgd-linf", "auto_attack"]))
def test_each_device_can_attack_a_model_of_its_own_on_the_same_rows(name):
    weights, *rows = problem()
    stacked = tuple(jnp.stack([w, 2 * w]) for w in weights)
    mapped = jax.shard_map(
        lambda weights, *rows: attacked(name, tuple(w[0] for w in weights), *rows)[None],
        mesh=mesh(),
        in_specs=(P("data"), P(), P(), P()),
        out_specs=P("data"),
    )
    for found, factor in zip(jax.jit(mapped)(stacked, *rows), (1, 2), strict=True):
        own = tuple(factor * w for w in weights)
        same(found, jax.jit(functools.partial(attacked, name))(own, *rows))


@pytest.mark.slow
def test_the_jacobian_by_classes_and_features_work_with_explicit_axes():
    explicit = mesh(AxisType.Explicit)

    def run(weights, x, y, keys):
        logits_fn = functools.partial(logits_of, weights)
        jacobian = attacks.class_jacobian(logits_fn, x)
        return *jacobian, attacks.feature_adversary(logits_fn, x, x[::-1], eps=0.1, num_steps=3)

    with jax.set_mesh(explicit):
        found = jax.jit(run)(*placed(explicit))
    jax.tree.map(same, found, jax.jit(run)(*problem()))


@pytest.mark.slow
@pytest.mark.parametrize("how", exhaustive_after(1, ["shard_map", "explicit"]))
def test_expectations_and_straight_through_gradients_work_on_a_mesh(how):
    rounded = attacks.straight_through(lambda x: jnp.round(8 * x) / 8)

    def run(weights, x, y, keys):
        def noisy(x, key):
            return logits_of(weights, rounded(x) + 0.1 * jax.random.normal(key, x.shape))

        return attacks.pgd(attacks.expectation(noisy, 3), x, y, eps=0.1, num_steps=3, key=keys)

    there = mesh(AxisType.Explicit if how == "explicit" else AxisType.Auto)
    spread = run
    if how == "shard_map":
        specs = P(), P("data"), P("data"), P("data")
        spread = jax.shard_map(run, mesh=there, in_specs=specs, out_specs=P("data"))
    with jax.set_mesh(there):
        found = jax.jit(spread)(*placed(there))
    same(found, jax.jit(run)(*problem()))


@pytest.mark.slow
@pytest.mark.parametrize(
    "attack", [attacks.square, pytest.param(attacks.auto_attack, marks=pytest.mark.slow)]
)
def test_blocks_of_all_rows_keep_the_rows_of_a_mesh_on_their_devices(attack):
    of_auto = {"num_steps": 2, "num_targets": 2} if attack is attacks.auto_attack else {}
    few = {"num_queries": 5, **of_auto}

    def run(weights, x, y, keys, size=ROWS):
        logits_fn = functools.partial(logits_of, weights)
        return attack(logits_fn, x, y, eps=0.1, key=keys, block_size=size, **few)

    expected = jax.jit(run)(*problem())
    with jax.set_mesh(mesh()):
        program = jax.jit(run).lower(*placed(jax.sharding.get_mesh())).compile()
        same(program(*placed(jax.sharding.get_mesh())), expected)
        same(jax.jit(functools.partial(run, size=None))(*problem()), expected)
    rows = f"f32[{ROWS},{','.join(map(str, attack_table.SHAPE))}]"
    assert rows not in program.as_text()
