"""The fields that a sweep varies: --grid, --search, points and the configs of trials."""

import itertools
import math
import runpy

import pytest
from command_line import ROOT

from adv_jax.runner.config.document import ConfigError, leaves
from adv_jax.runner.config.replicas import Replica, replicas
from launch import _space as space


@pytest.fixture
def config():
    return runpy.run_path(str(ROOT / "configs/quickstart.py"))["get_config"]("quick").to_dict()


def test_a_grid_is_read_and_its_points_are_all_combinations(config):
    text = "{'batch_size': [50, 100], 'model.features': ((8,), (16, 16)), 'data.num_valid': (0,)}"
    grid = space.parse_grid(text, config)
    assert list(grid) == ["batch_size", "model.features", "data.num_valid"]
    points = space.product(grid)
    found = [{field: space.decode(value) for field, value in point.items()} for point in points]
    expected = [
        {"batch_size": size, "model.features": features, "data.num_valid": 0}
        for size, features in itertools.product((50, 100), ((8,), (16, 16)))
    ]
    assert found == expected
    # Ray and Optuna hold numbers and text only.
    assert {type(value) for point in points for value in point.values()} == {int, str}


@pytest.mark.parametrize(
    "value", ["tanh", (0.0, math.inf), ((8, -math.inf), ("info",)), True, None, -math.inf, 3]
)
def test_a_value_becomes_a_number_or_a_text_and_comes_back(value):
    coded = space.encode(value)
    assert type(coded) in (int, float, str)
    assert space.decode(coded) == value


def test_a_grid_without_fields_has_one_point():
    assert space.product({}) == [{}]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("eps", "--grid must be a dict such as"),
        ("{}", "(.1, .2)}, got '{}'"),
        (
            "{'batch_sise': (1,)}",
            "must have fields of the config, got 'batch_sise'; did you mean 'batch",
        ),
        (
            "{'batch_size': ()}",
            "--grid['batch_size'] must be a tuple of one or more values",
        ),
        ("{'batch_size': 50}", "must be a tuple of one or more values, got 50"),
        (
            "{'batch_size': (50, 'x')}",
            "['batch_size'] must have values of type int, as 100, got 'x'",
        ),
        ("{'batch_size': (50, 50)}", "must have each value once, got 50 twice"),
        ("{'batch_size': (50, 0)}", "batch_size must be a whole number of at least 1, got 0"),
        ("{'objective.attack.eps': (.1, -.1)}", "objective.attack.eps must be a finite number of"),
        ("{'replicas.seeds': (0,)}", "replicas.seeds must be a whole number from 1"),
        ("{1: (1,)}", "--grid must have fields of the config, got 1; the fields are batch_size,"),
        ("{'optimizer.learning_rate': (.1, 1e39)}", "learning_rate must be a finite number of"),
        ("{'experiment': ('a', 'a b')}", "experiment must be letters, digits, _ and -, got 'a b'"),
    ],
)
def test_a_bad_grid_is_refused_in_one_line(config, text, says):
    with pytest.raises(ConfigError) as error:
        space.parse_grid(text, config)
    assert says in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "{'epoch': ('randint', 1, 5)}",
            "must have fields of the config, got 'epoch'; did you mean 'ep",
        ),
        ("{'epochs': ('normal', 1, 5)}", "kind one of randint, lograndint and low < high"),
        (
            "{'objective.alpha': ('normal', 0, 1)}",
            "uniform, loguniform, randint, lograndint",
        ),
        (
            "{'epochs': ('randint', 5, 5)}",
            "low < high, whole for randint and",
        ),
        ("{'epochs': ('randint', 1.5, 5)}", "whole for randint"),
        ("{'epochs': ('uniform', 1.5, 5)}", "kind one of randint, lograndint and"),
        ("{'epochs': ('choice', 1.5, 5)}", "must have values of type int, as 10, got 1.5"),
        ("{'epochs': ('uniform', 1, 5)}", "kind one of randint, lograndint and low"),
        (
            "{'batch_size': ('loguniform', 10, 50)}",
            "--search['batch_size'] must be",
        ),
        ("{'objective.alpha': ('uniform', .9, .1)}", "low < high"),
        ("{'objective.alpha': ('uniform', .1)}", "(kind, low, high)"),
        ("{'objective.alpha': ('uniform', .1, 1.5)}", "objective.alpha must be a number from"),
        (
            "{'optimizer.learning_rate': ('loguniform', 0, .1)}",
            "and above 0 for log, got",
        ),
        ("{'epochs': ('choice',)}", "must be ('choice', *values) or"),
        (
            "{'epochs': ('choice', 5, 5)}",
            "--search['epochs'] must have each value once, got 5 twic",
        ),
        (
            "{'seed': ('randint', 0, 1073741826)}",
            "seed must be a whole number from 0 to 1073741824",
        ),
        (
            "{1: ('randint', 0, 2)}",
            "--search must have fields of the config, got 1; the fields are",
        ),
    ],
)
def test_a_bad_search_is_refused_in_one_line(config, text, says):
    with pytest.raises(ConfigError) as error:
        space.parse_search(text, config)
    assert says in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("{[1]: 2}", "'{[1]: 2}'"),  # a key without a hash
        ("{{}: 1}", "'{{}: 1}'"),
        ("-" * 100_000, "'------------...-------------'"),  # deeper than Python's parser goes
    ],
    ids=["list", "dict", "deep"],
)
def test_a_flag_that_python_cannot_read_is_refused_in_one_short_line(config, text, shown):
    for flag, parse in (("--grid", space.parse_grid), ("--search", space.parse_search)):
        with pytest.raises(ConfigError) as error:
            parse(text, config)
        line = str(error.value)
        assert line.startswith(f"{flag} must be a dict such as {{'")
        assert line.endswith(f"}}, got {shown}")
        assert "\n" not in line


def test_the_excluded_end_of_a_range_of_whole_numbers_is_not_tried(config):
    most = 1_073_741_824  # the largest seed
    domains = space.parse_search(f"{{'seed': ('randint', 0, {most + 1})}}", config)
    assert domains == {"seed": ("randint", 0, most + 1)}
    assert space.most_epochs(config, {"epochs": ("lograndint", 2, 9)}) == 8
    assert space.most_epochs(config, {"epochs": ("choice", 2, 9)}) == 9


def test_a_value_is_refused_only_if_no_trial_can_have_it(config):
    """A batch of 99 has three equal parts; the config's own, of 100, has not."""
    tried = {"batch_size": (100, 99), "microbatches": (2, 3)}
    checked = []

    def check(config):
        checked.append((config["batch_size"], config["microbatches"]))
        if config["batch_size"] % config["microbatches"]:
            raise ConfigError("microbatches must be a divisor")

    config["microbatches"] = 1
    space.check_values(config, tried, check)
    assert checked == [(100, 1), (99, 1), (100, 2), (100, 3), (100, 3), (99, 3)]
    config |= {"batch_size": 101}
    space.check_values(config, {"microbatches": (2, 3, 5), "batch_size": (99, 100)}, check)
    with pytest.raises(ConfigError, match="must be a divisor"):
        space.check_values(config, {"microbatches": (2, 3)}, check)


def test_a_field_that_the_config_has_in_its_own_grid_is_refused(config):
    config = space.with_grid(config, {"objective.attack.eps": (0.1, 0.2)})
    with pytest.raises(ConfigError, match=r"no field of replicas.grid, got 'objective.attack.eps'"):
        space.parse_grid("{'objective.attack.eps': (.3,)}", config)


def test_real_numbers_of_objective_and_optimizer_are_traced_if_the_program_allows(config):
    tried = {
        "objective.attack.eps": (0.1, 0.2),
        "objective.alpha": (0.3,),
        "optimizer.learning_rate": (0.1,),
        "batch_size": (50,),
        "model.features": ((8,),),
    }

    def check(config):
        if "objective.alpha" in config["replicas"]["grid"]:
            raise ConfigError("not this one")

    found = space.traced_fields(config, tried, check)
    assert found == {"objective.attack.eps", "optimizer.learning_rate"}


def test_a_point_becomes_a_config_and_comes_back(config):
    point = {
        "model.features": space.encode((8, 9)),
        "optimizer.learning_rate": 0.0123456789012345,
        "batch_size": 50,
        "model.activation": space.encode("tanh"),
    }
    traced = {"optimizer.learning_rate"}
    changed = space.at(config, point, traced=traced)
    differing = {p: v for p, v in leaves(changed) if dict(leaves(config))[p] != v}
    assert differing == {"model.features": (8, 9), "batch_size": 50, "model.activation": "tanh"}
    assert replicas(changed) == [Replica(0, {"optimizer.learning_rate": 0.0123456789012345})]
    assert space.point_of(changed, point, traced=traced) == point


def test_a_traced_field_joins_the_grid_of_the_config(config):
    config = space.with_grid(config, {"objective.attack.eps": (0.1, 0.2)})
    changed = space.at(config, {"objective.alpha": 0.3}, traced={"objective.alpha"})
    points = [replica.overrides for replica in replicas(changed)]
    eps = "objective.attack.eps"
    assert points == [{eps: e, "objective.alpha": 0.3} for e in (0.1, 0.2)]
