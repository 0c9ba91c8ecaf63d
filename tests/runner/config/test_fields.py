"""Configs: their checks, values by path, and error messages of one line."""

import copy
import itertools
import math
import re
import runpy

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refusal

from adv_jax import objectives
from adv_jax.ranges import COUNT
from adv_jax.runner.config.binding import OBJECTIVES
from adv_jax.runner.config.document import ConfigError, leaves, with_values
from adv_jax.runner.config.fields import check, validate
from adv_jax.runner.config.replicas import Replica, replicas
from adv_jax.suggestions import suggestion
from adv_jax.types import UserError


def document(**changes):
    """A small legal config; keys of `changes` are paths with __ for the dot."""
    config = {
        "seed": 1,
        "replicas": {"seeds": 1, "grid": None, "shards": 1},
        "data": {"num_valid": 5, "num_labels": 100},
        "model": {"name": "mlp", "features": (5, 3)},
        "objective": {
            "name": "adversarial_mix",
            "alpha": 0.5,
            "attack": {"name": "fgsm", "eps": 0.1},
        },
        "optimizer": {"name": "sgd", "learning_rate": 0.1, "momentum": 0.0, "l1": 0.1},
        "epochs": 3,
        "batch_size": 10,
        "patience": 0,
        "monitor_every": 1,
        "evaluation": {"eps": (0.0, 0.1)},
    }
    return with_values(config, {path.replace("__", "."): v for path, v in changes.items()})


def test_a_config_error_is_a_user_error():
    assert issubclass(ConfigError, UserError)


def test_suggestion_is_the_nearest_name_or_empty():
    assert suggestion("epoch", ["epochs", "eps"]) == "; did you mean 'epochs'?"
    assert suggestion("zzz", ["epochs", "eps"]) == ""


def test_replicas_are_the_points_of_the_grid_each_with_every_seed():
    grid = {"objective.attack.eps": (0.1, 0.2), "optimizer.learning_rate": [1, 0.5, 0.25]}
    config = document(seed=7, replicas__seeds=2, replicas__grid=grid)
    expected = [
        Replica(seed, {"objective.attack.eps": e, "optimizer.learning_rate": r})
        for e, r, seed in itertools.product((0.1, 0.2), (1, 0.5, 0.25), (7, 8))
    ]
    assert replicas(config) == expected


@pytest.mark.parametrize("grid", [None, {}])
def test_seeds_of_replicas_count_up_without_a_grid(grid):
    config = document(seed=3, replicas__seeds=4, replicas__grid=grid)
    assert replicas(config) == [Replica(seed, {}) for seed in (3, 4, 5, 6)]


@pytest.mark.parametrize(
    ("path", "suggested"),
    [
        ("objective.attack.ep", "objective.attack.eps"),
        ("objektive.alpha", "objective.alpha"),
        ("objective.name", None),  # No number.
        ("objective", None),
        ("replicas.grid", None),
    ],
)
def test_a_grid_over_a_field_that_is_not_a_number_is_refused(path, suggested):
    message = refusal(replicas, document(replicas__grid={path: (0.1, 0.2)}))
    allowed = "a real number of objective or optimizer in the config,"
    assert message.startswith(f"a path of replicas.grid, {allowed} must be one of ")
    assert "objective.attack.eps, " in message and f", got {path!r}" in message
    if suggested:
        assert message.endswith(f"; did you mean {suggested!r}?")


@pytest.mark.parametrize(
    "path",
    ["objective.attack.norm", "optimizer.nesterov", "objective.attack", "objective.attack.mask"],
)
def test_a_grid_over_what_is_no_real_number_lists_those_of_the_config(path):
    message = refusal(replicas, document(replicas__grid={path: (0.1, 0.2)}))
    assert message.startswith("a path of replicas.grid, a real number of objective or ")
    assert "must be one of objective.alpha, objective.attack.eps, " in message


def test_a_grid_over_a_count_is_refused_and_none_is_listed():
    config = document(replicas__grid={"objective.attack.num_steps": (1, 2)})
    config["objective"]["attack"] = {"name": "pgd", "eps": 0.1, "num_steps": 3}
    assert refusal(replicas, config) == (
        "a path of replicas.grid must be a real number, as counts change the program, got "
        "'objective.attack.num_steps': python -m launch.sweep varies them"
    )
    config["replicas"]["grid"] = {"objective.attack.norm": (1, 2)}
    message = refusal(replicas, config)
    assert "objective.attack.eps" in message and "num_steps" not in message


def test_a_grid_over_a_setting_that_the_config_lacks_names_the_flag_that_adds_it():
    assert refusal(replicas, document(replicas__grid={"optimizer.weight_decay": (0.0, 0.1)})) == (
        "a path of replicas.grid must be a number that the config sets, got "
        "'optimizer.weight_decay': --config.optimizer.weight_decay=NUMBER sets it"
    )


@pytest.mark.parametrize(
    "values",
    [0.1, (), [], "0.1", None, {0.1: 1}, (0.1, 0.1), (0.1, 0.10000000001), (2**24, 2**24 + 1)],
)
def test_a_grid_without_a_tuple_of_values_is_refused(values):
    message = refusal(replicas, document(replicas__grid={"objective.alpha": values}))
    allowed = "a tuple of numbers that differ in float32"
    assert message == f"replicas.grid['objective.alpha'] must be {allowed}, got {values!r}"


@pytest.mark.parametrize("values", [("a", "b"), (0.1, None), (True,), ((0.1,), (0.2,))])
def test_a_grid_of_values_that_are_not_numbers_is_refused(values):
    config = document(replicas__grid={"optimizer.b1": values})
    config["optimizer"]["b1"] = 0.9  # It has no range, so only its kind can be wrong.

    def both():
        validate(config)
        replicas(config)

    assert "optimizer.b1" in refusal(both)


@pytest.mark.parametrize("path", ["batch_size", "seed", "epochs", "data.num_labels", "patience"])
def test_a_grid_over_a_field_shared_by_all_replicas_is_refused(path):
    message = refusal(replicas, document(replicas__grid={path: (10, 20)}))
    assert path in message


def test_a_grid_of_architectures_is_refused_for_its_path():
    message = refusal(validate, document(replicas__grid={"model.features": ((8,), (16,))}))
    assert message.endswith("got 'model.features': python -m launch.sweep varies them")


_values = st.one_of(st.integers(), st.floats(allow_nan=False), st.text(max_size=3), st.none())
_documents = st.recursive(
    st.dictionaries(st.text("abc", min_size=1, max_size=2), _values, max_size=3),
    lambda inner: st.dictionaries(
        st.text("abc", min_size=1, max_size=2), st.one_of(_values, inner), max_size=3
    ),
    max_leaves=6,
)


@pytest.mark.slow
@given(_documents, st.data())
def test_with_values_replaces_exactly_the_named_leaves_of_a_copy(config, draw):
    before = copy.deepcopy(config)
    found = dict(leaves(config))
    paths = draw.draw(st.lists(st.sampled_from(sorted(found)), unique=True)) if found else []
    marks = {path: object() for path in paths}
    changed = with_values(config, marks)
    assert config == before
    assert dict(leaves(changed)) == found | marks


@given(_documents)
def test_leaves_are_the_values_by_their_dotted_paths(config):
    def look(path):
        node = config
        for part in path.split("."):
            node = node[part]
        return node

    def count(node):
        return sum(count(v) if isinstance(v, dict) else 1 for v in node.values())

    found = list(leaves(config))
    assert len({path for path, _ in found}) == len(found) == count(config)
    assert all(look(path) is value for path, value in found)


def test_leaves_skip_the_grid():
    config = document(replicas__grid={"objective.alpha": (0.1,)})
    paths = dict(leaves(config))
    assert {"seed", "replicas.seeds", "objective.attack.eps", "model.features"} <= paths.keys()
    assert not [path for path in paths if "grid" in path]


def test_with_values_takes_traced_values():
    config = document()

    @jax.jit
    def read(value):
        changed = with_values(config, {"objective.attack.eps": value, "optimizer.momentum": 2})
        return changed["objective"]["attack"]["eps"] * changed["optimizer"]["momentum"]

    assert read(jnp.float32(0.25)) == 0.5
    assert config == document()


INTEGERS_FROM_1 = ["replicas.seeds", "epochs", "batch_size", "monitor_every", "model.features"]
INTEGERS_FROM_0 = ["seed", "data.num_valid", "data.num_labels", "patience"]
NUMBERS_FROM_0 = [
    "objective.attack.eps",
    "evaluation.eps",
    "optimizer.l1",
    "optimizer.learning_rate",
]
FRACTIONS = ["objective.alpha", "optimizer.momentum"]
# Fields that may differ between replicas.
GRID = ["objective.attack.eps", "optimizer.learning_rate", *FRACTIONS]
WORDS = {
    "replicas.seeds": "a whole number from 1 to 10000",
    "seed": "a whole number from 0 to 1073741824",
}
WORDS |= dict.fromkeys(INTEGERS_FROM_1[1:], "a whole number of at least 1")
WORDS |= dict.fromkeys(INTEGERS_FROM_0[1:], "a whole number of at least 0")
WORDS |= dict.fromkeys(NUMBERS_FROM_0, "a finite number of at least 0")
WORDS |= dict.fromkeys(FRACTIONS, "a number from 0 to 1")

_bad = {
    **{path: [0, -1, 1.5, math.nan, math.inf, True, False] for path in INTEGERS_FROM_1},
    **{path: [-1, 0.5, math.nan, -math.inf, math.inf, True] for path in INTEGERS_FROM_0},
    **{path: [-1e-9, -1, math.nan, -math.inf, True, 10**400] for path in NUMBERS_FROM_0},
    **{path: [-0.1, 1.0001, math.nan, math.inf, False] for path in FRACTIONS},
}
_good = {
    **{path: [1, 2, 10_000] for path in INTEGERS_FROM_1},
    **{path: [0, 1, 10**6] for path in INTEGERS_FROM_0},
    **{path: [0, 0.0, 1e-9, 7] for path in NUMBERS_FROM_0},
    **{path: [0, 1, 0.5] for path in FRACTIONS},
}


def test_validate_accepts_the_small_config():
    validate(document())


@pytest.mark.parametrize(("path", "value"), [(p, v) for p, vs in _bad.items() for v in vs])
def test_a_number_out_of_range_is_refused_alone_in_a_tuple_and_in_the_grid(path, value):
    expected = f"{path} must be {WORDS[path]}, got {value!r}"
    assert refusal(validate, with_values(document(), {path: value})) == expected
    within = (_good[path][1], value, _good[path][0])
    for wrapped in (within, list(within)):
        assert refusal(validate, with_values(document(), {path: wrapped})) == expected
    if path in GRID:
        assert refusal(validate, document(replicas__grid={path: within})) == expected


@pytest.mark.parametrize("path", WORDS)
def test_numbers_in_range_pass(path):
    for value in (*_good[path], tuple(_good[path]), ()):
        validate(with_values(document(), {path: value}))
    if path in GRID:
        validate(document(replicas__grid={path: tuple(_good[path])}))


@given(st.floats(allow_nan=True, allow_infinity=False), st.sampled_from(sorted(FRACTIONS)))
def test_a_fraction_is_accepted_if_and_only_if_it_lies_in_0_to_1(value, path):
    config = with_values(document(), {path: value})
    if 0 <= value <= 1:
        validate(config)
    else:
        assert refusal(validate, config) == f"{path} must be {WORDS[path]}, got {value!r}"


@pytest.mark.parametrize(
    ("path", "value", "allowed"),
    [
        ("optimizer.l1", -0.1, "a finite number of at least 0"),
        ("optimizer.plateau.increase", 0.9, "a finite number of at least 1"),
        ("optimizer.plateau.decrease", 1.5, "a number from 0 to 1"),
        ("objective.aggressiveness", 0, "a finite number above 0"),
        ("model.dropconnect", 2.0, "a number from 0 to below 1"),
        ("data.rotation", 181, "a number from 0 to 180"),
        ("data.zoom", 1.0, "a number from 0 to 0.9"),
        ("data.shear", True, "a finite number of at least 0"),
        ("data.morphology", -1, "a whole number of at least 0"),
    ],
)
def test_settings_of_training_rules_out_of_range_are_refused(path, value, allowed):
    rule = {"name": "passive_aggressive", "aggressiveness": 1.0}
    config = document(objective=rule, optimizer__plateau={"name": "bold_driver"})
    message = refusal(validate, with_values(config, {path: value}))
    assert message == f"{path} must be {allowed}, got {value!r}"


def test_patience_needs_a_validation_set():
    message = refusal(validate, document(patience=3, data__num_valid=0))
    assert message == "patience must be 0 without data.num_valid, got 3"


def test_stop_rate_scale_needs_a_plateau():
    stop = {"train_error": 0.1, "rate_scale": 0.5}
    assert refusal(validate, document(stop=stop)) == (
        "stop.rate_scale must be unset without optimizer.plateau, got 0.5"
    )
    config = document(stop=stop)
    config["optimizer"]["plateau"] = {"name": "reduce_on_plateau"}
    validate(config)
    message = refusal(validate, document(stop={"rate_scale": 0.5}))
    assert message == "stop.train_error must be given, got none"


@pytest.mark.parametrize(
    ("group", "name", "says"),
    [
        ("", "patiense", "a field of the config must be one of averaging, "),
        ("data", "num_vaild", "a field of data must be one of crop, "),
        ("replicas", "seed", "a field of replicas must be one of grid, seeds, shards, got 'seed'"),
        ("evaluation", "epsilons", "a field of evaluation must be one of attacks, eps, "),
    ],
)
def test_an_unknown_field_is_refused_with_the_legal_ones(group, name, says):
    config = quickstart()
    (config[group] if group else config)[name] = 3
    message = refusal(check, config)
    assert message.startswith(says) and f"got '{name}'" in message and "\n" not in message


def test_a_misspelled_field_is_refused_with_the_nearest_one():
    config = quickstart() | {"epoch": 3}
    assert refusal(check, config).endswith("got 'epoch'; did you mean 'epochs'?")


def test_missing_fields_are_named_together():
    config = quickstart()
    config["data"] = {"name": "mnist", "source": "embedded"}
    says = "data.dir must be a text, data.num_valid must be a whole number, "
    assert refusal(check, config) == f"{says}data.num_labels must be a whole number, got none"
    del config["data"]
    assert refusal(check, config) == "data must be a dict, got none"
    assert re.fullmatch("(.* must be .*, ){3}and [0-9]+ more fields, got none", refusal(check, {}))


@pytest.mark.parametrize("path", ["epochs", "model", "replicas.shards", "evaluation.attacks"])
def test_a_missing_required_field_is_refused_by_name(path):
    config = quickstart()
    *parents, last = path.split(".")
    node = config
    for parent in parents:
        node = node[parent]
    del node[last]
    message = refusal(check, config)
    assert message.startswith(f"{path} must be a ") and message.endswith(", got none")


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("epochs", (1, 2), "epochs must be a whole number, got (1, 2)"),
        (
            "evaluation.attacks",
            {"worst_case": {"name": "fgsm"}},
            "evaluation.attacks must have names without dots, other than worst_case, test, train, ",
        ),
        (
            "evaluation.attacks",
            {"test": {"name": "fgsm"}},
            "evaluation.attacks must have names without dots, other than worst_case, test, train, "
            "valid, got 'test'",
        ),
        ("experiment", "../x", "experiment must be letters, digits, _ and -, got '../x'"),
        (
            "evaluation.attacks.a\nb",
            {},
            r"a key must be a printable text, got 'evaluation.attacks.a\nb'",
        ),
        ("epochs", True, "epochs must be a whole number, got True"),
        ("data.dir", None, "data.dir must be a text, got None"),
        ("model", "mlp", "model must be a dict, got 'mlp'"),
        (
            "replicas.grid",
            {"a.eps": (math.nan,)},
            "replicas.grid.a.eps must be a text, a number of 32 bits, ",
        ),
        ("stop", 3, "stop must be a dict, got 3"),
        ("stop", {"train_error": "0"}, "stop.train_error must be a number, got '0'"),
        ("stop", {"errors": 0}, "a field of stop must be one of rate_scale, train_error, got 'err"),
        ("evaluation.attacks.fgsm", 1, "evaluation.attacks.fgsm must be a dict, got 1"),
        (
            "objective.alpha",
            math.nan,
            "objective.alpha must be a number from 0 to 1, of 32 bits, got nan",
        ),
        (
            "patience",
            2**31,
            "patience must be a whole number of at least 0, of 32 bits, got 2147483648",
        ),
        (
            "evaluation.attacks.fgsm.name",
            math.nan,
            "evaluation.attacks.fgsm.name must be a text, a number of 32 bits, ",
        ),
        ("model.activation", math.sin, "model.activation must be a text, a number"),
    ],
)
def test_a_field_of_another_kind_is_refused(path, value, says):
    config = with_values(quickstart(), {path: value})
    assert refusal(check, config).startswith(says)


def quickstart():
    config = runpy.run_path("configs/quickstart.py")["get_config"]("quick").to_dict()
    check(config)
    return config


def test_the_largest_seed_is_2_to_the_30():
    validate(document(seed=2**30))
    message = refusal(validate, document(seed=2**30 + 1))
    assert message == f"seed must be {WORDS['seed']}, got 1073741825"


def test_a_range_holds_for_the_part_that_states_it():
    config = document()
    config["evaluation"]["attacks"] = {"noise": {"name": "gaussian_noise", "std": -1.0}}
    assert refusal(validate, config).startswith(
        "evaluation.attacks.noise.std must be a finite number "
    )
    config["evaluation"]["attacks"] = {"noise": {"name": "gaussian_noise", "std": None}}
    validate(config)
    config["evaluation"]["attacks"] = {"noise": {"name": "uniform_noise", "std": -1.0}}
    validate(config)


def test_a_new_objective_is_checked_by_its_own_ranges(monkeypatch):
    @objectives.stating.objective(ranges={"gap": "(0, 1]", "rounds": COUNT})
    def tilted(apply, variables, batch, *, key, gap, rounds): ...

    monkeypatch.setitem(OBJECTIVES, "tilted", tilted)
    good = {"name": "tilted", "gap": 1.0, "rounds": 2}
    validate(document(objective=good))
    assert refusal(validate, document(objective=good | {"gap": 0.0})) == (
        "objective.gap must be a number above 0 and at most 1, got 0.0"
    )
    assert refusal(validate, document(objective=good | {"rounds": 1.5})) == (
        "objective.rounds must be a whole number of at least 1, got 1.5"
    )


@pytest.mark.parametrize("value", [(0.2, 1.0), 1])
@pytest.mark.parametrize("name", ["dropout", "dropconnect"])
def test_dropping_everything_is_refused(name, value):
    config = document()
    config["model"][name] = value
    expected = f"model.{name} must be a number from 0 to below 1, got 1"
    assert refusal(validate, config).startswith(expected)


@pytest.mark.parametrize("path", NUMBERS_FROM_0)
def test_infinity_is_refused(path):
    message = refusal(validate, with_values(document(), {path: math.inf}))
    assert message == f"{path} must be {WORDS[path]}, got inf"


@pytest.mark.parametrize("shards", [0, -1, 1.5])
def test_shards_out_of_range_are_refused(shards):
    message = refusal(validate, document(replicas__shards=shards))
    assert message == f"replicas.shards must be a whole number of at least 1, got {shards}"


@pytest.mark.parametrize("path", ["epochs", "objective.attack.eps", "replicas.seeds"])
def test_a_string_in_the_place_of_a_number_is_refused(path):
    message = refusal(validate, with_values(document(), {path: "0.1"}))
    assert message == f"{path} must be {WORDS[path]}, got '0.1'"


@pytest.mark.parametrize("config", [None, "quickstart", [1]])
def test_a_config_that_is_not_a_dict_is_refused(config):
    assert refusal(check, config) == f"config must be a dict, got {config!r}"


@pytest.mark.parametrize("path", ["objective.alpha", "objective.attack.eps"])
def test_settings_of_a_users_function_may_have_any_values(path):
    config = with_values(document(), {path: -1.0})
    assert refusal(validate, config).startswith(f"{path} must be ")
    part = path.rpartition(".")[0]
    validate(with_values(config, {f"{part}.name": "mine:own"}))
    config = with_values(document(), {f"{part}.name": "mine:own", "replicas.grid": {path: (-1.0,)}})
    validate(config)
    validate(config | {"modules": {"alpha": "0f"}})


def test_fields_of_data_belong_to_a_users_function():
    named = {"data.name": "mine:load", "data.source": "import"}
    own = with_values(quickstart(), {**named, "data.noise": 0.1})
    check(own)
    mnist = with_values(own, {"data.name": "mnist", "data.source": "embedded"})
    assert refusal(check, mnist).startswith("a field of data must")
    # Without a colon it is no path of one's own, whatever fields there are.
    dotted = with_values(own, {"data.name": "mine.load"})
    assert refusal(check, dotted).startswith("data.name must be package.module:function for data.s")
    assert refusal(check, with_values(own, {"data.num_valid": -1})).startswith(
        "data.num_valid must"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"names": ("fgms",)},
            "an entry of monitor_attacks.names must be one of fgsm, pgd, got 'fgms'",
        ),
        ({"names": "fgsm"}, "monitor_attacks.names must be a tuple, got 'fgsm'"),
        ({"names": ()}, "monitor_attacks.names must be one or more attacks, got ()"),
        (
            {"names": (["fgsm"],)},
            "an entry of monitor_attacks.names must be one of fgsm, pgd, got ['fgsm']",
        ),
        ({"eps": None}, "monitor_attacks.eps must be a number, got None"),
        ({"eps": (0.1, 0.2)}, "monitor_attacks.eps must be a number, got (0.1, 0.2)"),
        ({"rows": 0}, "monitor_attacks.rows must be a whole number of at least 1, got 0"),
        ({"eps": -0.1}, "monitor_attacks.eps must be a finite number of at least 0, got -0.1"),
        ({"row": 5}, "a field of monitor_attacks must be one of eps, names, rows, got 'row'"),
    ],
)
def test_the_monitored_attacks_are_some_of_the_evaluation(changes, message):
    watched = {"names": ("fgsm",), "eps": 0.1, "rows": 5}
    check(quickstart() | {"monitor_attacks": watched})
    found = refusal(check, quickstart() | {"monitor_attacks": watched | changes})
    assert found.startswith(message)
    for field in watched:
        rest = {name: value for name, value in watched.items() if name != field}
        found = refusal(check, quickstart() | {"monitor_attacks": rest})
        assert found == f"monitor_attacks.{field} must be given, got none"
    without = quickstart() | {"monitor_attacks": watched, "evaluation": {"attacks": {}, "eps": ()}}
    found = refusal(check, without)
    assert found.startswith("monitor_attacks must be unset without evaluation.attacks, got {")
