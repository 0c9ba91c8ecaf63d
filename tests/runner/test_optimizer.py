"""optimizer refuses bad specifications."""

import pytest

from adv_jax.runner.config import ConfigError
from adv_jax.runner.optimizer import optimizer

LINEAR = {"name": "linear_schedule", "init_value": 0.002, "end_value": 0.0, "transition_steps": 100}


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (
            {"name": "adagrad", "learning_rate": 0.1},
            "optimizer.name must be one of adam, players, sgd, got 'adagrad'",
        ),
        ({"learning_rate": 0.1}, "optimizer.name must be one of adam, players, sgd, got none"),
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
            "optimizer.plateau.name must be one of reduce_on_plateau, got 'plateau'",
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
