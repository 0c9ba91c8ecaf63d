"""Autoencoders and their games as runs: what is tested, resuming, replicas, and bad settings."""

import json
import shutil

import jax
import numpy as np
import pytest
import short_run
from marks import exhaustive_after
from short_run import serve

from adv_jax.runner.config.document import with_values
from adv_jax.runner.run import training
from adv_jax.runner.run.trained import load_all
from adv_jax.types import UserError

OWN = {"name": "adam", "learning_rate": 0.001}
PLAYERS = ("encoder", "decoder", "discriminator")
CODED = {"latent": 3, "encoder_features": (6,), "decoder_features": (5,)}
GAME = {"latent": 3, "features": (6,), "discriminator_features": (5,)}
PARTS = {
    "vae": ({"name": "vae", **CODED}, {"name": "vae"}, OWN),
    "vae_gan": (
        {"name": "vae_gan", **CODED, "discriminator_features": (5,), "dropout": (0.1, 0.2)},
        {"name": "vae_gan", "gamma": 0.5},
        {"name": "players", **dict.fromkeys(PLAYERS, OWN)},
    ),
    "autoencoder": (
        {"name": "adversarial_autoencoder", **GAME},
        {"name": "adversarial_autoencoder"},
        {"name": "players", **dict.fromkeys(PLAYERS, OWN)},
    ),
    "labeled": (
        {"name": "semi_supervised_autoencoder", **GAME},
        {"name": "semi_supervised_autoencoder"},
        {"name": "players", **dict.fromkeys(PLAYERS, OWN)},
    ),
}


@pytest.fixture(autouse=True)
def digits(monkeypatch):
    few = short_run.few_digits(80, 20)
    serve(monkeypatch, few)


def config(name, **changes):
    """A config of two epochs; keys of `changes` are paths with __ for the dot."""
    model, objective, optimizer = PARTS[name]
    parts = {"model": model, "objective": objective, "optimizer": optimizer}
    document = short_run.document(num_labels=20 if name == "labeled" else 0) | parts
    if name != "labeled":
        document |= {"evaluation": {"attacks": {}, "eps": (0.0,)}}
    return with_values(document, {path.replace("__", "."): v for path, v in changes.items()})


def weights(workdir):
    """All parameters of each replica, [R, n]."""
    return [
        np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(model.variables["params"])])
        for model in load_all(workdir)
    ]


@pytest.mark.slow
def test_the_test_loss_of_a_vae_is_its_negative_bound(tmp_path):
    (replica,) = training.run(config("vae"), tmp_path / "run")["replicas"]
    (model,) = load_all(tmp_path / "run")
    x = model.dataset.test.x
    # 100 codes of each image in place of one.
    losses = [
        np.asarray(
            model.apply(model.variables, x, key=jax.random.key(i), method="row_loss").logits
        ).mean()
        for i in range(100)
    ]
    assert replica["test_loss"] == pytest.approx(
        float(np.mean(losses)), abs=6 * float(np.std(losses))
    )


@pytest.mark.slow
def test_a_semi_supervised_autoencoder_is_tested_and_attacked_as_a_classifier(tmp_path):
    result = training.run(config("labeled"), tmp_path / "run")
    *_, line = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    assert {"supervised", "encoder_loss", "decoder_loss", "fooling_loss"} <= line.keys()
    (model,) = load_all(tmp_path / "run")
    x, y = model.dataset.test
    wrong = np.asarray(model.logits_fn(x)).argmax(axis=1) != y
    assert result["replicas"][0]["test_error"] == pytest.approx(wrong.mean())
    errors = result["evaluation"]["fgsm"]["error"][0]
    assert errors[1] >= errors[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", exhaustive_after(2, ["vae_gan", "labeled", "vae", "autoencoder"]))
def test_a_replica_equals_a_single_run_and_a_resumed_run_an_uninterrupted_one(name, tmp_path):
    both, alone = tmp_path / "both", tmp_path / "alone"
    training.run(config(name, replicas__seeds=2, seed=4), both)
    training.run(config(name, seed=5), alone)
    np.testing.assert_allclose(weights(both)[1], weights(alone)[0], 1e-5, 1e-6)
    whole = weights(both)
    (both / "result.json").unlink()
    shutil.rmtree(both / "checkpoints" / "2")
    training.run(config(name, replicas__seeds=2, seed=4), both)
    np.testing.assert_array_equal(weights(both), whole)


@pytest.mark.slow
def test_a_grid_varies_gamma_in_one_program(tmp_path):
    grid = {"objective.gamma": (0.0, 5.0)}
    training.run(config("vae_gan", replicas__grid=grid), tmp_path / "grid")
    training.run(config("vae_gan", objective__gamma=5.0), tmp_path / "alone")
    first, second = weights(tmp_path / "grid")
    assert not np.array_equal(first, second)
    np.testing.assert_allclose(second, weights(tmp_path / "alone")[0], 1e-5, 1e-6)


@pytest.mark.parametrize(
    ("name", "changes", "sentence"),
    exhaustive_after(
        1,
        [
            (
                "vae",
                {"model__shape": (14, 14, 1)},
                "model.shape must be (28, 28, 1), the shape of x, got (14, 14, 1)",
            ),
            (
                "labeled",
                {"model__latent": 0},
                "model.latent must be a whole number of at least 1, got 0",
            ),
            (
                "labeled",
                {"model__num_classes": 5},
                "model must have 10 classes, as data.name has, got 5; did you mean "
                "model.num_classes=10?",
            ),
            (
                "vae_gan",
                {"objective__layer": 2},
                "objective.layer must be a hidden layer of the discriminator, 1 to 1, got 2",
            ),
            (
                "vae_gan",
                {"optimizer": {"name": "players", "encoder": OWN, "decoder": OWN}},
                "the players of the optimizer must be the parts of the model, "
                "encoder, decoder, discriminator, got encoder, decoder",
            ),
        ],
    ),
)
def test_settings_that_do_not_fit_are_refused_in_one_line(name, changes, sentence, tmp_path):
    with pytest.raises(UserError) as error:
        training.run(config(name, **changes), tmp_path / "run")
    assert str(error.value) == sentence
    assert not (tmp_path / "run").exists()
