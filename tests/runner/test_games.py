"""A game as a run: metrics, the discriminator under attack, resuming and replicas."""

import json

import jax
import numpy as np
import pytest
import short_run

from adv_jax import data
from adv_jax.runner import training
from adv_jax.runner.config import with_values
from adv_jax.runner.trained import load_all

OWN = {"name": "adam", "learning_rate": 0.001}


@pytest.fixture(autouse=True)
def digits(monkeypatch):
    few = short_run.few_digits(80, 20)
    monkeypatch.setattr(data, "load", lambda name, *, source, dir: few)


def game(**changes):
    """A config of two epochs; keys of `changes` are paths with __ for the dot."""
    small = {"generator_features": (6,), "discriminator_features": (5,)}
    config = short_run.document() | {
        "model": {"name": "gan", "latent": 3, "dropout": (0.1, 0.2)} | small,
        "objective": {"name": "gan"},
        "optimizer": {"name": "players", "generator": OWN, "discriminator": OWN},
    }
    return with_values(config, {path.replace("__", "."): v for path, v in changes.items()})


def weights(workdir):
    """All parameters of each replica, [R, n]."""
    return [
        np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(model.variables["params"])])
        for model in load_all(workdir)
    ]


def test_a_game_logs_both_players_and_tests_the_discriminator_on_real_images(tmp_path):
    result = training.run(game(), tmp_path / "run")
    *_, line = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    assert line["loss"] == pytest.approx(line["discriminator"] + line["generator"], abs=1e-5)
    assert 0 < line["generated"] < 1
    # Class 1 is a real image: the discriminator's error on test images, and under attack.
    model = load_all(tmp_path / "run")[0]
    scores = np.asarray(model.logits_fn(model.dataset.test.x))[:, 1]
    assert result["replicas"][0]["test_error"] == pytest.approx(np.mean(scores <= 0))
    assert (model.dataset.test.y == 1).all()  # `adv_jax.evaluate` attacks the same classes.
    errors = result["evaluation"]["fgsm"]["error"][0]
    assert errors[0] == result["replicas"][0]["test_error"]
    assert errors[1] >= errors[0]


@pytest.mark.slow
def test_a_replica_of_a_game_equals_a_single_run(tmp_path):
    training.run(game(replicas__seeds=2, seed=4), tmp_path / "both")
    training.run(game(seed=5), tmp_path / "alone")
    np.testing.assert_allclose(
        weights(tmp_path / "both")[1], weights(tmp_path / "alone")[0], 1e-5, 1e-6
    )


@pytest.mark.slow
def test_a_grid_varies_the_rate_of_one_player(tmp_path):
    grid = {"optimizer.generator.learning_rate": (0.0, 0.001)}
    training.run(game(replicas__grid=grid), tmp_path / "run")
    still, moved = (model.variables["params"] for model in load_all(tmp_path / "run"))
    kernel = lambda params, player: np.asarray(params[player]["hidden1"]["kernel"])
    assert not np.array_equal(kernel(still, "generator"), kernel(moved, "generator"))
