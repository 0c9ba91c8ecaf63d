"""The parts of a config, each with its registry and its call."""

import runpy

from adv_jax import optimizers
from adv_jax.runner.config.binding import ATTACK, ATTACKS, INITIALIZERS, MAKER
from adv_jax.runner.config.parts import parts


def test_the_parts_of_a_config_are_found_at_any_depth():
    config = runpy.run_path("configs/quickstart.py")["get_config"]("quick").to_dict()
    config["optimizer"]["learning_rate"] = {"name": "linear_schedule"}
    config["evaluation"]["attacks"]["fixed"] = {"name": "transferred", "attack": {"name": "pgd"}}
    found = {part.field: part for part in parts(config)}
    assert found.keys() == {
        *("model", "model.hidden_init", "model.output_init", "objective", "objective.attack"),
        *("optimizer", "optimizer.learning_rate"),
        *("evaluation.attacks.fgsm", "evaluation.attacks.pgd"),
        *("evaluation.attacks.fixed", "evaluation.attacks.fixed.attack"),
    }
    inner = found["evaluation.attacks.fixed.attack"]
    assert (inner.registry, inner.call) == (ATTACKS, ATTACK)
    assert found["model.hidden_init"][2:] == (INITIALIZERS, None)
    assert found["optimizer.learning_rate"][2:] == (optimizers.SCHEDULES, None)
    assert "num_steps" in inner.settings()[0]
    config["data"]["name"] = "mine:load"
    assert [part.call for part in parts(config) if part.field == "data"] == [MAKER]


def test_a_config_without_parts_has_none():
    assert list(parts({})) == []
