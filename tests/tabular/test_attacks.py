"""adv_jax.tabular: attacks among valid rows, beside all rows of small tables."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from adv_jax import attacks, evaluate
from adv_jax.tabular import Constraints, climb, search, valid_only
from tests.support.tables import all_rows, drawn_table, obeys

KEY = jax.random.key(0)
WALK = partial(search, num_queries=200)
# Columns: an integer from 0 to 3, a category of three, an integer that only grows, a fixed one.
SMALL = Constraints(
    6,
    integer=[0, 4],
    one_hot=[(1, 2, 3)],
    only_up=[4],
    fixed=[5],
    bounds=(0, 3),
    relations=([[1.0, 0, 0, 0, 1.0, 0]], [4.0]),
)
VALUES = {0: [0, 1, 2, 3], 1: [0, 1], 2: [0, 1], 3: [0, 1], 4: [0, 1, 2, 3]}


def net(seed):
    """Returns a perceptron of 6 inputs, 8 hidden units and 3 classes."""
    rng = np.random.default_rng(seed)
    w, v = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((6, 8), (8, 3)))
    scale = jnp.array([0.2, 0.4, 0.4, 0.4, 0.2, 1.0])[None]  # The fixed column decides most.
    return lambda x: jnp.tanh((x * scale) @ w) @ v


def predicted(logits_fn, x):
    return np.asarray(logits_fn(x)).argmax(axis=1)


def small_rows(seed, rows):
    rng = np.random.default_rng(seed)
    x = np.zeros((rows, 6), np.float32)
    x[:, [0, 4]] = rng.integers(0, 3, (rows, 2))
    x[np.arange(rows), rng.integers(1, 4, rows)] = 1
    x[:, 5] = 3 * rng.random(rows)
    return x


def could_be_fooled(logits_fn, x, y, eps, order, costs=1.0):
    """Returns by exhaustive search whether some valid change in the ball is misclassified."""
    found = []
    for row, label in zip(x, y, strict=True):
        rows = all_rows(SMALL, row, VALUES)
        near = np.linalg.norm(costs * (rows - row), order, axis=1) <= eps + 1e-6
        found.append(bool((predicted(logits_fn, rows[near]) != label).any()))
    return np.array(found)


@pytest.mark.slow
@pytest.mark.parametrize(("attack", "share"), [(partial(climb, restarts=3), 0.7), (WALK, 1)])
@pytest.mark.parametrize(("norm", "eps", "order"), [("linf", 1.0, np.inf), ("l1", 3.0, 1)])
def test_attacks_find_most_of_what_an_exhaustive_search_finds(attack, share, norm, eps, order):
    logits_fn, x = net(2), small_rows(2, 60)
    y = predicted(logits_fn, x)
    x_adv = attack(logits_fn, x, y, eps=eps, norm=norm, constraints=SMALL, key=KEY)
    fools = predicted(logits_fn, x_adv) != y
    possible = could_be_fooled(logits_fn, x, y, eps, order)
    assert not (fools & ~possible).any()
    assert fools.sum() >= share * possible.sum() > 10


@pytest.mark.parametrize(
    ("attack", "share"),
    [
        pytest.param(WALK, 1, marks=pytest.mark.slow),
        pytest.param(climb, 0.7, marks=pytest.mark.exhaustive),
    ],
)
def test_costs_limit_what_an_exhaustive_search_may_change(attack, share):
    logits_fn, x, costs = net(1), small_rows(2, 60), np.array([0.4, 2, 2, 2, 0.4, 1])
    priced = dataclasses.replace(SMALL, costs=costs)
    y = predicted(logits_fn, x)
    x_adv = np.asarray(attack(logits_fn, x, y, eps=2.0, norm="l2", constraints=priced, key=KEY))
    assert (np.linalg.norm(costs * (x_adv - x), axis=1) <= 2 + 1e-5).all()
    fools = predicted(logits_fn, x_adv) != y
    possible = could_be_fooled(logits_fn, x, y, 2.0, 2, costs)
    assert not (fools & ~possible).any()
    assert fools.sum() >= share * possible.sum() > 10
    assert could_be_fooled(logits_fn, x, y, 2.0, 2).sum() > 2 * possible.sum()


@pytest.mark.slow
@pytest.mark.parametrize(
    "attack",
    [
        pytest.param(partial(climb, num_steps=10), marks=pytest.mark.slow),
        partial(search, num_queries=20),
    ],
)
@pytest.mark.parametrize(
    ("norm", "eps"),
    [
        pytest.param("linf", 1.5, marks=pytest.mark.slow),
        ("l2", 1.6),
        pytest.param("rms", 0.7, marks=pytest.mark.slow),
    ],
)
def test_every_example_is_valid_and_in_the_ball_or_x(attack, norm, eps):
    constraints, x = drawn_table(5, rows=40)
    logits_fn = net(2)
    y = predicted(logits_fn, x)
    x_adv = np.asarray(
        attack(logits_fn, x, y, eps=eps, norm=norm, constraints=constraints, key=KEY)
    )
    assert all(obeys(constraints, a, b) for a, b in zip(x, x_adv, strict=True))
    lengths = {"linf": np.abs(x_adv - x).max(axis=1), "l2": np.linalg.norm(x_adv - x, axis=1)}
    lengths["rms"] = lengths["l2"] / 6**0.5
    assert (lengths[norm] <= eps * (1 + 2e-6)).all()
    fools = predicted(logits_fn, x_adv) != y
    assert (x_adv[~fools] == x[~fools]).all()
    assert fools.any()


@pytest.mark.slow
def test_eps_of_each_column_is_kept():
    constraints, logits_fn, x = Constraints(6, integer=[4]), net(1), small_rows(0, 20)
    y, eps = predicted(logits_fn, x), np.array([[0.5, 0, 0, 0.1, 2.0, 0]])
    x_adv = climb(logits_fn, x, y, eps=eps, constraints=constraints)
    assert (np.abs(x_adv - x) <= eps * (1 + 1e-6)).all()
    assert (np.asarray(x_adv)[:, 4] % 1 == 0).all()
    assert (x_adv != x).any()


@pytest.mark.slow
def test_a_real_column_gets_the_part_of_the_ball_that_rounding_leaves():
    """Eight integers take most of a step of the gradient, .4 each, which is rounded to 0."""
    table = Constraints(9, integer=range(1, 9), costs=[1, *[0.6] * 8])
    w = jnp.array([1, *[0.3] * 8])[:, None] * jnp.array([[1.0, -1.0]])
    x = jnp.zeros((1, 9)).at[0, 0].set(-0.8)
    settings = {"eps": 0.9, "norm": "l2", "constraints": table}
    x_adv = climb(lambda x: x @ w, x, jnp.array([1]), **settings)
    np.testing.assert_allclose(x_adv, jnp.zeros((1, 9)).at[0, 0].set(0.1), atol=1e-5)


@pytest.mark.slow
def test_the_search_needs_decisions_alone():
    logits_fn, x = net(1), small_rows(0, 60)
    decides = lambda x: 2 * jax.nn.one_hot(jnp.argmax(logits_fn(x), axis=1), 3)
    y = predicted(logits_fn, x)
    x_adv = WALK(decides, x, y, eps=1.0, constraints=SMALL, key=KEY)
    fools = predicted(logits_fn, x_adv) != y
    assert fools.sum() >= 0.9 * could_be_fooled(logits_fn, x, y, 1.0, np.inf).sum()


@pytest.mark.slow
def test_an_evaluation_counts_invalid_examples_as_failures_and_compares_valid_ones_with_none():
    logits_fn, x = net(1), small_rows(0, 40)
    y = predicted(logits_fn, x)
    cheap = dataclasses.replace(SMALL, costs=0.5)
    suite = {
        "fgsm": attacks.fgsm,
        "valid": valid_only(attacks.fgsm, SMALL),
        "climb": partial(climb, constraints=SMALL, num_steps=10),
        "cheap": partial(search, constraints=cheap, num_queries=50),
    }
    found = evaluate.evaluate(logits_fn, x, y, suite, eps=[0.0, 1.0], key=KEY)
    robust = {name: float(result.accuracy[1]) for name, result in found.attacks.items()}
    assert robust["valid"] == 1 > robust["climb"] > robust["fgsm"] + 0.05
    assert found.attacks["cheap"].linf[1] > 1
    assert found.audit.order == {}
    assert found.audit.outside_ball == dict.fromkeys(("fgsm", "valid", "climb"), 0)
    assert found.norms == {"fgsm": "linf", "valid": "linf", "climb": "linf", "cheap": None}
    assert not [line for line in found.audit.warnings if not line.startswith("fgsm")]
    assert attacks.traits_of(suite["valid"]) == attacks.fgsm.traits._replace(confined=True)


@pytest.mark.slow
def test_a_row_that_breaks_a_rule_is_refused_by_attacks():
    x = small_rows(0, 2)
    x[1, 0] = 0.5
    message = r"^x must obey its constraints, got 0.5 in row 1, column 0 \(integer\)$"
    with pytest.raises(ValueError, match=message):
        climb(net(1), x, None, eps=1.0, constraints=SMALL)
    with pytest.raises(ValueError, match=message):
        valid_only(attacks.fgsm, SMALL)(net(1), x, None, eps=1.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "attack", [valid_only(attacks.fgsm, SMALL), partial(climb, constraints=SMALL)]
)
def test_rows_that_break_a_rule_are_refused_in_an_evaluation(attack):
    x = small_rows(0, 5)
    x[[1, 3], 0] = 0.5
    message = r"^x must obey the constraints of an attack, got 2 of 5 rows that break a rule$"
    with pytest.raises(ValueError, match=message):
        evaluate.evaluate(net(1), x, np.zeros(5, int), {"own": attack}, eps=[1.0], batch_size=2)


def test_other_objects_than_constraints_are_refused():
    with pytest.raises(ValueError, match=r"^constraints must be tabular.Constraints, got None$"):
        search(net(1), small_rows(0, 2), None, eps=1.0, constraints=None, key=KEY)
    with pytest.raises(ValueError, match=r"^constraints must be tabular.Constraints, got None$"):
        valid_only(attacks.fgsm, None)
    with pytest.raises(ValueError, match=r"^attack must be a function such as .*, got None$"):
        valid_only(None, SMALL)


@pytest.mark.slow
@pytest.mark.parametrize("attack", [climb, WALK])
def test_rows_in_shard_map_get_what_they_get_on_one_device(attack):
    x, keys = small_rows(0, 8), jax.random.split(KEY, 8)
    y = predicted(net(0), x)
    run = lambda x, y, keys: attack(net(0), x, y, eps=1.5, constraints=SMALL, key=keys)
    mesh = jax.make_mesh((2,), ("rows",), axis_types=(AxisType.Auto,))
    rows = PartitionSpec("rows")
    mapped = jax.shard_map(run, mesh=mesh, in_specs=(rows,) * 3, out_specs=rows)
    found = jax.jit(mapped)(x, y, keys)
    np.testing.assert_allclose(found, jax.jit(run)(x, y, keys), rtol=0, atol=2e-6)
    assert np.any(found != x)
