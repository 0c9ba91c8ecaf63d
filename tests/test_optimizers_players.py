"""Optimizers of games: each part of the parameters moves by its own rule."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adv_jax.optimizers import players, sgd
from adv_jax.runner.config.document import ConfigError
from adv_jax.runner.config.optimizer import optimizer
from adv_jax.types import UserError

PARAMS = {"a": {"w": jnp.float32(1)}, "b": jnp.float32(2)}
GRADIENTS = {"a": {"w": jnp.float32(3)}, "b": jnp.float32(5)}


def moves(optim, count):
    """Returns the updates of `count` steps with GRADIENTS, [(a, b), ...]."""
    state, found = optim.init(PARAMS), []
    for _ in range(count):
        updates, state = jax.jit(optim.update)(GRADIENTS, state, PARAMS)
        found.append((float(updates["a"]["w"]), float(updates["b"])))
    return found


def test_each_player_moves_by_its_own_rate():
    assert moves(players(a=sgd(0.1), b=sgd(0.01)), 1) == [
        (pytest.approx(-0.3), pytest.approx(-0.05))
    ]


@pytest.mark.parametrize("integer", [int, np.int64, np.uint8])
def test_a_player_that_is_not_due_keeps_still_and_gathers_no_momentum(integer):
    found = moves(players(every={"b": integer(3)}, a=sgd(1.0), b=sgd(1.0, momentum=0.5)), 7)
    assert [a for a, _ in found] == [-3] * 7
    # Steps 0, 3 and 6, with velocities 5, 5 + 2.5 and 5 + 3.75.
    assert [b for _, b in found] == [-5, 0, 0, -7.5, 0, 0, -8.75]


def test_the_optimizer_of_a_config_has_the_settings_of_each_player():
    one = {"name": "sgd", "learning_rate": 0.1}
    other = one | {
        "learning_rate": {
            "name": "linear_schedule",
            "init_value": 1.0,
            "end_value": 0.0,
            "transition_steps": 2,
        }
    }
    optim = optimizer({"name": "players", "a": one, "b": other}, steps_per_epoch=1)
    found = moves(optim, 3)
    assert [a for a, _ in found] == [pytest.approx(-0.3)] * 3
    assert [b for _, b in found] == [-5, -2.5, 0]


def test_one_optimizer_of_all_parts_is_that_optimizer_of_each_player():
    own = {"name": "sgd", "learning_rate": 0.1, "momentum": 0.5}
    apart = optimizer({"name": "players", "a": own, "b": own}, steps_per_epoch=1)
    assert moves(optimizer(own, steps_per_epoch=1), 3) == moves(apart, 3)


def test_a_part_may_have_players_of_its_own():
    params = {"a": {"v": jnp.float32(1), "w": {"x": jnp.float32(1)}}, "b": jnp.float32(2)}
    gradients = jax.tree.map(jnp.ones_like, params)
    one = lambda rate: {"name": "sgd", "learning_rate": rate}
    spec = {"name": "players", "a": {"name": "players", "v": one(1.0), "w": one(2.0)}}
    optim = optimizer({**spec, "b": one(3.0), "every": {"a": {"w": 2}}}, steps_per_epoch=1)
    state = optim.init(params)
    moves = []
    for _ in range(2):
        updates, state = optim.update(gradients, state, params)
        moves.append(jax.tree.map(float, updates))
    assert moves == [
        {"a": {"v": -1, "w": {"x": -2}}, "b": -3},
        {"a": {"v": -1, "w": {"x": 0}}, "b": -3},
    ]


@pytest.mark.parametrize("inner", ["v", "vwx"])
def test_a_part_whose_players_are_not_its_parts_is_refused(inner):
    optim = players(a={part: sgd(0.1) for part in inner}, b=sgd(0.1))
    with pytest.raises(UserError, match=f"the parts of a, v, w, got {', '.join(inner)}"):
        optim.init({"a": {"v": jnp.ones(1), "w": jnp.ones(1)}, "b": jnp.ones(1)})


@pytest.mark.parametrize("inner", [{"a": sgd(0.1)}, {}])
@pytest.mark.parametrize("path", ["fc.kernel", "fc", "the model"])
def test_players_of_a_part_without_parts_are_refused(inner, path):
    own, params = inner, jnp.ones(2)
    for part in [] if path == "the model" else reversed(path.split(".")):
        own, params = {part: own}, {part: params}
    allowed = f"one optimizer for {path}, which has no parts"
    message = f"^the players of the optimizer must be {allowed}, got {'a' if inner else 'none'}$"
    with pytest.raises(UserError, match=message):
        players(**own).init(params)


@pytest.mark.parametrize("is_reversed", [False, True])
def test_a_key_with_a_dot_that_names_a_part_of_another_key_is_refused(is_reversed):
    owners = {"a.b": sgd(0.1), "a": {"b": sgd(0.2)}}
    if is_reversed:
        owners = dict(reversed(owners.items()))
    with pytest.raises(UserError, match="^a.b must name one part, got two$"):
        players(**owners)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"a": {"name": "sdg"}}, "optimizer.a.name must be one of .* did you mean 'sgd'"),
        ({"a": 0.1}, "optimizer.a must be an optimizer, a dict with a name, got 0.1$"),
        (
            {"learning_rate": 0.1, "a": {"name": "sgd"}, "b": {"name": "sgd"}},
            "optimizer.learning_rate must be an optimizer, .* got 0.1; the players are a, b$",
        ),
        (
            {"a": {"name": "sgd", "learning_rate": 0.1}, "every": {"a": 0}},
            "optimizer.every.a must be a whole number of at least 1, got 0",
        ),
        (
            {"a": {"name": "sgd", "learning_rate": 0.1}, "every": {"c": 2}},
            "optimizer.every must name a player, a, got 'c'",
        ),
        (
            {"a": {"name": "sgd", "learning_rate": 0.1}, "every": {"c": {}}},
            "optimizer.every must name a player, a, got 'c'",
        ),
        (
            {"a": {"name": "sgd", "learning_rate": 0.1}, "every": {"a": 2}},
            "optimizer.every must let one player move in each step, got {a: 2}",
        ),
        (
            {"a": {"name": "players", "v": {"name": "sgd", "learning_rate": 0.1}, "every": 2}},
            "optimizer.a.every must be an optimizer, a dict with a name, got 2",
        ),
    ],
)
def test_a_game_without_rules_is_refused(spec, message):
    with pytest.raises((ConfigError, UserError), match=message):
        optimizer({"name": "players", **spec}, steps_per_epoch=1)


@pytest.mark.parametrize("steps", [0, -1, 2.0, True, "2"])
def test_steps_that_are_no_whole_number_of_at_least_1_are_refused(steps):
    with pytest.raises(UserError, match=f"^every.b must be a whole number .* got {steps!r}$"):
        players(every={"b": steps}, a=sgd(0.1), b=sgd(0.1))


@pytest.mark.parametrize(
    ("every", "message"),
    [
        ({1: 2}, "every must name a player, a, b, got 1"),
        ({"a.w": 2}, "every must name a player, a, b, got 'a.w'"),
        ({"a": {1: 2}}, "every.a must name a player, v, w, got 1"),
        ({"a": {"w": 0}}, "every.a.w must be a whole number of at least 1, got 0"),
        ({"a": 2}, "every.a must be a dict of players and their steps, got 2"),
    ],
)
def test_steps_of_no_player_are_refused(every, message):
    with pytest.raises(UserError, match=f"^{message}$"):
        players(every=every, a={"v": sgd(0.1), "w": sgd(0.1)}, b=sgd(0.1))


def test_steps_without_a_player_are_refused():
    with pytest.raises(UserError, match="^every must be a dict of players and their steps, got 3$"):
        players(every=3, a=sgd(0.1), b=sgd(0.1))


@pytest.mark.parametrize("owners", ["", "a", "abc"])
def test_a_part_without_an_owner_and_an_owner_without_a_part_are_refused(owners):
    optim = players(**{owner: sgd(0.1) for owner in owners})
    got = ", ".join(owners) or "none"
    with pytest.raises(UserError, match=f"the parts of the model, a, b, got {got}$"):
        optim.init(PARAMS)
