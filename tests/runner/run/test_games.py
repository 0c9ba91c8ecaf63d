"""A game as a run: metrics, the discriminator under attack, resuming and replicas."""

import copy
import json
import shutil

import jax
import numpy as np
import pytest
import short_run
from marks import exhaustive_after
from short_run import serve

from adv_jax.runner.config.document import ConfigError, with_values
from adv_jax.runner.run import training
from adv_jax.runner.run.trained import load_all
from adv_jax.runner.store.result import summary
from adv_jax.types import UserError

OWN = {"name": "adam", "learning_rate": 0.001}
BLEND = ({"name": "blend", "cells": 3, "strength": 0.5},)
JUDGED = {"name": "judged", "features": (6, 5), "adversary_features": (4,)}
PAIR = ("classifier", "adversary")
# The games of classifiers: (players, changes of the config of `game`).
CLASSIFIERS = {
    "catgan": (
        ("generator", "discriminator"),
        {"model": {"name": "catgan", "generator_features": (6,), "discriminator_features": (5,)}},
    ),
    "output_matching": (PAIR, {"model": JUDGED | {"layer": 0}, "data.num_labels": 20}),
    "domain_adversarial": (PAIR, {"model": JUDGED | {"layer": 1}, "data.target": BLEND}),
    "censored": (PAIR, {"model": JUDGED | {"name": "censored", "num_classes": 5, "layer": 2}}),
}


@pytest.fixture(autouse=True)
def digits(monkeypatch):
    few = short_run.few_digits(80, 20)
    serve(monkeypatch, few)


def game(**changes):
    """A config of two epochs; keys of `changes` are paths with __ for the dot."""
    small = {"generator_features": (6,), "discriminator_features": (5,)}
    config = short_run.document() | {
        "model": {"name": "gan", "latent": 3, "dropout": (0.1, 0.2)} | small,
        "objective": {"name": "gan"},
        "optimizer": {"name": "players", "generator": OWN, "discriminator": OWN},
    }
    return with_values(config, {path.replace("__", "."): v for path, v in changes.items()})


def game_of_a_classifier(name, **changes):
    """A config of two epochs of a game in CLASSIFIERS."""
    players, own = copy.deepcopy(CLASSIFIERS[name])
    optimizer = {"name": "players", **dict.fromkeys(players, OWN)}
    changes = {path.replace("__", "."): value for path, value in changes.items()}
    config = game() | {"objective": {"name": name, "weight": 0.5}, "optimizer": optimizer}
    return with_values(config, own | changes)


def weights(workdir):
    """All parameters of each replica, [R, n]."""
    return [
        np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(model.variables["params"])])
        for model in load_all(workdir)
    ]


@pytest.mark.slow
def test_a_game_logs_both_players_and_tests_the_discriminator_on_real_images(tmp_path):
    result = training.run(game(), tmp_path / "run")
    *_, line = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    assert line["loss"] == pytest.approx(
        line["discriminator_loss"] + line["generator_loss"], abs=1e-5
    )
    assert 0 < line["generated"] < 1
    # Class 1 is a real image: the discriminator's error on test images, and under attack.
    model = load_all(tmp_path / "run")[0]
    scores = np.asarray(model.logits_fn(model.dataset.test.x))[:, 1]
    assert result["replicas"][0]["test_error"] == pytest.approx(np.mean(scores <= 0))
    assert (model.dataset.test.y == 1).all()  # `adv_jax.evaluate` attacks the same classes.
    errors = result["evaluation"]["fgsm"]["error"][0]
    assert errors[0] == result["replicas"][0]["test_error"]
    assert errors[1] >= errors[0]


def test_the_last_table_of_a_generator_names_no_error_of_classes():
    replica = {"seed": 1, "overrides": {}, "test_error": 0.25, "confidence": 0.9}
    found = {
        "experiment": "gan_mnist",
        "data": {"name": "mnist", "source": "embedded", "sizes": {"test": 20}},
        "replicas": [replica | {"epochs": 2, "best_epoch": None}],
    }
    title, columns, [cells] = summary(found, "real")
    assert title.startswith("gan_mnist: real images called generated 25.000 % on 20 examples")
    assert cells[columns.index("called generated %")] == "25.00"
    assert not any("error" in text for text in (title, *columns))
    title, columns, _ = summary(found, "labels")
    assert "test error 25.000 %" in title and "error %" in columns


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


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_game_of_a_classifier_reports_the_error_of_its_classes(name, tmp_path):
    result = training.run(game_of_a_classifier(name), tmp_path / "run")
    (model,) = load_all(tmp_path / "run")
    classes = np.asarray(model.logits_fn(model.dataset.test.x)).argmax(axis=1)
    found = result["replicas"][0]["test_error"]
    assert found == pytest.approx(np.mean(classes != model.dataset.test.y))
    assert model.predicts == "labels" and model.dataset.num_classes == 10


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_replica_of_a_classifier_s_game_equals_a_single_run(name, tmp_path):
    training.run(game_of_a_classifier(name, replicas__seeds=2, seed=4), tmp_path / "both")
    training.run(game_of_a_classifier(name, seed=5), tmp_path / "alone")
    np.testing.assert_allclose(
        weights(tmp_path / "both")[1], weights(tmp_path / "alone")[0], 1e-5, 1e-6
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_resumed_game_of_a_classifier_equals_an_uninterrupted_one(name, tmp_path, capsys):
    config = game_of_a_classifier(name)
    training.run(config, tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "begun")
    (tmp_path / "begun" / "result.json").unlink()
    shutil.rmtree(tmp_path / "begun" / "checkpoints" / "2")
    training.run(config, tmp_path / "begun")
    assert "resumed after epoch 1" in capsys.readouterr().out
    short_run.assert_same_run(tmp_path / "whole", tmp_path / "begun", epochs=2)


@pytest.mark.parametrize(
    ("name", "changes", "says"),
    exhaustive_after(
        1,
        [
            (
                "domain_adversarial",
                {"model__layer": 0},
                "model.layer must be 1 to 2, got 0",
            ),
            (
                "output_matching",
                {"model__layer": 1},
                "model.layer must be 0, for an adversary of predictions, got 1",
            ),
            (
                "censored",
                {"model__adversary_features": (0,)},
                "model.adversary_features must be a whole number of at least 1, got 0",
            ),
            ("censored", {"model__num_classes": 4}, "model must have 10 classes, .* got 8"),
            ("output_matching", {"objective__weight": -1}, "objective.weight must be .* got -1"),
            ("catgan", {"model__num_classes": 9}, "model must have 10 classes, .* got 9"),
        ],
    ),
)
def test_bad_settings_of_a_game_are_refused_in_one_line(name, changes, says, tmp_path):
    with pytest.raises(ConfigError, match=says) as caught:
        training.run(game_of_a_classifier(name, **changes), tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


GAMES = {
    "conditional_gan": {"generator_features": (4,), "discriminator_features": (3,)},
    "dcgan": {"maps": (3, 2)},
    "lapgan": {"maps": 2, "generator_features": (4,), "discriminator_features": (3,)},
}


def other_game(name, **changes):
    """The config of another game, which has two players or, with levels, six."""
    levels = ("_0", "_1", "_2") if name == "lapgan" else ("",)
    players = [f"{player}{k}" for player in ("generator", "discriminator") for k in levels]
    plain = {
        "model": {"name": name, "latent": 3, **GAMES[name]},
        "objective": {"name": "gan" if name == "dcgan" else name},
        "optimizer": {"name": "players", **dict.fromkeys(players, OWN)},
        "evaluation": {"attacks": {}, "eps": (0.0,)},
    }
    return with_values(short_run.document() | plain, changes)


@pytest.mark.slow
@pytest.mark.parametrize("name", exhaustive_after(1, GAMES))
def test_a_game_of_any_kind_resumes_bit_for_bit_and_its_replicas_are_single_runs(
    name, tmp_path, capsys
):
    config, workdir = other_game(name, **{"replicas.seeds": 2, "seed": 4}), tmp_path / "both"
    training.run(config, workdir)
    whole = weights(workdir)
    (workdir / "result.json").unlink()
    shutil.rmtree(workdir / "checkpoints" / "2")
    training.run(config, workdir)
    assert "resumed after epoch 1" in capsys.readouterr().out
    np.testing.assert_array_equal(weights(workdir), whole)
    training.run(other_game(name, seed=5), tmp_path / "alone")
    np.testing.assert_allclose(whole[1], weights(tmp_path / "alone")[0], 1e-4, 1e-5)


@pytest.mark.slow
def test_the_statistics_of_a_trained_generator_are_averages_over_its_images(tmp_path):
    training.run(other_game("dcgan"), tmp_path / "run")
    model = load_all(tmp_path / "run")[0]
    rows = model.dataset.train.x[:80].reshape(2, 40, 28, 28, 1)
    trained = {"params": model.variables["params"], "batch_stats": model.variables["batch_stats"]}
    drawn = [
        model.apply(trained, x, train=True, key=jax.random.key(first), method="sample").model_state
        for x, first in zip(rows, (0, 40), strict=True)
    ]
    means = [state["batch_stats"]["generator"]["norm1"]["mean"] for state in drawn]
    found = model.variables["batch_stats"]["generator"]["norm1"]["mean"]
    np.testing.assert_allclose(found, np.mean(means, axis=0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model.num_classes": 3},
            "model.num_classes must be 10, the classes of data.name, got 3",
        ),
        (
            {"data.preprocess": ({"name": "standardize"},)},
            "data must be inputs from 0 to 1 for model.conditional_gan, got values from -.*",
        ),
        (
            {"objective.name": "cross_entropy"},
            "model.name must be a model that predicts 'labels', as objective.cross_entropy trains "
            "it, got 'conditional_gan', which predicts 'real'",
        ),
        ({"objective.name": "gan"}, "y must be the labels of the images in training, got None"),
        (
            {"optimizer.every": {"generator": 0}},
            "optimizer.every.generator must be a whole number of at least 1, got 0",
        ),
        (
            {"model.generator_features": (0,)},
            "model.generator_features must be a whole number of at least 1, got 0",
        ),
    ],
)
def test_a_game_that_does_not_fit_is_refused_in_one_line(changes, message, tmp_path):
    with pytest.raises(UserError, match=f"^{message}$"):
        training.run(other_game("conditional_gan", **changes), tmp_path / "run")


@pytest.mark.slow
def test_an_image_that_does_not_halve_is_refused_in_one_line(tmp_path):
    with pytest.raises(
        UserError, match="^model.shape must be .* multiples of 8, .* got .28, 28, 1"
    ):
        training.run(other_game("dcgan", **{"model.maps": (4, 3, 2)}), tmp_path / "run")
