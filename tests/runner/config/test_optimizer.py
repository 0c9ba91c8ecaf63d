"""optimizer refuses bad specifications, and is_entrywise tells which work entry by entry."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adv_jax.optimizers import OPTIMIZERS
from adv_jax.runner.config.document import ConfigError
from adv_jax.runner.config.optimizer import is_entrywise, optimizer

NAMES = ", ".join(OPTIMIZERS)
LINEAR = {"name": "linear_schedule", "init_value": 0.002, "end_value": 0.0, "transition_steps": 100}


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (
            {"name": "adagard", "learning_rate": 0.1},
            f"optimizer.name must be one of {NAMES}, got 'adagard'; did you mean 'adagrad'",
        ),
        ({"learning_rate": 0.1}, f"optimizer.name must be one of {NAMES}, got None"),
        ({"name": "adagrad"}, "optimizer.learning_rate must be given, as adagrad needs it"),
        (
            {"name": "rmsprop", "learning_rate": 0.1, "centred": True},
            "a setting of optimizer.rmsprop must be .* got 'centred'; did you mean 'centered'",
        ),
        (
            {"name": "adam", "learning_rat": 0.1},
            "a setting of optimizer.adam must be .* got 'learning_rat'",
        ),
        ({"name": "sgd"}, "optimizer.learning_rate must be given, as sgd needs it"),
        ({"name": "adam", "learning_rate": 0.1, "momentum": 0.9}, "'momentum'"),
        (
            {"name": "sgd", "learning_rate": {"name": "linear", "init_value": 1}},
            "optimizer.learning_rate.name must be .*linear_schedule",
        ),
        (
            {"name": "sgd", "learning_rate": LINEAR | {"begin": 3}},
            "setting of optimizer.learning_rate.linear_schedule .* got 'begin'",
        ),
        (
            {"name": "sgd", "learning_rate": 0.1, "plateau": {"name": "plateau"}},
            "optimizer.plateau.name must be one of bold_driver, reduce_on_plateau, got 'plateau'",
        ),
        (
            {"name": "sgd", "learning_rate": 0.1, "plateau": {"name": "bold_driver", "rise": 2}},
            "a setting of optimizer.plateau.bold_driver must be one of .*increase.*, got 'rise'",
        ),
        (
            {
                "name": "sgd",
                "learning_rate": 0.1,
                "plateau": {"name": "bold_driver", "accumulation_size": 2},
            },
            r"optimizer.plateau.accumulation_size must be unset \(it is one epoch\), got 2",
        ),
        (
            {"name": "sgd", "learning_rate": 0.1, "momentun": LINEAR},
            "a setting of optimizer.sgd must be .*, got 'momentun'; did you mean 'momentum'",
        ),
    ],
)
def test_an_unknown_optimizer_or_keyword_is_refused_with_the_field(spec, words):
    with pytest.raises(ConfigError, match=words) as caught:
        optimizer(spec, steps_per_epoch=10)
    assert "\n" not in str(caught.value)


def joined_moves_alike(spec):
    """Returns whether two arrays, joined in one, get the updates that they get apart."""
    rng = np.random.default_rng(0)
    arrays = {"kernel": (2, 2, 3, 4), "bias": (4,)}
    params = {name: jnp.float32(rng.normal(size=shape)) for name, shape in arrays.items()}
    with jax.numpy_dtype_promotion("standard"):
        joined = lambda tree: jnp.concatenate([tree["kernel"].ravel(), tree["bias"]])
        optim = optimizer(spec, steps_per_epoch=1)
        updates, _ = optim.update(params, optim.init(params), params)
        whole = {"joined": joined(params)}
        together, _ = optim.update(whole, optim.init(whole), whole)
    return np.allclose(together["joined"], joined(updates), rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("adam", {}, True),
        ("adadelta", {}, True),
        ("adagrad", {}, True),
        ("rmsprop", {"momentum": 0.9}, True),
        ("sgd", {"momentum": 0.9, "nesterov": True}, True),
        ("sgd", {"weight_decay": 0.1}, False),
        ("sgd", {"l1": 0.1}, False),
        ("sgd", {"max_norm": 0.1}, False),
        ("sgd", {"convolution_scale": 0.1}, False),
    ],
)
def test_an_optimizer_is_entrywise_if_arrays_joined_in_one_move_alike(name, settings, expected):
    spec = {"name": name, "learning_rate": 0.1, **settings}
    assert is_entrywise(spec) == expected
    assert joined_moves_alike(spec) == expected


@pytest.mark.parametrize("name", sorted({*OPTIMIZERS} - {"players"}))
def test_each_optimizer_says_whether_it_is_entrywise(name):
    spec = {"name": name, "learning_rate": 0.1}
    assert is_entrywise(spec) == joined_moves_alike(spec)


def test_games_and_optimizers_of_ones_own_are_not_entrywise():
    assert not is_entrywise({"name": "players", "generator": {"name": "adam"}})
    assert not is_entrywise({"name": "my.module:lars"})
