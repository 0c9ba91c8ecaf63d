"""Boltzmann machines as runs: greedy layers, persistent chains, replicas, classifiers."""

import shutil

import jax
import numpy as np
import pytest
import short_run
from config_files import config_of
from short_run import serve

from adv_jax.runner.config.document import ConfigError, with_values
from adv_jax.runner.run import training
from adv_jax.runner.run.trained import load, load_all

PERSISTENT = "persistent_contrastive_divergence"
CONTRASTED = {
    "model": {"name": "normalized_rbm", "features": (6,)},
    "objective": {"name": "noise_contrastive_estimation"},
}


@pytest.fixture(autouse=True)
def digits(monkeypatch):
    few = short_run.few_digits(80, 20)
    serve(monkeypatch, few)


def machine(**changes):
    """A config of two epochs; keys of `changes` are paths with __ for the dot."""
    config = short_run.document() | {
        "model": {"name": "boltzmann", "features": (6,)},
        "objective": {"name": PERSISTENT, "steps": 2},
        "optimizer": {"name": "sgd", "learning_rate": 0.05},
        "evaluation": {"attacks": {}, "eps": (0.0,)},
    }
    return with_values(config, {path.replace("__", "."): v for path, v in changes.items()})


def owner(*rates):
    """An optimizer with a rate for each epoch."""
    boundaries = tuple(range(1, len(rates)))
    schedule = {"name": "piecewise_constant", "values": rates, "boundaries": boundaries}
    return {"name": "sgd", "learning_rate": schedule, "momentum": 0.5}


def stack(**changes):
    layers = {"name": "players", "hidden1": owner(0.1, 0.0), "hidden2": owner(0.0, 0.1)}
    parts = {"name": "players", "encoder": layers, "decoder": dict(layers)}
    return machine(
        model={"name": "dbn", "features": (6, 4)},
        objective={"name": "contrastive_divergence"},
        optimizer=parts,
        **changes,
    )


def parameters(model):
    return jax.tree.map(np.asarray, model.variables["params"])


def weights(model):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(model.variables)])


@pytest.mark.slow
def test_a_machine_reports_the_loss_of_its_reconstructions(tmp_path):
    result = training.run(machine(epochs=1), tmp_path / "run")
    model = load(tmp_path / "run")
    x = np.float64(model.dataset.test.x).reshape(20, -1)
    params = jax.tree.map(np.float64, parameters(model))
    layer, below = params["encoder"]["hidden1"], params["decoder"]["hidden1"]
    hidden = 1 / (1 + np.exp(-x @ layer["kernel"] - layer["bias"]))
    logits = hidden @ layer["kernel"].T + below
    expected = np.mean((np.logaddexp(0, logits) - x * logits).sum(axis=1))
    assert result["replicas"][0]["test_loss"] == pytest.approx(expected, rel=1e-4)
    assert result["evaluation"] == {}


@pytest.mark.slow
def test_a_belief_network_unrolls_into_a_tied_autoencoder(tmp_path):
    result = training.run(stack(epochs=1), tmp_path / "dbn")
    small = {"model.features": (6, 4), "batch_size": 40, "epochs": 1, "data.num_valid": 0}
    still = {"optimizer.learning_rate": 0.0, "evaluation.attacks": {}}
    mode = f"quick,net=dbn,weights=tied,pretrained={tmp_path / 'dbn'}"
    unrolled = with_values(config_of("autoencoder_mnist", mode), small | still)
    found = training.run(unrolled, tmp_path / "unrolled")
    jax.tree.map(
        np.testing.assert_array_equal,
        *(parameters(load(tmp_path / name)) for name in ("dbn", "unrolled")),
    )
    # Both losses are the cross-entropy of the same pass up and down.
    losses = [one["replicas"][0]["test_loss"] for one in (result, found)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.slow
def test_each_layer_of_a_stack_moves_in_its_own_epochs_only(tmp_path):
    runs = {epochs: training.run(stack(epochs=epochs), tmp_path / str(epochs)) for epochs in (1, 2)}
    assert runs[2]["replicas"][0]["epochs"] == 2
    first, second = (parameters(load(tmp_path / str(epochs))) for epochs in (1, 2))
    for part in ("encoder", "decoder"):
        jax.tree.map(np.testing.assert_array_equal, first[part]["hidden1"], second[part]["hidden1"])
        moved = jax.tree.map(np.array_equal, first[part]["hidden2"], second[part]["hidden2"])
        assert not any(jax.tree.leaves(moved))
    assert not np.any(first["decoder"]["hidden2"]) and np.any(first["decoder"]["hidden1"])


@pytest.mark.slow
def test_a_deep_machine_starts_from_a_stack_with_the_mean_of_both_biases(tmp_path):
    training.run(with_values(stack(), {"model.doubled": True}), tmp_path / "stack")
    start = {"workdir": str(tmp_path / "stack"), "part": ""}
    still = machine(model__features=(6, 4), optimizer__learning_rate=0.0)
    training.run(still | {"pretrained": start}, tmp_path / "deep")
    rbms, deep = (parameters(load(tmp_path / name)) for name in ("stack", "deep"))
    for name in ("hidden1", "hidden2"):
        kernel = rbms["encoder"][name]["kernel"]
        np.testing.assert_array_equal(deep["encoder"][name]["kernel"], kernel)
    mean = (rbms["encoder"]["hidden1"]["bias"] + rbms["decoder"]["hidden2"]) / 2
    assert np.any(mean)
    np.testing.assert_array_equal(deep["encoder"]["hidden1"]["bias"], mean)
    np.testing.assert_array_equal(deep["decoder"]["hidden1"], rbms["decoder"]["hidden1"])


@pytest.mark.slow
@pytest.mark.parametrize("parts", [{}, CONTRASTED], ids=["persistent", "noise_contrastive"])
def test_a_resumed_run_continues_its_chains_bit_for_bit(tmp_path, capsys, parts):
    whole, begun = tmp_path / "whole", tmp_path / "begun"
    training.run(machine(**parts), whole)
    shutil.copytree(whole, begun)
    (begun / "result.json").unlink()
    shutil.rmtree(begun / "checkpoints" / "2")
    training.run(machine(**parts), begun)
    assert "resumed after epoch 1" in capsys.readouterr().out
    short_run.assert_same_run(begun, whole, epochs=2)
    (chains,) = load(begun).variables["chains"]["machine01"]
    assert chains.shape == (40, 784) and set(np.unique(chains)) == {0, 1}


@pytest.mark.slow
@pytest.mark.parametrize("parts", [{}, CONTRASTED], ids=["persistent", "noise_contrastive"])
def test_a_replica_of_a_machine_equals_a_single_run(tmp_path, parts):
    training.run(machine(replicas__seeds=2, seed=4, **parts), tmp_path / "both")
    training.run(machine(seed=5, **parts), tmp_path / "alone")
    both, alone = load_all(tmp_path / "both")[1], load(tmp_path / "alone")
    np.testing.assert_allclose(weights(both), weights(alone), 1e-5, 1e-6)


@pytest.mark.parametrize("field", ["replicas.shards", "microbatches"])
def test_persistent_chains_refuse_parts_of_a_batch(tmp_path, field):
    config = with_values(machine() | {"microbatches": 1}, {field: 2})
    with pytest.raises(ConfigError, match=f"{field} must be 1 for objective.{PERSISTENT}, got 2"):
        training.run(config, tmp_path / "run")


@pytest.mark.slow
def test_a_stack_whose_player_lacks_a_layer_is_refused(tmp_path):
    config = stack()
    del config["optimizer"]["decoder"]["hidden2"]
    message = "players of the optimizer must be the parts of decoder, hidden1, hidden2, got hidden1"
    with pytest.raises(ValueError, match=message):
        training.run(config, tmp_path / "run")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (
            "model.shape",
            (3, 3, 1),
            r"model.shape must be \(28, 28, 1\), the shape of x, got \(3",
        ),
        ("model.features", (), r"model.features must have a hidden layer, got \(\)"),
        ("model.visible", "real", "model.visible must be binary or gaussian, got 'real'"),
        ("objective.steps", 0, "objective.steps must be a whole number of at least 1, got 0"),
        (
            "data.preprocess",
            ({"name": "standardize"},),
            "data must be inputs from 0 to 1 for model.boltzmann, got values from -",
        ),
        ("evaluation.attacks", {"fgsm": {"name": "fgsm"}}, "evaluation.attacks must be empty, as"),
    ],
)
def test_a_machine_that_does_not_fit_is_refused_in_one_line(tmp_path, field, value, message):
    with pytest.raises(ConfigError, match=message) as refused:
        training.run(with_values(machine(), {field: value}), tmp_path / "run")
    assert "\n" not in str(refused.value)
