"""Side inputs travel with their rows: an attack with aux is the attack on a model that has them."""

from functools import partial

import attack_table
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attack_table import SHAPE, TABLE, B, K, marked
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from marks import exhaustive_after

from adv_jax import attacks

RNG = np.random.default_rng(0)
W = {"in": jnp.float32(RNG.normal(size=(6, 7))), "out": jnp.float32(RNG.normal(size=(7, K)))}
X = jnp.float32(RNG.uniform(size=(B, *SHAPE)))
Y = jnp.array([0, 3, 1, 1, 2, 0])
# A mask, numbers and integers of each row.
AUX = {
    "keep": jnp.asarray(RNG.uniform(size=(B, 7)) < 0.7),
    "shift": (jnp.float32(RNG.normal(size=(B, K))), np.arange(B)),
}
KEYS = jax.random.split(jax.random.key(7), B)
ORDER = np.array([3, 0, 4, 2, 5, 1])
QUICK = ("fgsm-linf", "pgd-linf", "deepfool-linf", "transferred")


def model(x, aux):
    shift, number = aux["shift"]
    hidden = jnp.where(aux["keep"], jnp.tanh(x.reshape(x.shape[0], -1) @ W["in"]), 0)
    return hidden @ W["out"] + shift + jax.nn.one_hot(number % K, K)


def closed_over(aux):
    return lambda x: model(x, aux)


def taken(tree, rows):
    return jax.tree.map(lambda leaf: leaf[rows], tree)


def without_aux(row):
    """Attacks models that close over the side inputs: row by row if the attack sorts the rows."""
    size = 1 if "block_size" in row.options else B
    parts = [
        attack_table.run(
            row, X[part], Y[part], 0.5, logits_fn=closed_over(taken(AUX, part)), keys=KEYS[part]
        )
        for part in np.split(np.arange(B), B // size)
    ]
    return np.concatenate(parts)


@pytest.mark.parametrize(
    "name",
    [marked(name, QUICK) for name, row in TABLE.items() if row.reads_model],
)
@pytest.mark.parametrize("jit", exhaustive_after(1, [False, True]))
def test_side_inputs_travel_with_their_rows(name, jit):
    row = TABLE[name]

    def attacked(x, y, aux, keys):
        with_aux = row._replace(options=row.options | {"aux": aux})
        return attack_table.run(with_aux, x, y, 0.5, logits_fn=model, keys=keys)

    wrapped = jax.jit(attacked) if jit else attacked
    found = wrapped(X, Y, AUX, KEYS)
    np.testing.assert_allclose(found, without_aux(row), atol=1e-5)
    assert bool((found != X).any())
    permuted = wrapped(X[ORDER], Y[ORDER], taken(AUX, ORDER), KEYS[ORDER])
    np.testing.assert_allclose(permuted, found[ORDER], atol=1e-5)


@pytest.mark.parametrize("name", [name for name, row in TABLE.items() if not row.reads_model])
def test_noise_ignores_side_inputs(name):
    row = TABLE[name]
    with_aux = row._replace(options=row.options | {"aux": AUX})
    found, expected = (
        attack_table.run(row, X, Y, 0.3, logits_fn=None, keys=KEYS) for row in (with_aux, row)
    )
    np.testing.assert_array_equal(found, expected)


@pytest.mark.slow
def test_the_jacobian_and_the_features_take_side_inputs():
    for found, expected in zip(
        attacks.class_jacobian(model, X, aux=AUX),
        attacks.class_jacobian(closed_over(AUX), X),
        strict=True,
    ):
        np.testing.assert_allclose(found, expected, atol=1e-6)
    match = partial(attacks.feature_adversary, eps=0.1, num_steps=5)
    np.testing.assert_allclose(
        match(model, X, X[ORDER], aux=AUX), match(closed_over(AUX), X, X[ORDER]), atol=1e-6
    )


def test_a_loss_of_ones_own_sees_outputs_of_the_model_with_side_inputs():
    # The model is x + aux, the loss (x + aux - y)^2: away from y - aux.
    x, y, aux = (
        jnp.zeros(4),
        jnp.asarray([1.0, 1.0, -1.0, -1.0]),
        jnp.asarray([0.0, 3.0, 0.0, -3.0]),
    )
    for attack in (attacks.fgsm, partial(attacks.pgd, num_steps=3)):
        found = attack(
            lambda x, aux: x + aux, x, y, aux=aux, eps=0.1, loss=lambda out, y: (out - y) ** 2
        )
        np.testing.assert_allclose(found, [-0.1, 0.1, 0.1, -0.1], atol=1e-6)


@pytest.mark.slow
def test_no_gradient_flows_to_side_inputs_unless_asked_for():
    def moved(aux, constant):
        step = partial(attacks.fgsm, eps=0.1, norm="l2", constant=constant)
        return (step(model, X, Y, aux=AUX | {"shift": (aux, AUX["shift"][1])}) ** 2).sum()

    shift = AUX["shift"][0]
    np.testing.assert_array_equal(jax.grad(moved)(shift, True), 0)
    slope, h = jax.grad(moved)(shift, False), 1e-2
    ahead, behind = (moved(shift + side * h * slope, False) for side in (1, -1))
    np.testing.assert_allclose((ahead - behind) / (2 * h), (slope**2).sum(), rtol=0.02)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (jnp.ones((5, 3)), r"float32\[5, 3\]"),
        ({"a": jnp.ones(B), "b": 1.0}, "1.0"),
        (np.array(["a"] * B), r"str.*\[6\]"),
        ("abcdef", "'abcdef'"),
    ],
)
def test_side_inputs_of_other_rows_are_refused_in_one_line(wrong, said):
    said = rf"^aux must be a tree of arrays with B = 6 rows, got {said}$"
    fgsm, pgd = (partial(attack, eps=0.1) for attack in (attacks.fgsm, attacks.pgd))
    for call in (fgsm, partial(pgd, loss=lambda out, y: out[:, 0])):
        with pytest.raises(ValueError, match=said):
            call(model, X, Y, aux=wrong)
    with pytest.raises(ValueError, match=said):
        attacks.class_jacobian(model, X, aux=wrong)


def with_side_inputs(name):
    """Returns an attack with side inputs, a function of x, y, aux and keys."""
    settings = (
        {"num_queries": 5, "num_targets": 2, "block_size": 2} if name == "auto_attack" else {}
    )
    attack = partial(getattr(attacks, name), model, eps=0.2, num_steps=2, **settings)
    return lambda x, y, aux, keys: attack(x, y, aux=aux, key=keys)


AUX_ROWS = X, Y, jax.tree.map(jnp.asarray, AUX), KEYS
two_attacks = pytest.mark.parametrize(
    "name", ["pgd", pytest.param("auto_attack", marks=pytest.mark.slow)]
)


@pytest.mark.slow
@two_attacks
def test_side_inputs_travel_with_their_rows_in_shard_map(name):
    attacked = with_side_inputs(name)
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    found = jax.jit(jax.shard_map(attacked, mesh=mesh, in_specs=P("data"), out_specs=P("data")))
    np.testing.assert_allclose(found(*AUX_ROWS), attacked(*AUX_ROWS), atol=1e-5)


@pytest.mark.slow
@two_attacks
def test_side_inputs_travel_with_their_rows_on_explicit_axes(name):
    attacked = with_side_inputs(name)
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Explicit,))
    rows = jax.device_put(AUX_ROWS, NamedSharding(mesh, P("data")))
    with jax.set_mesh(mesh):
        found = jax.jit(attacked)(*rows)
    np.testing.assert_allclose(found, attacked(*AUX_ROWS), atol=1e-5)
